"""The order of an epoch: which photos are the targets of which step. Pure functions of (seed, epoch) and the index.

**Schedule.** N targets fill S = ceil(N / P) steps of P slots; only the last step may be partial. Write the targets
down identity by identity and cut the line into P columns, one a slot. The targets of one column go to different
steps. Each column is shuffled by itself, with one constraint: an identity that is cut between two columns keeps out
of the steps that it already has. So a step holds P different identities whenever that is possible for an identity,
that is, whenever it has fewer than S targets.

**Buckets.** Where photos belong to buckets, each bucket has a schedule of its own, and the steps of all of them are
shuffled together.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .index import Integers, Runs, row_numbers
from .shuffle import COLUMNS, IDENTITIES, PHOTOS, STEPS, Hashes, bits_for, high_bits, low_bits, scramble, shuffled


@dataclass(frozen=True)
class EpochOrder:
    """Targets by step and slot.

    Attributes:
        rows: `[steps, slots]`, rows of the index; -1 in the empty slots of a bucket's last step.
        buckets: `[steps]`, the bucket of every step.
    """

    rows: Integers
    buckets: Integers

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.rows)


def epoch_order(
    runs: Runs, draws: Integers, slots: int, seed: int, epoch: int, bucket_of: Integers | None = None
) -> EpochOrder:
    """Return the targets of an epoch.

    Args:
        runs: the identities that take part.
        draws: how many targets each of them gives; its photos are used in turn, none twice before all were used once.
        slots: P, targets a step.
        seed: of the run.
        epoch: from 0.
        bucket_of: bucket of every row of the index; None puts all into bucket 0.
    """
    line, owner = _line(runs, draws, seed, epoch)
    if bucket_of is None:
        rows = _schedule(line, owner, slots, (seed, epoch, COLUMNS, 0))
        return EpochOrder(rows, np.zeros(len(rows), np.int64))
    buckets = bucket_of[line]
    parts = [(bucket, buckets == bucket) for bucket in np.unique(buckets).tolist()]
    tables = [_schedule(line[chosen], owner[chosen], slots, (seed, epoch, COLUMNS, b)) for b, chosen in parts]
    of_step = np.repeat([bucket for bucket, _ in parts], [len(table) for table in tables])
    order = shuffled(len(of_step), seed, epoch, STEPS)
    return EpochOrder(np.concatenate(tables)[order], of_step[order])


def draws_by_balance(counts: Integers, temperature: float) -> Integers:
    """Return how many targets each identity gives in an epoch; their sum is the number of photos.

    Args:
        counts: photos by identity.
        temperature: 1 gives every photo once, 0 the same number to each identity; between them, count ** temperature.
    """
    if temperature == 1:
        return counts
    weights = counts.astype(np.float64) ** temperature
    shares = weights / weights.sum() * counts.sum()
    draws: Integers = np.floor(shares).astype(np.int64)
    missing = int(counts.sum() - draws.sum())
    largest = np.argsort(-(shares - draws), kind="stable")[:missing]
    draws[largest] += 1
    return draws


def _schedule(line: Integers, owner: Integers, slots: int, purpose: tuple[int, ...]) -> Integers:
    """Deal a line of targets, those of an owner side by side, to `[steps, slots]`; see the module's text."""
    steps = -(-len(line) // slots)
    full = len(line) - (steps - 1) * slots  # slots that the last step uses
    rows = np.full((slots, steps), -1, line.dtype).T  # a column lies together in memory
    start, taken = 0, np.zeros(steps, bool)
    for slot in range(slots):
        end = start + (steps if slot < full else steps - 1)
        if start == end:
            break
        column = owner[start:end]
        head = _run_length(column, owner[start - 1]) if start else 0
        order = _avoiding(shuffled(end - start, *purpose, slot), taken, head)
        rows[order, slot] = line[start:end]
        taken[:] = False
        taken[order[len(order) - _run_length(column[::-1], owner[end - 1]) :]] = True
        start = end
    return rows


def _line(runs: Runs, draws: Integers, seed: int, epoch: int) -> tuple[Integers, Integers]:
    """Return the targets identity by identity, identities and photos shuffled, and the owner of each target."""
    people = shuffled(len(runs.counts), seed, epoch, IDENTITIES)
    counts, wanted = runs.counts[people], draws[people]
    rows = runs.rows[_ranges(runs.starts[people], counts)]
    order = _shuffled_within(counts, scramble(rows, seed, epoch, PHOTOS))
    line, owner = rows[order], np.repeat(row_numbers(len(people)), counts)
    if (wanted == counts).all():
        return line, owner
    turn = _ranges(np.zeros_like(wanted), wanted) % np.repeat(counts, wanted)
    first = np.repeat(np.cumsum(counts) - counts, wanted)
    return line[first + turn], np.repeat(row_numbers(len(people)), wanted)


def _shuffled_within(counts: Integers, hashes: Hashes) -> Integers:
    """Return a permutation that shuffles each of the groups of `counts` elements that lie side by side.

    Sorting numbers made of (group, hash, place in the group) needs no argsort and knows no ties, so the result does
    not depend on the sorting algorithm.
    """
    group_bits, place_bits = bits_for(len(counts)), bits_for(int(counts.max()))
    numbers = high_bits(hashes, group_bits + place_bits) >> np.uint64(group_bits)
    numbers |= np.repeat(np.arange(len(counts), dtype=np.uint64) << np.uint64(64 - group_bits), counts)
    numbers |= _ranges(np.zeros_like(counts), counts).astype(np.uint64)
    numbers.sort()
    return np.repeat(np.cumsum(counts) - counts, counts) + low_bits(numbers, place_bits)


def _ranges(starts: Integers, counts: Integers) -> Integers:
    """Return starts[0], starts[0] + 1, … (counts[0] numbers), then those of starts[1], and so on."""
    ends = np.cumsum(counts)
    ranges: Integers = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    return ranges


def _avoiding(order: Integers, taken: npt.NDArray[np.bool_], head: int) -> Integers:
    """Reorder a column's steps so that its first `head` targets meet no taken step, as far as there are others."""
    if not head:
        return order
    free = order[~taken[order]]
    first: Integers = np.r_[free, order[taken[order]]][:head]
    rest = np.ones(len(taken), bool)
    rest[first] = False
    return np.concatenate([first, order[rest[order]]])


def _run_length(values: Integers, value: int) -> int:
    """Return how many elements at the beginning equal `value`."""
    different = values != value
    return int(different.argmax()) if different.any() else len(values)

"""Batches of identities: which photo is the target of which slot of which step, on which rank.

A pure function of (seed, epoch, step, rank, world size). The global batch of a step has a fixed size and does not
depend on how many ranks there are; ranks take slices of it. Resuming is stating the step.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import progress
from ..errors import DataError, UsageError
from .index import Integers, Runs, column, index_hash, live
from .order import EpochOrder, draws_by_balance, epoch_order

LEAST_PHOTOS = 2
"""A target needs at least one other photo of its identity."""
ROWS_AT_ONCE = 2**18
"""Rows whose distance to every bucket is in memory at a time."""
NAMED = 5
"""Identities that a message names one by one."""


class Draw(NamedTuple):
    """One item of a batch; what `IdentityDataset` needs to build it, the same in every process."""

    target: int
    """Row among the live rows of the index: row of `dataset.index`."""
    weight: float = 1.0
    """Loss weight: 0 for a repeat that only fills the batch."""
    seed: int = 0
    epoch: int = 0
    step: int = 0
    slot: int = 0
    """Place in the global batch."""
    size: tuple[int, int] | None = None
    """(width, height) of the target in pixels, where the batch has an aspect bucket; else the dataset's."""


class IdentityBatchSampler:
    """Yield batches of draws, for `DataLoader(dataset, batch_sampler=…, collate_fn=collate)`.

    In an epoch every live photo of an identity with two or more is a target exactly once (with `balance` 1). All
    ranks have the same number of steps and items; what is missing is filled with repeats of loss weight 0, so the
    loss of a step is the weighted sum over all ranks divided by the sum of the weights over all ranks.

    Args:
        index: rows of one split: `dataset.index` or `read_index(shards, split)`. Retired ones are skipped; targets
            count the live rows, as `IdentityDataset` does.
        identities_per_batch: P, targets in a global batch, of different identities as far as possible.
        seed: of the run.
        epoch: from 0; iterating to the end moves on to the next.
        start_step: first step to yield.
        rank: of this process.
        world_size: number of processes.
        balance: how often an identity with n photos is drawn: in proportion to n ** balance. 1 is uniform over
            photos, 0 uniform over identities.
        buckets: sizes (width, height) in pixels; a batch has one of them, the one whose aspect is nearest to that of
            its targets' photos. Each bucket's last step may be partial.

    Raises:
        UsageError: an argument is out of range, or the index holds several splits.
        DataError: no identity has two photos.
    """

    def __init__(
        self,
        index: pa.Table,
        identities_per_batch: int,
        seed: int = 0,
        epoch: int = 0,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        balance: float = 1.0,
        buckets: Sequence[tuple[int, int]] = (),
    ) -> None:
        _require_ranges(identities_per_batch, rank, world_size, start_step, balance)
        _require_one_split(index)
        self.identities_per_batch, self.seed, self.rank, self.world_size = identities_per_batch, seed, rank, world_size
        self.balance, self.epoch, self.step = balance, epoch, start_step
        self.buckets = [(int(width), int(height)) for width, height in buckets]
        self.index_hash = index_hash(index)
        rows = live(index, ("identity", "width", "height"))
        everyone = Runs.of(column(rows, "identity"))
        self._runs = _at_least(everyone)
        self.left_out: list[int] = everyone.identities[everyone.counts < LEAST_PHOTOS].tolist()
        """Numbers of the identities with fewer than two photos."""
        self._draws = draws_by_balance(self._runs.counts, balance)
        self._bucket_of = nearest_bucket(rows, self.buckets) if self.buckets else None
        self._order: tuple[int, EpochOrder] | None = None
        self._report()

    @property
    def steps(self) -> int:
        """Steps of the present epoch (all epochs have the same number, unless there are both balance and buckets)."""
        return self.steps_in(self.epoch)

    def steps_in(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        if self.buckets:
            return self._epoch(epoch).steps
        return -(-int(self._draws.sum()) // self.identities_per_batch)

    @property
    def batch_size(self) -> int:
        """Items of a batch on one rank."""
        return -(-self.identities_per_batch // self.world_size)

    def global_batch(self, epoch: int, step: int) -> list[Draw]:
        """Return the draws of a step over all ranks; the same for every world size.

        Raises:
            UsageError: the epoch has no such step.
        """
        if not 0 <= step < self.steps_in(epoch):
            raise UsageError(
                f"step {step} is not in an epoch of {self.steps_in(epoch)} steps; steps count within an epoch"
            )
        order = self._epoch(epoch)
        targets: list[int] = order.rows[step].tolist()
        full = sum(target >= 0 for target in targets)
        size = self.buckets[order.buckets[step]] if self.buckets else None
        return [
            Draw(targets[slot % full], float(slot < full), self.seed, epoch, step, slot, size)
            for slot in range(self.identities_per_batch)
        ]

    def batch(self, epoch: int, step: int) -> list[Draw]:
        """Return this rank's slice of a step."""
        whole = self.global_batch(epoch, step)
        first = self.rank * self.batch_size
        slots = range(first, first + self.batch_size)
        return [whole[s] if s < len(whole) else whole[s % len(whole)]._replace(weight=0.0, slot=s) for s in slots]

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield from the present step to the end of the epoch, then stand at the beginning of the next."""
        epoch = self.epoch
        while self.epoch == epoch and self.step < self.steps:
            step, self.step = self.step, self.step + 1
            yield self.batch(epoch, step)
        if self.epoch == epoch:
            self.set_epoch(epoch + 1)

    def __len__(self) -> int:
        """Number of batches that iterating yields now."""
        return max(0, self.steps - self.step)

    def set_epoch(self, epoch: int, step: int = 0) -> None:
        """Stand at a step of an epoch."""
        self.epoch, self.step = epoch, step

    def state_dict(self, epoch: int | None = None, step: int | None = None) -> dict[str, Any]:
        """Return what a checkpoint needs.

        Args:
            epoch, step: of the next batch to train on. A loader with workers fetches ahead, so the trainer knows
                them better than the sampler: they are `batch["epoch"]` and `batch["step"] + 1` of its last batch.
        """
        return {
            "seed": self.seed,
            "epoch": self.epoch if epoch is None else epoch,
            "step": self.step if step is None else step,
            "identities_per_batch": self.identities_per_batch,
            "balance": self.balance,
            "buckets": [list(size) for size in self.buckets],
            "index_hash": self.index_hash,
        }

    def load_state_dict(self, state: dict[str, Any], *, strict: bool = True) -> None:
        """Continue where a state stood; rank and world size may differ.

        Args:
            state: of `state_dict`.
            strict: False accepts an index that changed, and goes to the beginning of the state's epoch.

        Raises:
            DataError: the index changed since the state was taken.
            UsageError: the state is of a run with another batch size or balance.
        """
        mine = self.state_dict()
        for name in ("identities_per_batch", "balance", "buckets"):
            if state[name] != mine[name]:
                raise UsageError(
                    f"the checkpoint was made with {name} = {state[name]}, this run has {mine[name]}; "
                    f"use {state[name]}: the order of the batches depends on it"
                )
        same = state["index_hash"] == self.index_hash
        if strict and not same:
            raise DataError(
                "the dataset's index changed since the checkpoint (photos were added or retired), so its step means "
                "other photos; load with strict=False to begin its epoch again with the new index"
            )
        self.seed, self._order = state["seed"], None
        self.set_epoch(state["epoch"], state["step"] if same else 0)

    def _epoch(self, epoch: int) -> EpochOrder:
        if self._order is None or self._order[0] != epoch:
            order = epoch_order(self._runs, self._draws, self.identities_per_batch, self.seed, epoch, self._bucket_of)
            self._order = (epoch, order)
        return self._order[1]

    def _report(self) -> None:
        if not len(self._runs.counts):
            raise DataError(
                f"none of {len(self.left_out)} identities has two live photos, so no photo can be a target with "
                "another as its reference; crawl more photos or loosen the curation, then pack again"
            )
        if self.left_out:
            named = ", ".join(map(str, self.left_out[:NAMED])) + (", …" if len(self.left_out) > NAMED else "")
            progress.warn(f"{len(self.left_out)} identities have fewer than two photos and are left out: {named}")


def nearest_bucket(index: pa.Table, buckets: Sequence[tuple[int, int]]) -> Integers:
    """Return for every row the number of the bucket (width, height) whose aspect is nearest to its picture's."""
    widths, heights = column(index, "width"), column(index, "height")
    wanted = np.log([width / height for width, height in buckets])
    nearest: Integers = np.empty(len(widths), np.int64)
    for start in range(0, len(widths), ROWS_AT_ONCE):  # an index has many million rows, and this a number a bucket
        rows = slice(start, start + ROWS_AT_ONCE)
        aspects = np.log(widths[rows] / heights[rows])
        nearest[rows] = np.abs(aspects[:, None] - wanted).argmin(axis=1)
    return nearest


def _at_least(runs: Runs) -> Runs:
    keep = runs.counts >= LEAST_PHOTOS
    return Runs(runs.identities[keep], runs.starts[keep], runs.counts[keep], runs.rows)


def _require_ranges(identities_per_batch: int, rank: int, world_size: int, start_step: int, balance: float) -> None:
    if identities_per_batch < 1:
        raise UsageError(f"identities_per_batch = {identities_per_batch} must be at least 1")
    if not 0 <= rank < world_size:
        raise UsageError(f"rank {rank} is not one of {world_size} processes; ranks count from 0")
    if start_step < 0:
        raise UsageError(f"start_step = {start_step} must not be negative")
    if not 0 <= balance <= 1:
        raise UsageError(f"balance = {balance} must lie between 0 (uniform over identities) and 1 (over photos)")


def _require_one_split(index: pa.Table) -> None:
    if "split" not in index.column_names:
        return
    splits = pc.unique(index["split"].cast(pa.string())).to_pylist()
    if len(splits) > 1:
        raise UsageError(
            f"the index holds the splits {', '.join(sorted(splits))}; a sampler needs one: "
            "read_index(shards, 'train') or dataset.index"
        )

"""All pairs of 64-bit hashes that differ in few bits, exactly, without comparing each with each.

Pigeonhole (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012, used here
for a join): cut 64 bits into `near + k` bands; two hashes that differ in at most `near` bits agree in at least `k`
bands. For each choice of `k` bands the hashes are sorted by these bands alone, and only equal ones are compared.
`k` follows from how many there are; with `k` = 0 there is one choice and all are compared.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]
"""Left and right indices, and in how many bits the two hashes differ."""

BITS = 64
CHUNK = 1 << 20
"""Pairs that are compared at a time: what the memory is bounded by, besides a few arrays as long as the hashes."""
_MOST_TABLES = 150
_SORT = 12.0
"""What sorting one hash costs, in comparisons of a pair, times the logarithm of how many there are."""


def bands(count: int, near: int) -> int:
    """Return in how many bands `count` hashes should agree before they are compared; 0 compares all with all."""

    def cost(k: int) -> float:
        tables, shared = math.comb(near + k, k), BITS * k / (near + k) if k else 0.0
        return tables * (_SORT * count * math.log2(count + 2) * (k > 0) + count**2 / 2 ** (1 + shared))

    choices = [k for k in range(BITS - near + 1) if math.comb(near + k, k) <= _MOST_TABLES]
    return min(choices, key=cost)


def pairs(hashes: Hashes, near: int) -> Iterator[Pairs]:
    """Yield every pair of the hashes `[n]` that differ in at most `near` bits once, left index below right index.

    The order is not sorted. Hashes that lie close together make many pairs: give each value once.
    """
    k = bands(len(hashes), near)
    masks = _masks(near + k) if k else []
    for chosen in itertools.combinations(range(near + k), k) if k else [()]:
        key = hashes & np.uint64(sum(masks[band] for band in chosen))
        order = np.argsort(key, kind="stable")
        # A pair may agree in other bands, too: it counts where the choice is the first k bands in which it agrees.
        earlier = [np.uint64(masks[band]) for band in range(chosen[-1]) if band not in chosen] if chosen else []
        for one, other in _equal(key[order]):
            left, right = order[one], order[other]
            apart = hashes[left] ^ hashes[right]
            differing: NDArray[np.uint8] = np.bitwise_count(apart)
            found = differing <= near
            left, right, apart, differing = left[found], right[found], apart[found], differing[found]
            first = np.ones(len(apart), bool)
            for mask in earlier:
                first &= (apart & mask) != 0
            if first.any():
                left, right = left[first], right[first]
                yield np.minimum(left, right), np.maximum(left, right), differing[first]


def _masks(parts: int) -> list[int]:
    """Return masks of `parts` bands of neighbouring bits, as equal as can be."""
    edges = [BITS * part // parts for part in range(parts + 1)]
    return [(1 << end) - (1 << begin) for begin, end in itertools.pairwise(edges)]


def _equal(key: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs of places in a sorted array that hold the same value, `CHUNK` and one row of pairs at most."""
    count = len(key)
    if not count:
        return
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    ends = np.repeat(np.append(starts[1:], count), np.diff(np.append(starts, count)))
    partners = ends - np.arange(count) - 1
    total = np.concatenate([[0], np.cumsum(partners)])
    begin = 0
    while begin < count:
        end = max(begin + 1, int(np.searchsorted(total, total[begin] + CHUNK, side="right")) - 1)
        some = partners[begin:end]
        one = np.repeat(np.arange(begin, end), some)
        within = np.arange(len(one)) - np.repeat(total[begin:end] - total[begin], some)
        yield one, one + 1 + within
        begin = end


class Kept:
    """Which of the hashes that were kept so far lies nearest to another of them, if within `near` bits.

    Args:
        hashes: `[n]`, all that will be asked for, in the order in which they are.
        near: most differing bits.
    """

    def __init__(self, hashes: Sequence[int], near: int) -> None:
        self._near = near
        self._hashes: Hashes = np.array(hashes, np.uint64)
        self._kept: list[int] = []
        self._few = bands(len(hashes), near) == 0
        if self._few:
            self._values: Hashes = np.empty(len(hashes), np.uint64)
        else:
            values, self._value_of = np.unique(self._hashes, return_inverse=True)
            self._place = np.full(len(values), -1)
            self._offsets, self._others, self._bits = _neighbours(values, near)

    def keep(self, index: int) -> None:
        """Keep the hash at `index`."""
        if self._few:
            self._values[len(self._kept)] = self._hashes[index]
        else:
            self._place[self._value_of[index]] = len(self._kept)
        self._kept.append(index)

    def nearest(self, index: int) -> tuple[int, int] | None:
        """Return the index of the nearest kept hash and the differing bits; of equally near ones the first kept."""
        if self._few:
            if not self._kept:
                return None
            differing = np.bitwise_count(self._values[: len(self._kept)] ^ self._hashes[index])
            at = int(differing.argmin())
            return (self._kept[at], int(differing[at])) if differing[at] <= self._near else None
        value = self._value_of[index]
        if self._place[value] >= 0:
            return self._kept[self._place[value]], 0
        near = slice(self._offsets[value], self._offsets[value + 1])
        places = self._place[self._others[near]]
        found = [(int(bits), int(place)) for bits, place in zip(self._bits[near], places, strict=True) if place >= 0]
        if not found:
            return None
        bits, place = min(found)
        return self._kept[place], bits


def _neighbours(values: Hashes, near: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Return the pairs of `values` both ways, by the left one: row v is `[offsets[v] : offsets[v + 1]]`."""
    found = list(pairs(values, near))
    empty = np.empty(0, np.int64)
    left = np.concatenate([empty, *(p[0] for p in found), *(p[1] for p in found)])
    right = np.concatenate([empty, *(p[1] for p in found), *(p[0] for p in found)])
    bits = np.concatenate([np.empty(0, np.uint8), *(p[2] for p in found), *(p[2] for p in found)])
    order = np.argsort(left, kind="stable")
    offsets = np.searchsorted(left[order], np.arange(len(values) + 1))
    return offsets, right[order], bits[order]

"""Random numbers that are the same on every machine: splitmix64, a fixed mixing function, keyed by purpose.

A library's random generator may change its stream from version to version; a run that is resumed must not.
"""

import numpy as np
import numpy.typing as npt

from .index import Integers

Hashes = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 0xFFFFFFFFFFFFFFFF

# What a number is drawn for; each purpose has its own stream.
IDENTITIES, PHOTOS, COLUMNS, REFERENCES, STEPS = range(1, 6)


def scramble(values: npt.NDArray[np.integer], *purpose: int) -> Hashes:
    """Return a 64-bit hash of each value (splitmix64), one stream for each sequence of `purpose` numbers."""
    state = 0
    for word in purpose:
        state = _mix_word((state ^ (word & _WORD)) + _GOLDEN)
    return _mix(values.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(state))


def shuffled(count: int, *purpose: int) -> Integers:
    """Return a permutation of 0 … count - 1."""
    numbers = np.arange(count, dtype=np.uint64)
    bits = bits_for(count)
    return low_bits(np.sort(high_bits(scramble(numbers, *purpose), bits) | numbers), bits)


def choose(candidates: Integers, count: int, *purpose: int) -> Integers:
    """Return `count` of the candidates (all, when there are fewer), in random order."""
    order = np.argsort(scramble(candidates, *purpose), kind="stable")
    return candidates[order[:count]]


def bits_for(count: int) -> int:
    """Return how many bits hold the numbers below `count`, at least one."""
    return max(1, (count - 1).bit_length())


def high_bits(hashes: Hashes, bits: int) -> Hashes:
    """Clear the lowest `bits`."""
    return hashes >> np.uint64(bits) << np.uint64(bits)


def low_bits(numbers: Hashes, bits: int) -> Integers:
    """Return the lowest `bits`."""
    return (numbers & np.uint64((1 << bits) - 1)).astype(np.int64)


def _mix(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _mix_word(word: int) -> int:
    word = ((word ^ (word & _WORD) >> 30) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _WORD
    return word ^ word >> 31

"""The index of hashes finds what comparing each with each finds, and the greedy choice is the plain one."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from bolid.curation import hamming
from bolid.curation.stages import duplicates
from bolid.curation.stages.duplicates import Candidate
from hypothesis import given, settings
from hypothesis import strategies as st

WORD = 2**64 - 1


def compared(values: Sequence[int], near: int) -> set[tuple[int, int, int]]:
    """Every pair, by the definition."""
    apart = {(a, b): (values[a] ^ values[b]).bit_count() for a, b in combinations(range(len(values)), 2)}
    return {(a, b, bits) for (a, b), bits in apart.items() if bits <= near}


def joined(values: Sequence[int], near: int) -> list[tuple[int, int, int]]:
    found = hamming.pairs(np.array(values, np.uint64), near)
    return [triple for some in found for triple in zip(*(column.tolist() for column in some), strict=True)]


@st.composite
def clustered(draw: st.DrawFn) -> list[int]:
    """Hashes around a few centres, some of them equal, and others alone."""
    centres = draw(st.lists(st.integers(0, WORD), min_size=1, max_size=4))
    bits = st.lists(st.integers(0, 63), max_size=7)
    around = draw(st.lists(st.tuples(st.sampled_from(centres), bits), max_size=25))
    values = [centre ^ sum(1 << bit for bit in set(flipped)) for centre, flipped in around]
    return draw(st.permutations(values + draw(st.lists(st.integers(0, WORD), max_size=6))))


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@given(values=clustered(), near=st.integers(0, 61))
@settings(max_examples=60, deadline=None)
def test_the_join_finds_every_pair_once(k: int, values: list[int], near: int):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hamming, "bands", lambda count, bits: k if bits <= 8 else min(k, 1))
        patched.setattr(hamming, "CHUNK", 7)
        found = joined(values, near)
    assert len(found) == len(set(found))
    assert set(found) == compared(values, near)


def test_more_hashes_are_compared_by_more_bands_and_wide_thresholds_by_none():
    assert [hamming.bands(count, 4) for count in (10, 10_000, 10_000_000)] == [0, 1, 2]
    assert [hamming.bands(1000, near) for near in (0, 63, 64)] == [1, 0, 0]


def test_pairs_among_many_hashes_are_those_that_were_planted():
    chance = np.random.default_rng(5)
    values = chance.integers(0, WORD, 20_000, dtype=np.uint64, endpoint=True)
    planted = set()
    for number, bits in enumerate([0, 1, 2, 3, 4, 4, 4, 5, 6]):
        flipped = sum(1 << int(bit) for bit in chance.choice(64, bits, replace=False))
        values[2 * number + 1] = values[2 * number] ^ np.uint64(flipped)
        planted |= {(2 * number, 2 * number + 1, bits)} if bits <= 4 else set()
    assert hamming.bands(len(values), 4) > 0
    # Two random hashes lie so close with a chance of 4e-14 each, 7e-6 for all 2e8 pairs.
    assert set(joined(values.tolist(), 4)) == planted


def greedy(photos: Sequence[Candidate], near: int) -> dict[int, tuple[str, float, str]]:
    """The rule in plain words: from the best down, go when a kept one has the same bytes or a near hash."""
    kept: list[Candidate] = []
    gone = {}
    for photo in sorted(photos, key=lambda c: (-c.pixels, -c.sharpness, c.order)):
        apart = [(photo.phash ^ other.phash).bit_count() for other in kept]
        if photo.sha256 in [other.sha256 for other in kept]:
            gone[photo.order] = ("exact_duplicate", 0, photo.sha256)
        elif apart and min(apart) <= near:
            gone[photo.order] = ("near_duplicate", min(apart), kept[apart.index(min(apart))].sha256)
        else:
            kept.append(photo)
    return gone


@pytest.mark.parametrize("k", [None, 0, 1, 2])
@given(data=st.data(), values=clustered(), near=st.integers(0, 64))
@settings(max_examples=60, deadline=None)
def test_the_choice_is_the_greedy_one(k: int | None, data: st.DataObject, values: list[int], near: int):
    photos = []
    for order, value in enumerate(values):
        twin = data.draw(st.integers(0, order)) if data.draw(st.integers(0, 4)) == 0 else order
        original = photos[twin] if twin < order else Candidate(str(order), value, 0, 0.0, order)
        size, sharp = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1.0, 2.0]))
        photos.append(Candidate(original.sha256, original.phash, size, sharp, order))
    with pytest.MonkeyPatch.context() as patched:
        if k is not None:
            patched.setattr(hamming, "bands", lambda count, bits: k if bits <= 8 else 0)
        verdicts = duplicates.decide(photos, near)
    assert {order: (v.reason, v.value, v.nearest_kept) for order, v in verdicts.items()} == greedy(photos, near)
    assert all(v.threshold == (near if v.reason == "near_duplicate" else 0) for v in verdicts.values())


def test_nothing_and_one_photo_repeat_nothing():
    assert duplicates.decide([], 4) == {}
    assert duplicates.decide([Candidate("a", 1, 1, 1.0, 0)], 64) == {}
    assert list(hamming.pairs(np.empty(0, np.uint64), 4)) == []

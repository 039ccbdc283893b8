"""Decisions are functions of scores alone."""

import numpy as np
import pytest
from bolid.curation.stages import coverage, decode, duplicates
from bolid.curation.stages.duplicates import Candidate
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1000, 1000, None),
        (999, 5000, "too_small"),
        (1000, 3000, None),
        (1000, 3001, "aspect"),
        (3001, 1000, "aspect"),
    ],
)
def test_size_limits_are_inclusive(width: int, height: int, reason: str | None):
    verdict = decode.decide(None, width, height, min_res=1000, max_aspect=3.0)
    assert (verdict.reason if verdict else None) == reason


def test_a_verdict_names_value_and_threshold():
    verdict = decode.decide(None, 1400, 640, min_res=1000, max_aspect=3.0)
    assert verdict is not None
    assert (verdict.stage, verdict.value, verdict.threshold) == ("decode", 640, 1000)


def test_a_blurred_picture_is_less_sharp():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (600, 600), dtype=np.uint8))
    assert decode.sharpness(picture.filter(ImageFilter.GaussianBlur(4))) < 0.2 * decode.sharpness(picture)


def test_sharpness_is_the_variance_of_the_laplacian():
    grey = np.random.default_rng(2).integers(0, 255, (31, 17)).astype(np.uint8)
    expected = []
    for y in range(1, 30):
        for x in range(1, 16):
            around = [grey[y - 1, x], grey[y + 1, x], grey[y, x - 1], grey[y, x + 1]]
            expected.append(sum(int(v) for v in around) - 4 * int(grey[y, x]))
    assert decode.sharpness(Image.fromarray(grey)) == pytest.approx(np.var(expected), rel=1e-5)


def test_the_larger_then_the_sharper_copy_is_kept():
    photos = [
        Candidate("small", 0b0000, 100, 9.0, 0),
        Candidate("large, soft", 0b0001, 200, 1.0, 1),
        Candidate("large, sharp", 0b0011, 200, 2.0, 2),
        Candidate("another shot", 0xFFFF, 50, 1.0, 3),
    ]
    verdicts = duplicates.decide(photos, near=4)
    assert set(verdicts) == {0, 1}
    assert {v.nearest_kept for v in verdicts.values()} == {"large, sharp"}
    assert (verdicts[0].reason, verdicts[0].value, verdicts[0].threshold) == ("near_duplicate", 2, 4)


def test_the_same_bytes_are_exact_and_the_first_is_kept():
    photos = [Candidate("same", 7, 100, 1.0, order) for order in (4, 2, 9)]
    verdicts = duplicates.decide(photos, near=4)
    assert {order: v.reason for order, v in verdicts.items()} == {4: "exact_duplicate", 9: "exact_duplicate"}


hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12)


@given(hashes, st.integers(0, 8))
def test_what_is_kept_differs_and_what_is_rejected_repeats_something_kept(values: list[int], near: int):
    seeds = [values[0] ^ (1 << bit) for bit in range(3)]
    photos = [Candidate(f"photo {i}", value, i % 3, 0.0, i) for i, value in enumerate(values + seeds)]
    verdicts = duplicates.decide(photos, near)
    kept = {p.sha256: p.phash for p in photos if p.order not in verdicts}
    for a in kept.values():
        assert sum((a ^ b).bit_count() <= near for b in kept.values()) == 1
    for order, verdict in verdicts.items():
        distance = (photos[order].phash ^ kept[verdict.nearest_kept]).bit_count()
        assert distance == verdict.value <= near


def test_an_identity_with_too_few_photos_goes_as_a_whole():
    assert coverage.decide(20, 20) is None
    verdict = coverage.decide(19, 20)
    assert verdict is not None
    assert (verdict.reason, verdict.value, verdict.threshold) == ("too_few_photos", 19, 20)

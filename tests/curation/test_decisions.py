"""Decisions are functions of scores alone."""

import math

import numpy as np
import pytest
from bolid.curation.stages import coverage, decode, duplicates, face, pose, quality
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


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


LARGE, HALF, TINY = (0.0, 0.0, 10.0, 20.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 42.0, 10.0)


def poses(rows: np.ndarray) -> np.ndarray:
    """Keypoints along the diagonal of each box."""
    along = np.linspace(0, 1, 17)[:, None]
    points = [np.concatenate([row[:2] + along * (row[2:] - row[:2]), np.ones((17, 1))], axis=1) for row in rows]
    return np.array(points, np.float32).reshape(-1, 17, 3)


def found(people: tuple, scores: tuple) -> pose.People:
    return pose.people(boxes(*people), np.array(scores, np.float32), poses(boxes(*people)), 0.3, 0.5)


@pytest.mark.parametrize(
    ("people", "scores", "reason", "value"),
    [
        ((), (), "no_person", 0.0),
        ((LARGE,), (0.29,), "no_person", 0.29),
        ((LARGE,), (0.31,), None, None),
        ((LARGE, TINY), (0.9, 0.9), None, None),
        ((TINY, LARGE, HALF), (0.9, 0.8, 0.7), "two_people", 0.5),
        ((LARGE, HALF), (0.9, 0.4), None, None),
        ((LARGE, LARGE), (0.9, 0.9), None, None),
    ],
)
def test_a_photo_shows_one_person(people: tuple, scores: tuple, reason: str | None, value: float | None):
    verdict = pose.decide(found(people, scores), 0.3, 0.5)
    assert (verdict and verdict.reason) == reason
    assert (verdict and verdict.value) == pytest.approx(value)


def test_the_largest_of_the_sure_is_the_main_person_else_the_best():
    who = found((HALF, LARGE, TINY), (0.9, 0.6, 0.95))
    assert (who.index, who.count, who.second) == (1, 3, pytest.approx(0.5))
    unsure = found((HALF, LARGE), (0.45, 0.4))
    assert (unsure.index, unsure.count) == (0, 1)
    mixed = found((HALF, LARGE), (0.6, 0.4))
    assert (mixed.index, mixed.count, mixed.second) == (0, 1, 0.0)


def test_keypoint_similarity_is_that_of_coco():
    one = np.ones((17, 3), np.float32) * 50
    other = one.copy()
    other[0, 0] += 3.0  # a nose 3 px away, on a person of 100 x 100
    expected = (16 + math.exp(-9 / (2 * 10_000 * (2 * 0.026) ** 2))) / 17
    assert pose.keypoint_similarity(one, other, 10_000.0) == pytest.approx(expected, rel=1e-5)
    other[1:, :2] = 0  # not found
    assert pose.keypoint_similarity(one, other, 10_000.0) == pytest.approx(17 * expected - 16, rel=1e-4)
    other[0, :2] = 0
    assert pose.keypoint_similarity(one, other, 10_000.0) == 0.0


FAR, NEAR = (300.0, 0.0, 400.0, 100.0), (20.0, 10.0, 80.0, 90.0)
PERSON = np.array([0.0, 0.0, 200.0, 400.0], np.float32)
HEAD = np.array([[50.0, 50.0], [40.0, 40.0]], np.float32)


def test_a_bystanders_face_is_not_the_main_persons():
    scores = np.array([0.9, 0.8], np.float32)
    picked = face.main_face(boxes(FAR, NEAR), scores, PERSON, HEAD, 0.7, 40)
    assert picked is not None
    assert (picked.index, picked.side, picked.usable) == (1, 60.0, True)
    assert face.main_face(boxes(FAR), scores[:1], PERSON, None, 0.7, 40) is None
    assert face.main_face(boxes(NEAR), scores[:1], PERSON, HEAD + 100, 0.7, 40) is None
    without_pose = face.main_face(boxes(FAR, NEAR), scores, None, None, 0.7, 40)
    assert without_pose is not None
    assert without_pose.index == 0


@pytest.mark.parametrize(("score", "side", "usable"), [(0.71, 60, True), (0.69, 60, False), (0.9, 61, False)])
def test_a_face_is_usable_when_it_is_certain_and_large(score: float, side: float, usable: bool):
    picked = face.main_face(boxes(NEAR), np.array([score], np.float32), None, None, 0.7, side)
    assert picked is not None
    assert picked.usable is usable


@pytest.mark.parametrize(("width", "height", "usable"), [(96, 60, True), (97, 60, False), (60, 150, True)])
def test_what_is_wider_than_a_face_lying_on_its_side_is_not_usable(width: int, height: int, usable: bool):
    picked = face.main_face(boxes((0, 0, width, height)), np.array([0.9], np.float32), None, None, 0.7, 40)
    assert picked is not None
    assert picked.usable is usable


def test_nothing_is_rejected_for_its_quality_unless_asked():
    assert quality.decide(0.0, 0.0, None, None, None) is None
    verdicts = [
        quality.decide(9.9, 0.5, 10.0, None, None),
        quality.decide(10.0, 0.05, 10.0, 0.1, 0.9),
        quality.decide(10.0, 0.95, 10.0, 0.1, 0.9),
        quality.decide(None, None, 10.0, 0.1, 0.9),
    ]
    assert [v and v.reason for v in verdicts] == ["blurred", "too_dark", "too_bright", None]


def test_exposure_is_the_mean_luminance():
    assert quality.exposure(Image.new("L", (5, 4), 51)) == pytest.approx(0.2)
    assert quality.exposure(Image.new("L", (0, 4))) == 0.0

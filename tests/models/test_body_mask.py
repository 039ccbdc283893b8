"""The mask from keypoints against the true masks of procedural people, and against distances worked out by hand."""

import numpy as np
import pytest
import torch
from bolid.demo import people
from bolid.models.body_mask import EDGE, HEAD_RADIUS, NECK, RADIUS, body_mask
from bolid.shards.geometry import keypoints_in_window, person_window
from torch import Tensor

WORLD = 71_003


def standing(torso: float = 20.0) -> Tensor:
    """Shoulders at x = 40 and 60, hips 20 below them, an arm straight out to the left, a knee and ankle below a hip."""
    points = torch.zeros(17, 3)
    places = {5: (60, 40), 6: (40, 40), 11: (55, 60), 12: (45, 60), 8: (25, 40), 10: (10, 40), 14: (45, 80)}
    places |= {16: (45, 100)}
    for index, place in places.items():
        points[index] = torch.tensor([*place, 0.9])
    points[:, :2] *= torso / 20
    return points


def test_it_covers_the_people_and_leaves_half_of_the_background() -> None:
    shares, kept = [], []
    for identity in range(10):
        photo = people.take_photo(WORLD, identity, 0, size=(96, 128), framing=("full", "three-quarter")[identity % 2])
        height, width = photo.mask.shape
        measured = photo.truth.keypoints.copy()
        measured[:, 2] = 0.9 * (measured[:, 2] > 0)
        box = np.array(photo.truth.person_box, np.float32)
        window = person_window(box, (width, height), (48, 64), 0.1)
        points = torch.from_numpy(keypoints_in_window(measured, window, (48, 64)))
        drawn = body_mask(points, (48, 64), (48, 64))[0].numpy()
        rows = np.floor(window.top + (np.arange(64) + 0.5) * window.height / 64).astype(int)
        columns = np.floor(window.left + (np.arange(48) + 0.5) * window.width / 48).astype(int)
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
        true = photo.mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & inside
        shares.append(drawn[true].mean())
        kept.append(1 - drawn[~true].mean())
    assert min(shares) > 0.9
    assert np.mean(shares) > 0.98
    assert np.mean(kept) > 0.5


def test_a_limb_is_a_capsule_with_a_soft_edge() -> None:
    drawn = body_mask(standing(), (100, 140), (100, 140))[0]
    unit = float(torch.tensor([5.0, 20.0]).norm())  # the longer of torso and the one thigh that was measured
    radius, edge = RADIUS * unit, EDGE * unit
    for x in (20, 30):  # below the arm, whose middle is at y = 40
        for y in range(41, 70):
            expected = min(max(1 - (y + 0.5 - 40 - radius) / edge, 0.0), 1.0)
            assert float(drawn[y, x]) == pytest.approx(expected, abs=1e-5)
    assert 0 < float(drawn[:, 20].max()) <= 1
    tip = 10 - 0.6 * 15 - radius - edge  # a hand goes on past the wrist
    assert tip < 0
    assert float(drawn[40, 0]) == 1
    foot = 100 + 0.3 * 20
    column = drawn[:, 45]
    assert float(column[int(foot + radius) - 1]) == 1
    assert float(column[int(foot + radius + edge) + 1]) == 0
    middle_of_the_head = 40 - NECK * unit
    assert float(drawn[int(middle_of_the_head - HEAD_RADIUS * unit) + 1, 50]) == 1
    assert float(drawn[: int(middle_of_the_head - HEAD_RADIUS * unit - edge) - 1, 50].sum()) == 0


def test_the_scale_of_the_crop_does_not_matter() -> None:
    once = body_mask(standing(), (100, 140), (25, 35))
    torch.testing.assert_close(body_mask(standing(60.0), (300, 420), (25, 35)), once)
    whole = body_mask(standing(), (100, 140), (100, 140))
    assert (torch.nn.functional.avg_pool2d(whole[None], 4)[0] - once).abs().mean() < 0.02


def test_without_a_torso_all_of_the_crop_counts() -> None:
    points = torch.stack([standing()] * 4)
    points[0] = 0
    points[1, [5, 6]] = 0
    points[2, [11, 12]] = 0
    drawn = body_mask(points, (100, 140), (10, 14))
    assert drawn.shape == (4, 1, 14, 10)
    assert (drawn[:3] == 1).all()
    torch.testing.assert_close(drawn[3], body_mask(standing(), (100, 140), (10, 14)))
    assert drawn[3].min() == 0


def test_a_limb_comes_in_from_outside_and_one_that_was_not_measured_is_not_drawn() -> None:
    seen, outside, absent = standing(), standing(), standing()
    outside[10, 2] = 0  # confidence 0 with a place: outside the crop
    absent[10] = 0
    masks = [body_mask(points, (100, 140), (100, 140)) for points in (seen, outside, absent)]
    assert torch.equal(masks[0], masks[1])
    assert masks[2][0, 40, 5] == 0
    assert masks[0][0, 40, 5] == 1

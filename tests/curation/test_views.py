"""Framing and view, held against the true joints of procedural people."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from bolid.curation import views
from bolid.demo import people
from numpy.typing import NDArray

CONFIDENT = 0.5
SEED = 7_031


@cache
def truths() -> tuple[people.PhotoTruth, ...]:
    return tuple(people.take_photo(SEED, identity, 1, size=(90, 120)).truth for identity in range(60))


def joints(truth: people.PhotoTruth) -> NDArray[np.float32]:
    """True joints as a network would give them: certain where they lie in the picture."""
    keypoints = truth.keypoints.copy()
    keypoints[:, 2] = keypoints[:, 2] > 0
    return keypoints


def upright(turned: float, shoulders: float = 0.57) -> NDArray[np.float32]:
    """A stick figure with a torso of 100 px, turned to the image's right by so many degrees."""
    keypoints = np.zeros((17, 3), np.float32)
    half, swing = shoulders * 50 * math.cos(math.radians(turned)), math.sin(math.radians(turned))
    keypoints[5], keypoints[6] = (200 + half, 100, 0.9), (200 - half, 100, 0.9)
    keypoints[11], keypoints[12] = (200 + half / 2, 200, 0.9), (200 - half / 2, 200, 0.9)
    keypoints[0] = (200 + 20 * swing, 70, 0.9)
    return keypoints


@pytest.mark.parametrize("turned", [-170.0, -120.0, -90.0, -30.0, 10.0, 60.0, 100.0, 150.0])
def test_the_yaw_of_a_stick_figure_is_found(turned: float):
    found = views.yaw(upright(turned), CONFIDENT)
    assert found == pytest.approx(turned, abs=0.01)


@pytest.mark.parametrize("roll", [0.0, 30.0, 90.0, 180.0])
def test_a_turned_picture_does_not_change_the_yaw(roll: float):
    keypoints, angle = upright(40.0), math.radians(roll)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    keypoints[:, :2] = keypoints[:, :2] @ turn.T + 1000
    assert views.yaw(keypoints, CONFIDENT) == pytest.approx(40.0, abs=0.01)


@pytest.mark.parametrize(
    ("turned", "name"),
    [(0, "front"), (25, "front"), (-26, "three-quarter"), (65, "three-quarter"), (115, "side"), (-116, "back")],
)
def test_views_are_named_by_the_angle(turned: float, name: str):
    assert views.view(turned) == name


def test_without_both_shoulders_there_is_no_view():
    keypoints = upright(0.0)
    keypoints[5, 2] = 0.4
    assert views.yaw(keypoints, CONFIDENT) is None
    assert views.view(None) is None


def test_a_keypoint_in_the_corner_was_not_found_whatever_its_confidence():
    keypoints = upright(0.0)
    keypoints[6, :2] = 0
    assert views.yaw(keypoints, CONFIDENT) is None
    assert views.body_keypoints(keypoints, CONFIDENT) == 3


def test_the_pose_confidence_is_the_mean_over_the_body_without_the_head():
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:5, 2] = 1.0
    keypoints[5:, 2] = np.arange(12) / 12
    assert views.pose_confidence(keypoints) == pytest.approx(sum(range(12)) / 144)


def test_views_of_people_agree_with_the_truth():
    named = [(truth.view, views.view(views.yaw(joints(truth), CONFIDENT))) for truth in truths()]
    right = sum(truth == found for truth, found in named)
    assert right >= 0.7 * len(named)  # views that are one step apart are confused near their limits
    order = (*views.VIEWS, None)
    assert all(found is None or abs(order.index(truth) - order.index(found)) <= 1 for truth, found in named)
    backs = Counter(found for truth, found in named if truth == "back")
    assert backs["back"] >= 0.9 * backs.total() > 0


def test_framings_of_people_agree_with_the_truth():
    named = [
        (truth.framing, views.framing(joints(truth), np.array(truth.person_box, np.float32), CONFIDENT))
        for truth in truths()
    ]
    right = sum(truth == found for truth, found in named)
    assert right >= 0.9 * len(named)
    assert {found for _, found in named} == set(views.FRAMINGS)

"""Which of a photo's scores are the main person's."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bolid.curation.config import CurateConfig
from bolid.curation.measured import measured
from bolid.curation.stages.face import roll


def scores(turned_away: bool) -> pa.Table:
    """A photo of one person who stands upright, with a face of 60 px at her head."""
    keypoints = np.zeros((17, 3), np.float32)
    for index, (x, y) in {5: (230, 200), 6: (170, 200), 11: (220, 300), 12: (180, 300), 0: (200, 150)}.items():
        keypoints[index] = (400 - x if turned_away else x, y, 0.9)
    row: dict[str, Any] = {
        "sha256": "a" * 64, "defect": None, "decoded_width": 400, "decoded_height": 600, "sharpness": 50.0, "phash": 1,
        "pose_boxes": [140.0, 100.0, 260.0, 500.0], "pose_scores": [0.9], "pose_keypoints": keypoints.ravel().tolist(),
        "minor": None, "face_boxes": [170.0, 110.0, 230.0, 180.0], "face_scores": [0.9],
        "face_landmarks": [0.0] * 10, "face_embeddings": [1.0] + [0.0] * 511,
        "people_sharpness": [50.0], "people_exposure": [0.5], "faces_sharpness": [50.0], "faces_exposure": [0.5],
    }  # fmt: skip
    return pa.Table.from_pylist([row])


@pytest.mark.parametrize(
    ("down", "degrees"), [((0, 1), 0), ((-1, 1), 45), ((-1, 0), 90), ((1, 0), -90), ((0, -1), 180), ((0, 0), 0)]
)
def test_the_roll_of_a_face_is_that_of_the_line_from_eyes_to_mouth(down: tuple[int, int], degrees: float) -> None:
    """Clockwise in a picture whose y points down: the mouth of a face turned right by 90 degrees lies to the left."""
    x, y = down
    eyes = [(10 + y, 10 - x), (10 - y, 10 + x)]
    mouth = [(10 + 5 * x + y, 10 + 5 * y - x), (10 + 5 * x - y, 10 + 5 * y + x)]
    found = roll(np.array([*eyes, (10, 10), *mouth], np.float32))
    assert abs(found) == pytest.approx(abs(degrees), abs=1e-3)
    assert degrees in (0, 180) or found == pytest.approx(degrees, abs=1e-3)


@pytest.mark.parametrize("turned_away", [False, True])
def test_a_face_on_a_body_seen_from_behind_tells_nobody_apart(turned_away: bool) -> None:
    (photo,) = measured(scores(turned_away), CurateConfig())
    assert photo.face is not None
    assert photo.face.found.score == pytest.approx(0.9)
    assert photo.face.found.usable is not turned_away

"""How well a pose network finds procedural people: recall, keypoints within a tenth of the torso, empty rooms.

- A person is found when a box of score 0.25 or more, used for nobody else, overlaps theirs (IoU) by half or more.
- PCK@0.1: the share of the main people's visible keypoints (visibility 2) that lie within a tenth of the torso of the
  truth. The torso is the distance from the middle of the shoulders to the middle of the hips as projected into the
  photo, wherever those lie, inside the photo or not. All keypoints of somebody not found count as wrong.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...models.pose import Pose, PoseEstimator
from .. import people
from . import corpus, pose_data

WORLD = 920_001
"""Seed of the people and rooms that the figures are measured on."""

PHOTOS, LARGE, ROOMS = 600, 150, 300
IOU, WITHIN = 0.5, 0.1


@dataclass(frozen=True)
class Case:
    """A photo as JPEG and what is true in it.

    boxes: float32 [people, 4], the main person first; keypoints: float32 [17, 3] and torso (pixels) of the main person.
    """

    jpeg: bytes
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    torso: float
    framing: str
    view: str
    pose: str

    def image(self) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3]."""
        return np.asarray(Image.open(io.BytesIO(self.jpeg)))


def keep_case(photo: people.Photo) -> Case:
    """What is measured of a photo."""
    truth = photo.truth
    xy, _ = photo.camera.project(photo.keypoints_3d)
    torso = float(np.linalg.norm(xy[[5, 6]].mean(0) - xy[[11, 12]].mean(0)))
    boxes = pose_data.people_rows(truth)[:, :4]
    return Case(people.encode_jpeg(photo.image), boxes, truth.keypoints, torso, truth.framing, truth.view, truth.pose)


def measure(weights: Path, folder: Path) -> dict[str, object]:
    """The figures of a weights file; the renders are kept in `folder`."""
    estimate = PoseEstimator(weights)
    shots = pose_data.large_shots(WORLD, PHOTOS, large=LARGE)
    score = Score()
    for case in corpus.rendered(shots, keep_case, folder, 1):
        score.add(case, estimate([case.image()])[0])
    rng = np.random.default_rng((WORLD, 2))
    rooms = (people.empty_room(WORLD, n, size=pose_data.room_size(rng, 528)) for n in range(ROOMS))
    return score.figures() | {"empty_rooms": ROOMS, "empty_rooms_with_nobody_found": _share(empty(estimate, rooms))}


def empty(estimate: PoseEstimator, rooms: Iterable[NDArray[np.uint8]]) -> list[bool]:
    """For each room, whether nobody was found."""
    return [not estimate([room])[0] for room in rooms]


class Score:
    """Counts over cases."""

    def __init__(self) -> None:
        self._found: list[bool] = []
        self._extra = 0
        self._cases = 0
        self._within: dict[str, list[bool]] = defaultdict(list)

    def add(self, case: Case, poses: Sequence[Pose]) -> None:
        """Count one photo."""
        matched = match(case.boxes, poses)
        self._cases += 1
        self._found += [pose is not None for pose in matched]
        self._extra += len(poses) - sum(pose is not None for pose in matched)
        within = keypoints_within(case, matched[0])
        size = "photos of 1250 to 1800 px" if max(self._side(case)) > 1000 else "photos of 528 px"
        for group in ("all", case.framing, case.view, case.pose, size):
            self._within[group] += within.tolist()

    @staticmethod
    def _side(case: Case) -> tuple[int, int]:
        return Image.open(io.BytesIO(case.jpeg)).size

    @property
    def recall(self) -> float:
        """Share of the people that were found."""
        return _share(self._found)

    @property
    def pck(self) -> float:
        """PCK@0.1 over the main people's visible keypoints."""
        return _share(self._within["all"])

    def figures(self) -> dict[str, object]:
        """Everything counted, by name."""
        groups = {f"pck_at_0.1_torso, {name}": _share(self._within[name]) for name in self._within if name != "all"}
        totals: dict[str, object] = {
            "photos": self._cases,
            "people": len(self._found),
            "visible_keypoints": len(self._within["all"]),
            "person_recall": self.recall,
            "people_found_that_are_none": self._extra,
            "pck_at_0.1_torso": self.pck,
        }
        return totals | dict(sorted(groups.items()))


def match(boxes: NDArray[np.float32], poses: Sequence[Pose]) -> list[Pose | None]:
    """For each true box [people, 4] the pose found for it: the largest overlaps (IoU >= 0.5) are given first."""
    overlaps = np.array([[overlap(box, pose.box) for pose in poses] for box in boxes]).reshape(len(boxes), len(poses))
    out: list[Pose | None] = [None] * len(boxes)
    while overlaps.size and overlaps.max() >= IOU:
        person, pose = np.unravel_index(overlaps.argmax(), overlaps.shape)
        out[int(person)] = poses[int(pose)]
        overlaps[person, :] = overlaps[:, pose] = 0
    return out


def overlap(a: Sequence[float] | NDArray[np.float32], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    return float(inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside))


def keypoints_within(case: Case, pose: Pose | None) -> NDArray[np.bool_]:
    """For each visible keypoint of the main person whether it was found within a tenth of the torso."""
    seen = case.keypoints[:, 2] == 2
    if pose is None:
        return np.zeros(int(seen.sum()), bool)
    away = np.linalg.norm(pose.keypoints[seen, :2] - case.keypoints[seen, :2], axis=1)
    return np.asarray(away <= WITHIN * case.torso)


def _share(outcomes: Sequence[bool]) -> float:
    return round(float(np.mean(outcomes)), 4)

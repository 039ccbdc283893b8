"""Stage `pose`: who is in the photo and how she stands: people with boxes and 17 keypoints.

The scores are all people that the network found. The decision picks the main person, the largest, and rejects a photo
of nobody, or of two people where the second is nearly as large.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..networks import Network
from ..pixels import PhotoReader
from ..stage import StageKey, Verdict, paths_of, score_batch

Floats = NDArray[np.float32]

RECORDED = 0.25
"""Least score of a person that is recorded at all (the usual one of YOLO); what counts is decided later."""

SAME_POSE = 0.5
"""Two poses that are more similar are one person's."""
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], np.float32) / 1000
"""COCO's: how far people who mark a keypoint differ, by the square root of the person's area."""

_NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [("sha256", pa.string()), ("pose_boxes", _NUMBERS), ("pose_scores", _NUMBERS), ("pose_keypoints", _NUMBERS)]
)
"""A photo's n people, best score first: boxes 4 n, scores n, keypoints 51 n numbers; null where it does not decode."""


class PoseStage:
    """Finds the people of each photo; see `SCHEMA` for the columns.

    Args:
        network: a pose network.
        device: of torch.
    """

    schema = SCHEMA
    needs = ()

    def __init__(self, network: Network, device: str = "cpu") -> None:
        self._size = network.image_size
        self.key = StageKey("pose", 2, f"recorded={RECORDED} size={self._size}", network.weights_sha256)
        self._weights, self._device = network.path, device

    def setup(self, reader: PhotoReader) -> None:
        """Load the network."""
        from ...models.pose import PoseEstimator

        self._reader = reader
        self._estimator = PoseEstimator(
            Path(self._weights), image_size=self._size, confidence=RECORDED, device=self._device
        )

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        shas = [sha256 for sha256, _ in paths_of(batch)]
        pictures = [self._reader.read(path).picture for _, path in paths_of(batch)]
        found = iter(self._estimator([np.asarray(picture) for picture in pictures if picture is not None]))
        rows: list[dict[str, object]] = []
        for sha256, picture in zip(shas, pictures, strict=True):
            if picture is None:
                rows.append({"sha256": sha256})
                continue
            people = next(found)
            boxes = [number for person in people for number in person.box]
            keypoints = [person.keypoints.ravel() for person in people]
            rows.append(
                {
                    "sha256": sha256,
                    "pose_boxes": boxes,
                    "pose_scores": [person.score for person in people],
                    "pose_keypoints": np.concatenate(keypoints) if keypoints else [],
                }
            )
        return score_batch(SCHEMA, rows)


@dataclass(frozen=True)
class People:
    """The people of a photo.

    Attributes:
        index: row of the main person among all that were recorded; -1 without one.
        best_score: of anybody recorded, 0 without one.
        count: how many there are.
        second: the second person's box by the main person's, as a share of the area; 0 without one.
    """

    index: int
    best_score: float
    count: int
    second: float


def people(boxes: Floats, scores: Floats, keypoints: Floats, min_score: float, sure_score: float) -> People:
    """Pick the main person: the largest of those that are sure, else the best, if good enough.

    Args:
        boxes: `[n, 4]` left, top, right, bottom.
        scores: `[n]`.
        keypoints: `[n, 17, 3]`.
        min_score: of the main person.
        sure_score: from which on everybody counts.
    """
    best = float(scores.max(initial=0.0))
    found = [index for index in distinct(boxes, scores, keypoints) if scores[index] >= min_score]
    if not found:
        return People(-1, best, 0, 0.0)
    counting = [index for index in found if scores[index] >= sure_score] or found[:1]
    areas = areas_of(boxes[counting])
    order = np.argsort(-areas, kind="stable")
    second = float(areas[order[1]] / areas[order[0]]) if len(order) > 1 and areas[order[0]] > 0 else 0.0
    return People(counting[int(order[0])], best, len(counting), second)


def distinct(boxes: Floats, scores: Floats, keypoints: Floats) -> list[int]:
    """Return the rows of different people, best score first: of two poses of one person the better one stays.

    Overlap of boxes does not tell two people who stand close from two boxes of one; the similarity of keypoints does
    (as in the non-maximum suppression of Papandreou et al. 2017, section 3.1).
    """
    kept: list[int] = []
    areas = areas_of(boxes)
    for index in np.argsort(-scores, kind="stable").tolist():
        if all(keypoint_similarity(keypoints[index], keypoints[one], float(areas[one])) <= SAME_POSE for one in kept):
            kept.append(index)
    return kept


def keypoint_similarity(one: Floats, other: Floats, area: float) -> float:
    """Return COCO's object keypoint similarity of two poses `[17, 3]`, 0..1, over the keypoints that both have.

    Each keypoint gives exp(-d^2 / (2 area (2 sigma)^2)), d pixels apart; 0 where no keypoint is in both.
    """
    both = one[:, :2].any(axis=1) & other[:, :2].any(axis=1)
    if not both.any() or area <= 0:
        return 0.0
    squares = ((one[both, :2] - other[both, :2]) ** 2).sum(axis=1)
    return float(np.exp(-squares / (2 * area * (2 * SIGMAS[both]) ** 2)).mean())


def areas_of(boxes: Floats) -> Floats:
    """Return the areas `[n]` of boxes `[n, 4]`."""
    areas: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def decide(found: People, min_score: float, second_person: float) -> Verdict | None:
    """Reject a photo of nobody, or of a second person whose box has at least `second_person` of the main one's area."""
    if not found.count:
        return Verdict("pose", "no_person", round(found.best_score, 4), min_score)
    if found.second >= second_person:
        return Verdict("pose", "two_people", round(found.second, 4), second_person)
    return None

"""Stage `face`: the faces of a photo with boxes, landmarks and embeddings, and which of them is the main person's.

The scores are all faces that the detector found. The decision picks one, and says whether it is good enough to tell
people apart by; it rejects nothing, because a view from behind has no face and is wanted.

Of a photo with a face whose estimated age is under the limit nothing is recorded but that: no box, no landmarks, no
embedding and no age (stage `exclusions` decides by it). So the limit belongs to the scores, unlike other thresholds.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..networks import Network
from ..pixels import PhotoReader
from ..stage import StageKey, paths_of, score_batch
from .pose import areas_of

Floats = NDArray[np.float32]

RECORDED = 0.5
"""Least score of a face that is recorded at all (the detectors' usual one); what counts is decided later."""
DETECTED_AT = 640
"""Side in pixels that a photo is fitted into for detection, unless the network's entry says another."""
EMBEDDING = 512

_NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("minor", pa.bool_()),
        ("face_boxes", _NUMBERS),
        ("face_scores", _NUMBERS),
        ("face_landmarks", _NUMBERS),
        ("face_embeddings", _NUMBERS),
    ]
)
"""A photo's n faces, largest first: boxes 4 n, scores n, landmarks 10 n, embeddings 512 n numbers.

`minor` says whether a face's estimated age is under the limit, and then the lists are null; it is null where the model
does not estimate age, or the photo does not decode.
"""


class FaceStage:
    """Finds the faces of each photo; see `SCHEMA` for the columns.

    Args:
        network: a face model folder.
        device: of onnxruntime.
        min_age: years; a photo with a face that is estimated younger is recorded as `minor` and nothing else.
    """

    schema = SCHEMA
    needs = ()

    def __init__(self, network: Network, device: str = "cpu", min_age: int = 18) -> None:
        self._side, self._min_age = network.image_size or DETECTED_AT, min_age
        config = f"recorded={RECORDED} side={self._side} min_age={min_age}"
        self.key = StageKey("face", 2, config, network.weights_sha256)
        self._folder, self._device = network.path, device

    def setup(self, reader: PhotoReader) -> None:
        """Load the networks."""
        from ...models.face import FaceAnalyser

        self._reader = reader
        size = (self._side, self._side)
        self._analyser = FaceAnalyser(Path(self._folder), det_size=size, det_threshold=RECORDED, device=self._device)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        rows: list[dict[str, object]] = []
        for sha256, path in paths_of(batch):
            picture = self._reader.read(path).picture
            if picture is None:
                rows.append({"sha256": sha256})
                continue
            faces = self._analyser(np.asarray(picture))
            if any(face.age is not None and face.age < self._min_age for face in faces):
                rows.append({"sha256": sha256, "minor": True})
                continue
            rows.append(
                {
                    "sha256": sha256,
                    "minor": False if self._analyser.estimates_age else None,
                    "face_boxes": [number for face in faces for number in face.box],
                    "face_scores": [face.score for face in faces],
                    "face_landmarks": _joined([face.landmarks for face in faces]),
                    "face_embeddings": _joined([face.embedding for face in faces]),
                }
            )
        return score_batch(SCHEMA, rows)


def _joined(arrays: list[Floats]) -> Floats:
    return np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0, np.float32)


@dataclass(frozen=True)
class Face:
    """The main person's face.

    Attributes:
        index: its row among the faces that were recorded.
        score: the detector's.
        side: shorter side of the box, px.
        usable: large and certain enough to tell people apart by, and no wider than a face can be.
    """

    index: int
    score: float
    side: float
    usable: bool


WIDEST = 1.6
"""A box wider than so many heights holds no face: even one that lies on its side is 1.4 wide; limbs and folds are."""


def main_face(
    boxes: Floats, scores: Floats, person: Floats | None, head: Floats | None, min_score: float, min_side: float
) -> Face | None:
    """Pick the main person's face.

    With a person it is the face whose middle lies within her box and that holds most of her head's keypoints, a larger
    one first; where her head was found and no face holds a part of it, none is hers. Without a person it is the
    largest of all.

    Args:
        boxes: `[n, 4]` left, top, right, bottom.
        scores: `[n]`.
        person: box `[4]` of the main person, None where it was not measured.
        head: her nose, eyes and ears that were found, `[k, 2]` pixels; None where it was not measured.
        min_score: of a usable face.
        min_side: shorter side of a usable face, px.
    """
    if not len(boxes):
        return None
    rank = areas_of(boxes)
    if person is not None:
        middle: Floats = (boxes[:, :2] + boxes[:, 2:]) / np.float32(2)
        hers = _inside(middle, person[None])[:, 0]
        held = np.zeros(len(boxes))
        if head is not None and len(head):
            held = _inside(head, boxes).sum(axis=0)
            hers &= held > 0
        if not hers.any():
            return None
        rank = np.where(hers, held + rank / (rank.max() + 1), -1.0)
    index = int(np.argmax(rank))
    width, height = (boxes[index, 2:] - boxes[index, :2]).tolist()
    side, score = min(width, height), float(scores[index])
    return Face(index, score, side, score >= min_score and side >= min_side and width <= WIDEST * height)


def roll(landmarks: Floats) -> float:
    """Return how far a face is turned in the picture, degrees: 0 upright, positive clockwise; 0 where nothing tells.

    The line from the middle of the eyes to the middle of the mouth tells it, in profile too, unlike the eyes alone.

    Args:
        landmarks: `[5, 2]` eyes, nose, corners of the mouth, pixels.
    """
    right, down = (landmarks[3:5].mean(axis=0) - landmarks[:2].mean(axis=0)).tolist()
    return math.degrees(math.atan2(-right, down))


def _inside(points: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Say which points `[k, 2]` lie in which boxes `[n, 4]`: booleans `[k, n]`."""
    x, y = points[:, None, 0], points[:, None, 1]
    inside: NDArray[np.bool_] = (x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3])
    return inside

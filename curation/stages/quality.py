"""Stage `quality`: sharpness and exposure of each person and face, at one size whatever the photo's.

Nobody has published a blur threshold for sets of photos of people, and shallow focus is not blur: the scores are
reported, and reject a photo only when a threshold is asked for.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ..pixels import PhotoReader
from ..stage import Stage, StageKey, Verdict, paths_of, score_batch
from .decode import sharpness

PERSON_SIDE = 512
"""Long side in pixels at which a person is measured, so that the score does not depend on the photo's size."""
FACE_SIDE = 112
"""The same of a face: that of the recogniser's input."""

_NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("people_sharpness", _NUMBERS),
        ("people_exposure", _NUMBERS),
        ("faces_sharpness", _NUMBERS),
        ("faces_exposure", _NUMBERS),
    ]
)
"""For each box of the pose and the face stage, in their order; empty where that stage is not run."""


class QualityStage:
    """Measures the boxes that earlier stages found; see `SCHEMA` for the columns.

    Args:
        finders: the pose and the face stage, those of them that are run; what they found decides what is measured.
    """

    schema = SCHEMA

    def __init__(self, finders: Sequence[Stage]) -> None:
        columns = {name for stage in finders for name in stage.schema.names}
        self.needs = tuple(name for name in ("pose_boxes", "face_boxes") if name in columns)
        self.key = StageKey("quality", 2, " ".join(stage.key.fingerprint for stage in finders))

    def setup(self, reader: PhotoReader) -> None:
        """Keep the reader."""
        self._reader = reader

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        boxes = {name: batch[name].to_pylist() for name in self.needs}
        rows: list[dict[str, object]] = []
        for row, (sha256, path) in enumerate(paths_of(batch)):
            grey = self._reader.read(path).grey
            if grey is None:
                rows.append({"sha256": sha256})
                continue
            people, faces = (boxes[name][row] or [] if name in boxes else [] for name in ("pose_boxes", "face_boxes"))
            person_crops, face_crops = crops(grey, people, PERSON_SIDE), crops(grey, faces, FACE_SIDE)
            rows.append(
                {
                    "sha256": sha256,
                    "people_sharpness": [sharpness(crop) for crop in person_crops],
                    "people_exposure": [exposure(crop) for crop in person_crops],
                    "faces_sharpness": [sharpness(crop) for crop in face_crops],
                    "faces_exposure": [exposure(crop) for crop in face_crops],
                }
            )
        return score_batch(SCHEMA, rows)


def crops(grey: Image.Image, numbers: Sequence[float], side: int) -> list[Image.Image]:
    """Cut boxes out of a picture, each scaled down to a long side of `side` px by averaging; smaller ones stay.

    Args:
        grey: the luminance.
        numbers: left, top, right, bottom of one box after the other, px; may reach beyond the picture.
        side: px.
    """
    boxes: NDArray[np.float64] = np.asarray(numbers, np.float64).reshape(-1, 4)
    limits = np.array([grey.width, grey.height] * 2)
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).clip(0, limits).astype(int)
    found = []
    for left, top, right, bottom in corners.tolist():
        width, height = max(0, right - left), max(0, bottom - top)
        size = [max(1, round(length * min(1, side / max(width, height)))) for length in (width, height) if length]
        if len(size) < 2:
            found.append(Image.new("L", (width, height)))
        else:
            box = (left, top, right, bottom)
            found.append(grey.resize((size[0], size[1]), Image.Resampling.BOX, box=box, reducing_gap=1.0))
    return found


def exposure(grey: Image.Image) -> float:
    """Return the mean of a luminance picture, 0 black to 1 white; 0 for one without pixels."""
    values = np.asarray(grey)
    return float(values.mean()) / 255 if values.size else 0.0


def decide(
    sharp: float | None,
    light: float | None,
    min_sharpness: float | None,
    min_exposure: float | None,
    max_exposure: float | None,
) -> Verdict | None:
    """Reject what is blurred, too dark or too bright, each only where a threshold is given."""
    if sharp is not None and min_sharpness is not None and sharp < min_sharpness:
        return Verdict("quality", "blurred", round(sharp, 3), min_sharpness)
    if light is not None and min_exposure is not None and light < min_exposure:
        return Verdict("quality", "too_dark", round(light, 4), min_exposure)
    if light is not None and max_exposure is not None and light > max_exposure:
        return Verdict("quality", "too_bright", round(light, 4), max_exposure)
    return None

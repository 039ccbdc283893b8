"""Stage `attributes`: a plain caption from what was measured, without a network that writes.

The scores are the colours of each person's clothes, on pixels between the keypoints: a strip down the middle of the
torso, and one down each thigh, where the shortest trousers and skirts still reach. The decision takes the main person
and says how she is framed, seen and posed, and the colours where one clearly prevails. What is not clear is not said:
no garment is named, and a colour that may be skin is left out.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from .. import colours, views
from ..pixels import PhotoReader
from ..stage import Stage, StageKey, paths_of, score_batch

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]

FOUND = 0.5
"""Least confidence of a keypoint that regions are laid between (that of the decisions, unless they say another)."""
TORSO, TORSO_WIDTH = (0.3, 0.75), 0.14
"""Part of the way from shoulders to hips, without collar, hair and hem; half the strip's width, by the torso."""
THIGH, THIGH_WIDTH = (0.15, 0.5), 0.06
"""Part of the way from a hip to its knee; half the strip's width, by the torso."""
ARM_WIDTH, HAND = 0.11, 0.35
"""Half the width of a forearm that lies before the clothes, by the torso, and its hand by its length: not counted."""
FACE_WIDTH = 0.35
"""Half the side of the square about the nose that skin is measured on, by the distance of nose and eye."""
LEAST_PIXELS = 24
SAMPLED = 64
"""Longer side in pixels to which a region is reduced."""
ALIKE = 16.0
"""Colours nearer than this are the same cloth in another light (`colours.distance`)."""

PREVAILS = 0.7
"""A colour is named where at least this share of the pixels is like it."""
SKIN = 12.0
"""A colour that is no further from the face's is taken for skin."""
SKIN_HUES, SKIN_CHROMA = (25.0, 85.0), (8.0, 40.0)
"""Of skin in CIELAB, hue in degrees: what is taken for it where no face shows."""

ELBOWS, WRISTS = (7, 8), (9, 10)
PER_PERSON = 11
_NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema([("sha256", pa.string()), ("clothes", _NUMBERS)])
"""For each person of the pose stage, in its order, 11 numbers: L*, a*, b* and share of the upper clothes, the same of
the lower ones, L*, a*, b* of the face. The colours are medians, the share is that of the pixels like the median. NaN
where it could not be measured."""


class AttributesStage:
    """Measures the colours of each person's clothes; see `SCHEMA`.

    Args:
        pose: the pose stage; its keypoints say where clothes are.
    """

    schema = SCHEMA
    needs = ("pose_keypoints",)

    def __init__(self, pose: Stage) -> None:
        regions = (FOUND, TORSO, TORSO_WIDTH, THIGH, THIGH_WIDTH, ARM_WIDTH, HAND, FACE_WIDTH)
        sampling = (LEAST_PIXELS, SAMPLED, ALIKE)
        self.key = StageKey("attributes", 1, f"{pose.key.fingerprint} {regions} {sampling}")

    def setup(self, reader: PhotoReader) -> None:
        """Keep the reader."""
        self._reader = reader

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        rows: list[dict[str, object]] = []
        for (sha256, path), numbers in zip(paths_of(batch), batch["pose_keypoints"].to_pylist(), strict=True):
            picture = self._reader.read(path).picture
            if picture is None or numbers is None:
                rows.append({"sha256": sha256})
                continue
            people = np.asarray(numbers, np.float32).reshape(-1, 17, 3)
            rows.append({"sha256": sha256, "clothes": [n for person in people for n in clothes(picture, person)]})
        return score_batch(SCHEMA, rows)


def clothes(picture: Image.Image, keypoints: Floats) -> list[float]:
    """Return the 11 numbers of `SCHEMA` for one person.

    Args:
        picture: RGB, sRGB.
        keypoints: `[17, 3]` of that picture.
    """
    shoulders, hips = (_middle(keypoints, which) for which in (views.SHOULDERS, views.HIPS))
    upper, lower = np.empty((0, 3)), np.empty((0, 3))
    if shoulders is not None and hips is not None:
        torso = math.dist(shoulders, hips)
        arms = [
            (elbow, wrist + HAND * (wrist - elbow))
            for elbow, wrist in zip(_each(keypoints, ELBOWS), _each(keypoints, WRISTS), strict=True)
            if elbow is not None and wrist is not None
        ]
        upper = _strip(picture, shoulders, hips, TORSO, TORSO_WIDTH * torso, arms, ARM_WIDTH * torso)
        legs = [
            _strip(picture, hip, knee, THIGH, THIGH_WIDTH * torso, arms, ARM_WIDTH * torso)
            for hip, knee in zip(_each(keypoints, views.HIPS), _each(keypoints, views.KNEES), strict=True)
            if hip is not None and knee is not None
        ]
        lower = np.concatenate([lower, *legs])
    return [*_prevailing(upper), *_prevailing(lower), *_prevailing(_face(picture, keypoints))[:3]]


def _face(picture: Image.Image, keypoints: Floats) -> Numbers:
    nose = _each(keypoints, (views.NOSE,))[0]
    eyes = [eye for eye in _each(keypoints, (1, 2)) if eye is not None]
    if nose is None or not eyes:
        return np.empty((0, 3))
    side = FACE_WIDTH * max(math.dist(nose, eye) for eye in eyes)
    up = np.array([0.0, side])
    return _strip(picture, nose - up, nose + up, (0.0, 1.0), side)


def _strip(
    picture: Image.Image,
    begin: Numbers,
    end: Numbers,
    part: tuple[float, float],
    width: float,
    avoided: Sequence[tuple[Numbers, Numbers]] = (),
    avoid: float = 0.0,
) -> Numbers:
    """Return the CIELAB colours `[k, 3]` of a strip along a line: `part` of its length, `width` px to both sides.

    Pixels nearer than `avoid` px to one of the lines `avoided` do not count.
    """
    line = end - begin
    length = float(np.hypot(*line))
    if length == 0 or width <= 0:
        return np.empty((0, 3))
    along = line / length
    across = np.array([-along[1], along[0]])
    corners = np.array([begin + line * t + across * side for t in part for side in (-width, width)])
    size = (picture.width, picture.height)
    low, high = np.clip(np.floor(corners.min(0)), 0, size), np.clip(np.ceil(corners.max(0)), 0, size)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    if box[2] <= box[0] or box[3] <= box[1]:
        return np.empty((0, 3))
    scale = max(1.0, max(box[2] - box[0], box[3] - box[1]) / SAMPLED)
    reduced = (max(1, round((box[2] - box[0]) / scale)), max(1, round((box[3] - box[1]) / scale)))
    pixels = np.asarray(picture.resize(reduced, Image.Resampling.BOX, box))
    x = low[0] + (np.arange(reduced[0]) + 0.5) * (high[0] - low[0]) / reduced[0]
    y = low[1] + (np.arange(reduced[1]) + 0.5) * (high[1] - low[1]) / reduced[1]
    points = np.stack(np.meshgrid(x, y), axis=-1)
    there, aside = (points - begin) @ along / length, np.abs((points - begin) @ across)
    counted = (there >= part[0]) & (there <= part[1]) & (aside <= width)
    for one, other in avoided:
        counted &= _distance(points, one, other) > avoid
    return colours.lab(pixels[counted])


def _distance(points: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """Return how far points `[..., 2]` lie from the line between two points, px."""
    line = other - one
    along = np.clip((points - one) @ line / max(float(line @ line), 1e-9), 0, 1)
    return np.asarray(np.linalg.norm(points - one - along[..., None] * line, axis=-1))


def _prevailing(pixels: Numbers) -> list[float]:
    """Return the median colour and the share of pixels like it; NaN where there are too few."""
    if len(pixels) < LEAST_PIXELS:
        return [math.nan] * 4
    median = np.median(pixels, axis=0)
    return [*median.tolist(), float((colours.distance(pixels, median) < ALIKE).mean())]


def _each(keypoints: Floats, which: Sequence[int]) -> list[Numbers | None]:
    found = keypoints[:, 2] >= FOUND
    return [keypoints[i, :2].astype(float) if found[i] and keypoints[i, :2].any() else None for i in which]


def _middle(keypoints: Floats, which: Sequence[int]) -> Numbers | None:
    points = [point for point in _each(keypoints, which) if point is not None]
    return np.mean(points, axis=0) if points else None


def decide(keypoints: Floats, box: Floats, measured: Floats, confident: float) -> str:
    """Return the caption of a person.

    Args:
        keypoints: `[17, 3]`.
        box: `[4]` left, top, right, bottom of the person, pixels.
        measured: her 11 numbers of `SCHEMA`.
        confident: least confidence of a keypoint that counts.
    """
    frame = {
        "full": "a full-length photo",
        "three-quarter": "a three-quarter-length photo",
        "half": "a half-length photo",
        "portrait": "a portrait",
    }[views.framing(keypoints, box, confident)]
    posed = posture(keypoints, confident)
    seen = {
        "front": ", seen from the front",
        "three-quarter": ", in three-quarter view",
        "side": ", seen from the side",
        "back": ", seen from the back",
        None: "",
    }[views.view(views.yaw(keypoints, confident))]
    return f"{frame} of a person{f' {posed}' if posed else ''}{seen}{_wearing(*clothes_colours(measured))}"


def clothes_colours(measured: Floats) -> tuple[str | None, str | None]:
    """Return the words for the colours of the upper and the lower clothes; None where it is not clear, or may be skin.

    Args:
        measured: 11 numbers of `SCHEMA`.
    """
    numbers = measured.astype(np.float64)
    skin = None if np.isnan(numbers[8]) else numbers[8:]
    upper, lower = (_named(part[:3], float(part[3]), skin) for part in (numbers[:4], numbers[4:8]))
    return upper, lower


def _named(colour: Numbers, share: float, skin: Numbers | None) -> str | None:
    if not share >= PREVAILS or _may_be_skin(colour, skin):
        return None
    return colours.name(colour)


def _may_be_skin(colour: Numbers, skin: Numbers | None) -> bool:
    if skin is not None:
        return bool(colours.distance(colour, skin) < SKIN)
    hue, chroma = math.degrees(math.atan2(colour[2], colour[1])), math.hypot(colour[1], colour[2])
    return SKIN_HUES[0] <= hue <= SKIN_HUES[1] and SKIN_CHROMA[0] <= chroma <= SKIN_CHROMA[1]


def _wearing(upper: str | None, lower: str | None) -> str:
    if upper and lower:
        return f", wearing {upper}" if upper == lower else f", wearing {upper} above the waist and {lower} below"
    if upper:
        return f", wearing {upper} above the waist"
    return f", wearing {lower} below the waist" if lower else ""


def posture(keypoints: Floats, confident: float) -> str | None:
    """Return `standing`, `sitting` or `lying` where the keypoints leave no doubt, else None.

    All by the torso's length, hips to shoulders. It is upright within 30 degrees. Standing: upright, and each knee lies
    more than half a torso below its hip, each ankle nearly as far below its knee, both legs reaching as low. Sitting:
    upright, knees less than 0.45 below the hips, ankles at least that below the knees. Lying: the torso is at least 60
    degrees from upright, and no ankle lies more than half a torso below its hip. Both legs must be found.
    """
    counts = (keypoints[:, 2] >= confident) & keypoints[:, :2].any(axis=1)
    if not counts[list(views.SHOULDERS + views.HIPS + views.KNEES + views.ANKLES)].all():
        return None
    shoulders, hips, knees, ankles = (
        keypoints[list(which), :2].astype(float) for which in (views.SHOULDERS, views.HIPS, views.KNEES, views.ANKLES)
    )
    spine = shoulders.mean(0) - hips.mean(0)
    torso = float(np.hypot(*spine))
    if torso == 0:
        return None
    lean = math.degrees(math.atan2(abs(spine[0]), -spine[1]))
    thighs, shins = (knees - hips) / torso, (ankles - knees) / torso
    down, further = thighs[:, 1], shins[:, 1]
    if lean >= 60:
        return "lying" if (down + further <= 0.5).all() else None
    if lean > 30:
        return None
    if (down <= 0.45).all() and (further >= 0.45).all():
        return "sitting"
    straight = (down > 0.5).all() and (further >= 0.8 * down).all() and (np.abs(shins[:, 0]) <= 0.3).all()
    return "standing" if straight and abs(float(np.ptp(down + further))) <= 0.2 else None

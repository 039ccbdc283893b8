"""What 17 keypoints say about a photo: how the person is framed and from which side she is seen.

Keypoints are COCO's: 0 nose, 1-2 eyes, 3-4 ears, 5-6 shoulders, 7-8 elbows, 9-10 wrists, 11-12 hips, 13-14 knees,
15-16 ankles, the person's left first. `[17, 3]`: x and y in pixels, y down, and confidence. A keypoint counts when its
confidence passes and it does not lie in the corner, where networks put what they did not find.

The constants were read off the joints of 480 procedural people; the limits of the views are those of their truth.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BODY = slice(5, 17)
"""The twelve keypoints of the body, without the head's five."""
NOSE, EARS, SHOULDERS, HIPS, KNEES, ANKLES = 0, (3, 4), (5, 6), (11, 12), (13, 14), (15, 16)

FRAMINGS = ("full", "three-quarter", "half", "portrait")
VIEWS = ("front", "three-quarter", "side", "back")
VIEW_LIMITS = (25.0, 65.0, 115.0)
"""Degrees away from the front at which one view ends and the next begins."""

SHOULDERS_BY_TORSO = 0.57
"""Distance of the shoulders seen from the front, by the distance from their middle to the hips' middle."""
TORSO_BY_NECK = 2.85
"""The same torso by the distance from the shoulders' middle to the ears' middle, where no hips are in the picture."""
THIGHS_BY_TORSO = 0.5
"""A half-length photo shows no more than this below the hips, by the torso."""


def pose_confidence(keypoints: Floats) -> float:
    """Return the mean confidence of the 12 body keypoints, 0..1."""
    return float(keypoints[BODY, 2].mean())


def body_keypoints(keypoints: Floats, confident: float) -> int:
    """Return how many of the 12 body keypoints were found."""
    return sum(_found(keypoints, index, confident) for index in range(BODY.start, BODY.stop))


def head(keypoints: Floats, confident: float) -> Floats:
    """Return nose, eyes and ears that were found, `[k, 2]` pixels."""
    return keypoints[[index for index in range(BODY.start) if _found(keypoints, index, confident)], :2]


def framing(keypoints: Floats, box: Floats, confident: float) -> str:
    """Return `full` (an ankle shows), `three-quarter` (a knee, or half the thighs), `half` (a hip) or `portrait`.

    Args:
        keypoints: `[17, 3]`.
        box: `[4]` left, top, right, bottom of the person, pixels.
        confident: least confidence of a keypoint that counts.
    """
    if _middle(keypoints, ANKLES, confident) is not None:
        return "full"
    hips = _middle(keypoints, HIPS, confident)
    if hips is None:
        return "portrait"
    if _middle(keypoints, KNEES, confident) is not None:
        return "three-quarter"
    shoulders = _middle(keypoints, SHOULDERS, confident)
    torso = math.inf if shoulders is None else math.dist(hips, shoulders)
    return "three-quarter" if float(box[3]) - hips[1] > THIGHS_BY_TORSO * torso else "half"


def yaw(keypoints: Floats, confident: float) -> float | None:
    """Return how far the body is turned, degrees: 0 faces the camera, positive to the image's right, ±180 faces away.

    The shoulders' line appears shortened by the cosine of the angle, and the person's left is at the image's left when
    the back is seen. The sign is that of the side on which the nose lies, from the shoulders' middle; without a nose
    it is positive. None where a shoulder, or both the hips and the ears, were not found.
    """
    if not all(_found(keypoints, index, confident) for index in SHOULDERS):
        return None
    left, right = (keypoints[index, :2].astype(float) for index in SHOULDERS)
    middle = (left + right) / 2
    up = _up(keypoints, middle, confident)
    if up is None:
        return None
    torso = float(np.hypot(*up))
    if torso == 0:
        return None
    rightwards = np.array([-up[1], up[0]]) / torso  # the image's right, for a spine that stands upright
    width = float((left - right) @ rightwards) / torso
    turned = math.degrees(math.acos(max(-1.0, min(1.0, width / SHOULDERS_BY_TORSO))))
    if not _found(keypoints, NOSE, confident):
        return turned
    side = float((keypoints[NOSE, :2] - middle) @ rightwards)
    return math.copysign(turned, side)


def view(turned: float | None) -> str | None:
    """Return the name of a view by its yaw: front up to 25 degrees, three-quarter to 65, side to 115, then back."""
    if turned is None:
        return None
    return VIEWS[int(np.searchsorted(VIEW_LIMITS, abs(turned)))]


def _up(keypoints: Floats, shoulders: NDArray[np.float64], confident: float) -> NDArray[np.float64] | None:
    """Return the torso as a vector from hips to shoulders, pixels."""
    hips = _middle(keypoints, HIPS, confident)
    if hips is not None:
        return shoulders - hips
    ears = _middle(keypoints, EARS, confident)
    return None if ears is None else TORSO_BY_NECK * (ears - shoulders)


def _found(keypoints: Floats, index: int, confident: float) -> bool:
    return bool(keypoints[index, 2] >= confident and keypoints[index, :2].any())


def _middle(keypoints: Floats, which: tuple[int, ...], confident: float) -> NDArray[np.float64] | None:
    found = [keypoints[index, :2] for index in which if _found(keypoints, index, confident)]
    return np.mean(np.array(found, float), axis=0) if found else None

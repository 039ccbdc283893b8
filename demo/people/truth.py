"""Ground truth of a photo: where everything is and what can be seen of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .body import PART, PEOPLE_STRIDE
from .camera import Camera
from .figure import Figure, limb_radius
from .pose import COCO_KEYPOINTS
from .render import Rendering

Box = tuple[float, float, float, float]

FACE_LANDMARKS: tuple[str, ...] = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
"""InsightFace's order: for an upright face that looks at the camera, the eye at the image's left (the person's right
eye) comes first, then the other eye, the nose, the mouth corner at the image's left and the other corner."""


@dataclass(frozen=True)
class PhotoTruth:
    """What is true of one person in one photo; pixels have their origin at the image's upper left corner.

    keypoints: float32 [17, 3], COCO order, (x, y, visibility): 2 visible, 1 in the image but hidden (by the body
        itself too), 0 outside, then x = y = 0. left and right are the person's.
    person_box: x0, y0, x1, y1 of the mask, x1 and y1 exclusive; all 0 when nothing of the person shows.
    face_box: of the face's points (hairline to chin, cheek to cheek) inside the image; None when no more than 5 % of
        the face can be seen.
    face_landmarks: float32 [5, 2] in the order of `FACE_LANDMARKS`; None with face_box.
    face_visible: share 0..1 of the face's points that can be seen.
    yaw: degrees in (-180, 180], 0 facing the camera, positive turned towards the image's right.
    attributes: the outfit, the place and the pose's furniture in words; hair and face are the identity's.
    companions: the same for each other person, without companions of their own.
    """

    seed: int
    identity: int
    n: int
    width: int
    height: int
    keypoints: Floats
    person_box: Box
    face_box: Box | None
    face_landmarks: Floats | None
    face_visible: float
    yaw: float
    view: str
    framing: str
    pose: str
    shape: Floats
    attributes: dict[str, str]
    caption: str
    companions: tuple["PhotoTruth", ...] = field(default=())

    def as_row(self) -> dict[str, Any]:
        """The truth as plain numbers, lists and strings, for a table."""
        landmarks = None if self.face_landmarks is None else self.face_landmarks.ravel().tolist()
        return {
            "seed": self.seed,
            "identity": self.identity,
            "n": self.n,
            "width": self.width,
            "height": self.height,
            "keypoints": self.keypoints.ravel().tolist(),
            "person_box": list(self.person_box),
            "face_box": None if self.face_box is None else list(self.face_box),
            "face_landmarks": landmarks,
            "face_visible": self.face_visible,
            "yaw": self.yaw,
            "view": self.view,
            "framing": self.framing,
            "pose": self.pose,
            "shape": self.shape.tolist(),
            "attributes": dict(self.attributes),
            "caption": self.caption,
        }


# Parts whose surface may lie before a joint without hiding it: the joint is inside them.
_OWN_PARTS: dict[str, tuple[str, ...]] = {
    "shoulder": ("upper_arm", "chest", "neck"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh", "pelvis", "chest"),
    "knee": ("thigh", "shin"),
    "ankle": ("shin", "foot"),
}


def _own_labels(keypoint: str, person: int) -> list[int]:
    side, _, joint = keypoint.partition("_")
    names = [p if p in PART else f"{p}_{side[0]}" for p in _OWN_PARTS.get(joint, ("head",))]
    return [PART[name] + person * PEOPLE_STRIDE for name in names]


def see_points(
    points: NDArray[np.float64], slack: NDArray[np.float64], camera: Camera, drawn: Rendering
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int32]]:
    """Pixels [N, 2] of points [N, 3]; whether inside the image; whether nothing lies more than ``slack`` before them.

    The last array is the label of the pixel that covers each point. Pixels are those of ``drawn``.
    """
    xy, depth = camera.project(points)
    width, height = camera.size
    inside = (xy[:, 0] >= 0) & (xy[:, 0] < width) & (xy[:, 1] >= 0) & (xy[:, 1] < height) & (depth > 0)
    column = np.clip(xy[:, 0], 0, width - 1).astype(int)
    row = np.clip(xy[:, 1], 0, height - 1).astype(int)
    open_ = drawn.depth[row, column] >= depth - slack
    return xy, inside, inside & open_, drawn.label[row, column]


def keypoint_truth(figure: Figure, person: int, camera: Camera, drawn: Rendering, scale: float) -> Floats:
    """COCO keypoints [17, 3]; ``scale`` turns pixels of ``drawn`` into the photo's.

    A face point is visible when no surface lies more than 2 cm before it. A joint lies inside the body: it is
    visible when the surface before it is no deeper than the flesh round it and belongs to a bone that meets there.
    """
    slack = limb_radius(figure) * 1.45 + 0.02
    slack[:5] = 0.02
    xy, inside, open_, label = see_points(figure.keypoints(), slack, camera, drawn)
    out = np.zeros((17, 3), np.float32)
    for i, name in enumerate(COCO_KEYPOINTS):
        if inside[i]:
            own = int(label[i]) in _own_labels(name, person)
            out[i] = (xy[i, 0] * scale, xy[i, 1] * scale, 2 if open_[i] and own else 1)
    return out


def face_truth(
    figure: Figure, camera: Camera, drawn: Rendering, scale: float
) -> tuple[Box | None, Floats | None, float]:
    """Face box, the five landmarks and the visible share of the face; see `PhotoTruth`."""
    points = figure.face_region()
    xy, _, open_, _ = see_points(points, np.full(len(points), 0.012), camera, drawn)
    share = float(open_.mean())
    if share <= 0.05:
        return None, None, share
    width, height = camera.size
    low = np.clip(xy.min(0), 0, (width, height)) * scale
    high = np.clip(xy.max(0), 0, (width, height)) * scale
    named = figure.face_points()
    marks, _ = camera.project(np.array([named[name] for name in FACE_LANDMARKS]))
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return box, (marks * scale).astype(np.float32), share


def mask_box(mask: NDArray[np.bool_]) -> Box:
    """x0, y0, x1, y1 of a mask [H, W], the last two exclusive; zeros for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

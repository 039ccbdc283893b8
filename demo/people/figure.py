"""One person standing in the scene: skeleton, meshes, paint and the points whose place is ground truth."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, dot, normalise
from .body import HEM, PART, PARTS, body_mesh, hem_plane, limbs
from .extremities import hand, shoe
from .face import head_mesh, landmarks, region
from .hair import hair_mesh
from .paint import Coat, Look, paint_arm, paint_hair, paint_head, paint_leg, paint_shoe, paint_trunk, skin
from .pose import COCO_KEYPOINTS, Angles, Frame, Skeleton, ankle_height, joints, pose_skeleton
from .surface import Mesh, join, turn
from .texture import sample, slopes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A person in the world: ``bones`` are frames in world coordinates (y up, z towards the camera, metres)."""

    look: Look
    bones: Skeleton
    local: Skeleton
    axes: Array
    place: Array

    def keypoints(self) -> Array:
        """The 17 COCO keypoints [17, 3] in the world: face points on the skin, joints inside the limbs."""
        named = joints(self.bones) | self.face_points()
        return np.array([named[name] for name in COCO_KEYPOINTS])

    def face_points(self) -> dict[str, Array]:
        """Eyes, nose, mouth corners and ears in the world."""
        height, head = self.look.shape.head_height, self.bones["head"]
        return {name: head.at(*(height * p)) for name, p in landmarks(self.look.face).items()}

    def face_region(self) -> Array:
        """Points [N, 3] all over the face, in the world."""
        height, head = self.look.shape.head_height, self.bones["head"]
        return np.asarray(head.origin + height * np.einsum("ni,ji->nj", region(self.look.face), head.axes))

    def extent(self) -> dict[str, tuple[Array, float]]:
        """Spheres that hold the body, by bone: centre in the world and radius in metres; for framing."""
        s, b = self.look.shape, self.bones
        out = {"head": (b["head"].at(0, 0.52 * s.head_height, 0), 0.60 * s.head_height)}
        for side in "lr":
            out[f"collar_{side}"] = (0.45 * b["neck"].origin + 0.55 * b[f"upper_arm_{side}"].at(0, -0.05, 0), 0.05)
            out[f"shoulder_{side}"] = (b[f"upper_arm_{side}"].origin, 0.06)
            out[f"elbow_{side}"] = (b[f"forearm_{side}"].origin, 0.06)
            out[f"hand_{side}"] = (b[f"hand_{side}"].at(0, -0.5 * s.hand_length, 0), 0.5 * s.hand_length)
            out[f"hip_{side}"] = (b[f"thigh_{side}"].origin, 0.11)
            out[f"mid_thigh_{side}"] = (b[f"thigh_{side}"].at(0, -0.24, 0), 0.09)
            out[f"knee_{side}"] = (b[f"shin_{side}"].origin, 0.08)
            out[f"foot_{side}"] = (b[f"foot_{side}"].at(0, -0.04, 0.08), 0.13)
        return out


def stand(look: Look, angles: Angles, yaw: float, place: tuple[float, float]) -> Figure:
    """A figure in a pose, turned by ``yaw`` degrees (0 faces the camera, positive turns to the image's right)."""
    local = pose_skeleton(look.shape, angles)
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    axes = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    middle = local["pelvis"].origin * np.array([1, 0, 1])
    if angles.support == "bed":
        middle = (local["head"].origin + local["foot_l"].origin) / 2 * np.array([1, 0, 1])
    at = np.array([place[0], 0.0, place[1]]) - axes @ middle
    bones = {name: Frame(axes @ f.origin + at, axes @ f.axes) for name, f in local.items()}
    return Figure(look, bones, local, axes, at)


def figure_mesh(figure: Figure, step: float, rows: int, *, legs: bool) -> Mesh:
    """All of a figure's surfaces in the world; ``step`` metres for the body, ``rows`` for the head."""
    look, bones = figure.look, figure.bones
    body = body_mesh(look.shape, figure.local, look.outfit, step, legs=legs)
    meshes = [Mesh(turn(body.vertices, figure.axes) + figure.place.astype(np.float32), body.faces, body.part)]
    height = look.shape.head_height
    for mesh in (head_mesh(look.face, rows, PART["head"]), hair_mesh(look.face, rows, PART["hair"])):
        if mesh is not None:
            scaled = Mesh(mesh.vertices * np.float32(height), mesh.faces, mesh.part)
            meshes.append(scaled.moved(bones["head"].axes, bones["head"].origin))
    fine = step < 0.018
    for s in "lr":
        palm, foot = bones[f"hand_{s}"], bones[f"foot_{s}"]
        meshes.append(hand(look.shape.hand_length, s == "l", fine, PART[f"hand_{s}"]).moved(palm.axes, palm.origin))
        if legs:
            size = 0.80 * look.shape.foot_length
            made = shoe(look.outfit.shoes, size, ankle_height(look.shape), fine, PART[f"foot_{s}"])
            meshes.append(made.moved(foot.axes, foot.origin))
    return join(meshes)


def tailored(figure: Figure, part: NDArray[np.int32], points: Floats) -> NDArray[np.int32]:
    """Parts [N] of points [N, 3] with straight seams, as tailors cut them: at the armholes and at a top's hem."""
    out = part.copy()
    at = np.flatnonzero((part == PART["chest"]) | (part == PART["upper_arm_l"]) | (part == PART["upper_arm_r"]))
    shape = figure.look.shape
    x, y, _ = _local(points[at], figure.bones["chest"])
    high = (y > 0.42 * shape.torso_length) & (part[at] == PART["chest"]) | (y > 0.50 * shape.torso_length)
    beyond = np.abs(x) > shape.shoulder_width / 2 - 0.045
    arm = np.where(x > 0, PART["upper_arm_l"], PART["upper_arm_r"])
    out[at[high]] = np.where(beyond, arm, PART["chest"])[high]
    at = np.flatnonzero((part == PART["thigh_l"]) | (part == PART["thigh_r"]))
    _, y, z = _local(points[at], figure.bones["pelvis"])
    out[at[(y > HEM - 0.002) & (np.abs(z) < 0.5 * shape.hip_depth + 0.03)]] = PART["pelvis"]
    return out


def skirt_hem(figure: Figure) -> tuple[Array, Array]:
    """A point on the plane of a skirt's hem and its normal, in the world."""
    return hem_plane(figure.bones, figure.look.outfit.bottom.length)


def paint_figure(figure: Figure, part: int, points: Floats, normal: Floats, soft: float) -> Coat:
    """Material of points [N, 3] of one part, whose normals [N, 3] get cloth folds; ``soft`` is a pixel in metres."""
    look, name = figure.look, PARTS[part]
    base = name if name not in ("neck", "pelvis", "chest") else "chest"
    frame = figure.bones["head" if name in ("head", "hair") else base]
    x, y, z = _local(points, frame)
    if name in ("head", "hair"):
        unit = np.float32(1 / look.shape.head_height)
        paint = paint_head if name == "head" else paint_hair
        return paint(look, x * unit, y * unit, z * unit, soft * float(unit))
    if base == "chest":
        y = y + np.float32(0.35 * look.shape.torso_length)
        coat = paint_trunk(look, x, y, z, soft)
    elif "arm" in name:
        coat = paint_arm(look, x, y, z, lower=name.startswith("fore"), soft=soft)
    elif name.startswith(("thigh", "shin")):
        at, down = skirt_hem(figure)
        beyond = dot(points - at.astype(np.float32), down.astype(np.float32)[None])
        coat = paint_leg(look, x, y, z, beyond, lower=name.startswith("shin"), soft=soft)
    elif name.startswith("foot"):
        coat = paint_shoe(look, x, y, z, soft)
    else:
        coat = skin(look, x + z, y)
    _fold(coat, frame, x, y, z, normal)
    return coat


def _local(points: Floats, frame: Frame) -> tuple[Floats, Floats, Floats]:
    d = points - frame.origin.astype(np.float32)
    m = frame.axes.astype(np.float32)
    x, y, z = (d[:, 0] * m[0, i] + d[:, 1] * m[1, i] + d[:, 2] * m[2, i] for i in range(3))
    return x, y, z


def _fold(coat: Coat, frame: Frame, x: Floats, y: Floats, z: Floats, normal: Floats) -> None:
    """Bend the normals as wrinkles would, more round the limb than along it."""
    if not coat.folds.any():
        return
    round_, along = slopes()
    u, v = np.arctan2(x, z) * 0.035, y * 0.26 + 0.22 * np.abs(x)
    m = frame.axes.astype(np.float32)
    du, dv = 0.6 * coat.folds * sample(round_, u + 0.37 * v, v), coat.folds * sample(along, u, v)
    normal += du[:, None] * m[:, 0] + dv[:, None] * m[:, 1]
    normalise(normal)


def limb_radius(figure: Figure) -> Array:
    """How deep each COCO keypoint lies under the skin [17], metres, by the body's own measures."""
    s, bare = figure.look.shape, limbs(figure.look.shape, figure.local)
    face = 0.02
    arm, elbow, wrist = bare["upper_arm_l"].ra, bare["forearm_l"].ra, bare["forearm_l"].rb
    hip, knee, ankle = 0.5 * s.hip_depth, bare["shin_l"].ra, bare["shin_l"].rb
    return np.array([face] * 5 + [arm + 0.02] * 2 + [elbow] * 2 + [wrist] * 2 + [hip] * 2 + [knee] * 2 + [ankle] * 2)

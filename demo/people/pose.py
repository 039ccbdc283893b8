"""Poses: joint angles, the skeleton they give, and the 17 COCO keypoints on it.

The person's frame: x to the person's left, y up, z ahead, metres; limbs hang along their own -y. Left limbs carry
the suffix ``_l``.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .shape import Shape

Array = NDArray[np.float64]

POSES: tuple[str, ...] = ("standing", "walking", "sitting", "arms_raised", "leaning", "lying")

COCO_KEYPOINTS: tuple[str, ...] = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

SEAT_HEIGHT = 0.46
BED_HEIGHT = 0.34
MAT_HEIGHT = 0.05


class Frame(NamedTuple):
    """A bone's place: origin [3] and axes [3, 3], whose columns are the bone's x, y and z."""

    origin: Array
    axes: Array

    def at(self, x: float, y: float, z: float) -> Array:
        """A point of the bone's own frame, outside it."""
        return np.asarray(self.origin + self.axes @ np.array([x, y, z]))


Skeleton = dict[str, Frame]


@dataclass
class Angles:
    """Joint angles in degrees; pairs are (left, right)."""

    pitch: float = 0.0  # root: lying back is -90
    roll: float = 0.0  # root: lying on the side is +-90
    bend: float = 0.0  # chest forward
    side: float = 0.0  # chest towards the left
    twist: float = 0.0
    nod: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0
    arm_flex: list[float] = field(default_factory=lambda: [0.0, 0.0])
    arm_out: list[float] = field(default_factory=lambda: [8.0, 8.0])
    arm_in: list[float] = field(default_factory=lambda: [0.0, 0.0])
    elbow: list[float] = field(default_factory=lambda: [12.0, 12.0])
    leg_flex: list[float] = field(default_factory=lambda: [0.0, 0.0])
    leg_out: list[float] = field(default_factory=lambda: [3.0, 3.0])
    toe_out: list[float] = field(default_factory=lambda: [8.0, 8.0])
    knee: list[float] = field(default_factory=lambda: [2.0, 2.0])
    flat_feet: bool = True
    support: str = "floor"  # floor, seat or bed
    bed_height: float = BED_HEIGHT


def rotation(axis: int, degrees: float) -> Array:
    """Right-handed rotation [3, 3] about a coordinate axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = (axis + 1) % 3, (axis + 2) % 3
    out = np.eye(3)
    out[u, u], out[u, v], out[v, u], out[v, v] = c, -s, s, c
    return out


def shoulder_offset(shape: Shape) -> float:
    """From the body's middle to the shoulder joint, which lies inside the shoulder's outline."""
    return shape.shoulder_width / 2 - 0.037


def hip_offset(shape: Shape) -> float:
    """From the body's middle to the hip joint."""
    return 0.26 * shape.hip_width


def ankle_height(shape: Shape) -> float:
    """Ankle joint above the sole."""
    return 0.046 * shape.stature


def bone_lengths(shape: Shape) -> dict[str, float]:
    """Joint-to-joint lengths in metres that the skeleton keeps in every pose."""
    leg = shape.leg_length - ankle_height(shape)
    return {
        "upper_arm": 0.535 * shape.arm_length,
        "forearm": 0.465 * shape.arm_length,
        "thigh": 0.515 * leg,
        "shin": 0.485 * leg,
    }


def _arm(skeleton: Skeleton, shape: Shape, angles: Angles, i: int) -> None:
    name, sign, chest = ("l", "r")[i], (1, -1)[i], skeleton["chest"]
    lengths = bone_lengths(shape)
    lift = 0.045 * max(0.0, (max(angles.arm_out[i], angles.arm_flex[i]) - 60) / 120)
    shoulder = chest.at(sign * (shoulder_offset(shape) - 0.4 * lift), 0.65 * shape.torso_length - 0.035 + lift, -0.012)
    axes = chest.axes @ rotation(2, sign * angles.arm_out[i]) @ rotation(0, -angles.arm_flex[i])
    axes = axes @ rotation(1, -sign * angles.arm_in[i])
    upper = Frame(shoulder, axes)
    fore = Frame(upper.at(0, -lengths["upper_arm"], 0), axes @ rotation(0, -angles.elbow[i]))
    skeleton[f"upper_arm_{name}"], skeleton[f"forearm_{name}"] = upper, fore
    skeleton[f"hand_{name}"] = Frame(fore.at(0, -lengths["forearm"], 0), fore.axes @ rotation(0, -6))


def _leg(skeleton: Skeleton, shape: Shape, angles: Angles, i: int) -> None:
    name, sign, pelvis = ("l", "r")[i], (1, -1)[i], skeleton["pelvis"]
    lengths = bone_lengths(shape)
    axes = pelvis.axes @ rotation(2, sign * angles.leg_out[i]) @ rotation(0, -angles.leg_flex[i])
    thigh = Frame(pelvis.at(sign * hip_offset(shape), 0, 0), axes @ rotation(1, sign * angles.toe_out[i]))
    shin = Frame(thigh.at(0, -lengths["thigh"], 0), thigh.axes @ rotation(0, angles.knee[i]))
    ankle = shin.at(0, -lengths["shin"], 0)
    heading = thigh.axes[:, 2] if abs(thigh.axes[1, 2]) < 0.75 else shin.axes[:, 2] - shin.axes[:, 1]
    foot = _flat(heading) if angles.flat_feet else shin.axes @ rotation(0, 22)
    skeleton[f"thigh_{name}"], skeleton[f"shin_{name}"] = thigh, shin
    skeleton[f"foot_{name}"] = Frame(ankle, foot)


def _flat(ahead: Array) -> Array:
    z = np.array([ahead[0], 0.0, ahead[2]])
    z /= np.linalg.norm(z) + 1e-9
    up = np.array([0.0, 1.0, 0.0])
    return np.stack([np.cross(up, z), up, z], 1)


def pose_skeleton(shape: Shape, angles: Angles) -> Skeleton:
    """Frames of all bones in the person's frame, standing, sitting or lying on what supports them (y = 0 is floor)."""
    root = rotation(0, angles.pitch) @ rotation(2, angles.roll)
    out: Skeleton = {"pelvis": Frame(np.zeros(3), root)}
    spine = rotation(1, angles.twist) @ rotation(2, -angles.side) @ rotation(0, angles.bend)
    out["chest"] = Frame(out["pelvis"].at(0, 0.35 * shape.torso_length, 0), root @ spine)
    neck_axes = out["chest"].axes @ rotation(1, angles.turn * 0.4) @ rotation(0, angles.nod * 0.4 + 6)
    out["neck"] = Frame(out["chest"].at(0, 0.65 * shape.torso_length, -0.02), neck_axes)
    head_axes = out["chest"].axes @ rotation(1, angles.turn) @ rotation(2, -angles.tilt) @ rotation(0, angles.nod)
    pivot = 0.3 * shape.head_height
    top = out["neck"].at(0, shape.neck_length + pivot, 0.0)
    out["head"] = Frame(top - head_axes @ np.array([0, pivot, 0]), head_axes)
    for i in (0, 1):
        _arm(out, shape, angles, i)
        _leg(out, shape, angles, i)
    rise = np.array([0.0, _rise(out, shape, angles), 0.0])
    return {name: Frame(frame.origin + rise, frame.axes) for name, frame in out.items()}


def _rise(skeleton: Skeleton, shape: Shape, angles: Angles) -> float:
    if angles.support == "seat":
        return SEAT_HEIGHT + 0.42 * shape.hip_depth
    if angles.support == "bed":
        low = min(skeleton[b].origin[1] for b in ("pelvis", "chest", "neck", "upper_arm_l", "upper_arm_r"))
        on_side = abs(skeleton["pelvis"].axes[1, 0]) > 0.7
        reach = 0.07 if on_side else 0.5 * min(shape.chest_depth, shape.hip_depth)
        return angles.bed_height + reach - float(low)
    soles = [skeleton[f"foot_{s}"].at(0, -ankle_height(shape), z)[1] for s in "lr" for z in (-0.04, 0.12)]
    return -float(min(soles))


def joints(skeleton: Skeleton) -> dict[str, Array]:
    """The body's 12 joint centres among the COCO keypoints (shoulders to ankles), in the skeleton's frame."""
    out = {}
    for long, short in (("left", "l"), ("right", "r")):
        out[f"{long}_shoulder"] = skeleton[f"upper_arm_{short}"].origin
        out[f"{long}_elbow"] = skeleton[f"forearm_{short}"].origin
        out[f"{long}_wrist"] = skeleton[f"hand_{short}"].origin
        out[f"{long}_hip"] = skeleton[f"thigh_{short}"].origin
        out[f"{long}_knee"] = skeleton[f"shin_{short}"].origin
        out[f"{long}_ankle"] = skeleton[f"foot_{short}"].origin
    return out


def draw_angles(rng: np.random.Generator, pose: str, shape: Shape, *, on_side: bool, lean: int) -> Angles:
    """Joint angles of a named pose with noise; ``lean`` (+1 left, -1 right) and ``on_side`` follow the view."""
    noise = rng.normal(0, 1, 24).clip(-2, 2)
    u = rng.random(8)
    a = Angles()
    a.turn, a.nod, a.tilt = 11 * noise[0], -1 + 5 * noise[1], 3.5 * noise[2]
    a.bend, a.side, a.twist = 2 + 2 * noise[3], 2.5 * noise[4], 4 * noise[5]
    for i in (0, 1):
        a.arm_flex[i] = 4 * noise[6 + i]
        a.arm_out[i] = 12 + 2.5 * noise[8 + i]
        a.arm_in[i] = 14 + 10 * noise[10 + i]
        a.elbow[i] = 14 + 7 * noise[12 + i]
        a.leg_out[i] = 4 + 1.5 * noise[14 + i]
        a.toe_out[i] = 9 + 5 * noise[16 + i]
    _POSERS[pose](a, noise[18:], u, shape, on_side, lean)
    return a


def _standing(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    if u[0] < 0.35:  # weight on one leg
        i = int(u[1] < 0.5)
        a.knee[i], a.leg_flex[i], a.leg_out[i] = 18, 10, 9
        a.roll = (1.5, -1.5)[i]
    for i in (0, 1):
        if u[2 + i] < 0.25:  # hand on the hip
            a.arm_out[i], a.arm_flex[i], a.arm_in[i], a.elbow[i] = 36, -16, 60, 98
        elif u[2 + i] < 0.4:  # forearm across the front
            a.arm_out[i], a.arm_flex[i], a.arm_in[i], a.elbow[i] = 12, 12, 48, 88
        elif u[2 + i] > 0.9:  # waving
            a.arm_out[i], a.arm_flex[i], a.arm_in[i], a.elbow[i] = 42, 20, -30, 128


def _walking(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    step, ahead = 22 + 4 * noise[0], int(u[0] < 0.5)
    behind = 1 - ahead
    a.leg_flex[ahead], a.knee[ahead] = step + 3, 6 + 2 * u[1]
    a.leg_flex[behind], a.knee[behind] = -step * 0.75, 22 + 8 * u[2]
    a.arm_flex[ahead], a.arm_flex[behind] = -step, step * 1.1
    a.elbow = [24 + 5 * noise[1], 24 + 5 * noise[2]]
    a.leg_out = [1.0, 1.0]
    a.twist = (-5, 5)[ahead]
    a.bend = 4


def _sitting(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    lengths = bone_lengths(shape)
    hip = SEAT_HEIGHT + 0.42 * shape.hip_depth
    for i in (0, 1):
        tilt = 6 * noise[i] + (4 if u[0] < 0.5 else -6)
        knee_height = ankle_height(shape) + lengths["shin"] * math.cos(math.radians(tilt))
        rise = math.degrees(math.asin(float(np.clip((knee_height - hip) / lengths["thigh"], -0.5, 0.6))))
        a.leg_flex[i], a.knee[i] = 90 + rise, 90 + rise + tilt
        a.leg_out[i] = 2 + 9 * u[1]
        a.toe_out[i] = 0
        if u[2] < 0.75:  # hands on the thighs
            a.arm_flex[i], a.elbow[i], a.arm_in[i], a.arm_out[i] = 13 + 3 * noise[2 + i], 46, 12, 10
        else:  # hands beside the seat
            a.arm_flex[i], a.elbow[i], a.arm_out[i], a.arm_in[i] = -12, 14, 20, 0
    a.bend = 2 + 8 * u[3]
    a.support = "seat"


def _arms_raised(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    for i in (0, 1):
        a.arm_out[i] = 142 + 10 * noise[i] + 12 * u[0]
        a.arm_flex[i], a.arm_in[i] = 4 * noise[2 + i], -30
        a.elbow[i] = 14 + 22 * u[1 + i]
    a.bend = -2


def _leaning(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    a.roll = -lean * (9 + 1.5 * noise[0])
    a.side = lean * (7 + 2 * noise[1])
    a.tilt = -lean * 6
    near, far = (0, 1) if lean > 0 else (1, 0)
    a.leg_out[near], a.leg_out[far] = 6 if lean else 3, 9
    a.leg_flex[near], a.knee[near] = 14, 24
    a.arm_out[near], a.elbow[near] = 6, 22
    if u[0] < 0.5:
        a.arm_out[far], a.arm_flex[far], a.arm_in[far], a.elbow[far] = 36, -16, 60, 98
    if u[1] < 0.3:
        a.arm_flex[near], a.arm_in[near], a.elbow[near] = 14, 50, 86


def _lying(a: Angles, noise: Array, u: Array, shape: Shape, on_side: bool, lean: int) -> None:
    a.flat_feet = False
    a.support = "bed"
    if on_side:
        a.roll = 90.0 * lean
        for i in (0, 1):
            a.leg_flex[i], a.knee[i] = 28 + 14 * u[i], 44 + 22 * u[2 + i]
            a.leg_out[i] = -2
            a.arm_flex[i], a.arm_out[i], a.elbow[i], a.arm_in[i] = 48 + 20 * u[4 + i], 2, 52, 0
        a.nod, a.turn, a.tilt = 6, 4 * noise[1], -8 * lean
        return
    a.pitch = -90.0
    a.bend = 4
    a.nod = 10 + 3 * noise[0]
    i = int(u[0] < 0.5)
    if u[1] < 0.65:  # one knee drawn up
        a.leg_flex[i], a.knee[i] = 48, 92
    a.leg_out = [4.0, 4.0]
    if u[2] < 0.4:  # a hand behind the head
        a.arm_out[i], a.elbow[i], a.arm_in[i] = 118, 112, -85
    elif u[2] < 0.7:  # a hand on the belly
        a.arm_out[i], a.arm_flex[i], a.arm_in[i], a.elbow[i] = 20, 14, 66, 72


_POSERS = {
    "standing": _standing,
    "walking": _walking,
    "sitting": _sitting,
    "arms_raised": _arms_raised,
    "leaning": _leaning,
    "lying": _lying,
}

"""The colours of a face, painted on the head's surface: eyes, brows, lips, beard, glasses, age."""

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .face import EYE_COLOURS, HAIR_COLOURS, FaceTraits, eye_level, nose_tip
from .texture import noise_tile, sample

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Expression:
    """What a face does in one photo: smile -1..1, gaze of the eyes in eye widths (left, up), lids 0 shut..1 open."""

    smile: float
    gaze: tuple[float, float]
    lids: float


class _Canvas:
    """Colours [N, 3] and gloss [N] of points of the head, painted layer by layer."""

    def __init__(self, colour: Colour, count: int, soft: float) -> None:
        self.colour = np.broadcast_to(np.array(colour, np.float32), (count, 3)).copy()
        self.gloss = np.full(count, 0.16, np.float32)
        self.soft = np.float32(max(soft, 1e-4))

    def edge(self, inside: Floats) -> Floats:
        """Coverage from a distance in head heights, positive inside, softened over one pixel."""
        return np.asarray(np.clip(inside / self.soft + 0.5, 0, 1))

    def layer(self, where: Floats, colour: Colour | Floats, gloss: float | None = None) -> None:
        self.colour += where[:, None] * (np.asarray(colour, np.float32) - self.colour)
        if gloss is not None:
            self.gloss += where * np.float32(gloss - 0.16)

    def darken(self, share: Floats) -> None:
        self.colour *= (1 - share)[:, None]


def paint_face(
    face: FaceTraits, x: Floats, t: Floats, z: Floats, mood: Expression, soft: float
) -> tuple[Floats, Floats]:
    """Colour [N, 3] (sRGB, 0..1) and gloss [N] of points of the head.

    ``x``, ``t``, ``z`` [N] in head heights (left, up from the chin, ahead); ``soft`` is a pixel's size in the same
    unit.
    """
    canvas = _Canvas(face.skin_colour, len(x), soft)
    grain = sample(noise_tile(), x * 1.3 + 0.3 * z, t * 1.3)
    canvas.darken(0.02 * grain)
    ahead = np.flatnonzero((z > 0.02) & (t < 0.85))
    part = _Canvas(face.skin_colour, 0, soft)
    part.colour, part.gloss = canvas.colour[ahead], canvas.gloss[ahead]
    px, pt, pz = x[ahead], t[ahead], z[ahead]
    ax = np.abs(px)
    _complexion(part, face, ax, px, pt)
    _beard(part, face, ax, px, pt)
    _mouth(part, face, px, ax, pt, mood)
    _nose(part, face, ax, pt)
    _eyes(part, face, px, ax, pt, mood)
    _brows(part, face, px, ax, pt)
    if face.glasses:
        _glasses(part, face, ax, pt, pz)
    canvas.colour[ahead], canvas.gloss[ahead] = part.colour, part.gloss
    return canvas.colour, canvas.gloss


def _spot(x: Floats, t: Floats, cx: float, ct: float, sx: float, st: float) -> Floats:
    return np.exp(-(((x - np.float32(cx)) / np.float32(sx)) ** 2) - ((t - np.float32(ct)) / np.float32(st)) ** 2)


def _complexion(c: _Canvas, face: FaceTraits, ax: Floats, x: Floats, t: Floats) -> None:
    eye, tip = eye_level(face), nose_tip(face)
    light = sum(face.skin_colour) / 3
    flush = np.float32(0.35 * light) * _spot(ax, t, 0.185, eye - 0.125, 0.075, 0.06)
    flush += np.float32(0.22 * light) * _spot(ax, t, 0.0, tip, 0.05, 0.04)
    rosy = np.array([1.02, 0.80, 0.78], np.float32)
    c.colour *= 1 + flush[:, None] * (rosy - 1)
    c.darken(0.22 * _spot(ax, t, face.eye_distance - 0.02, eye + 0.012, 0.085, 0.045))
    c.darken((0.05 + 0.15 * face.age) * _spot(ax, t, face.eye_distance - 0.01, eye - 0.055, 0.055, 0.014))
    if face.freckles:
        dots = np.clip(sample(noise_tile(), x * 9, t * 9) - 0.55, 0, 0.5)
        near = _spot(ax, t, 0.10, eye - 0.09, 0.13, 0.07)
        c.layer(np.clip(np.float32(2.2 * face.freckles) * dots * near, 0, 0.7), (0.52, 0.30, 0.18))
    wing = face.nose_width + 0.012
    along = np.clip((tip + 0.01 - t) / max(tip + 0.01 - face.mouth_height + 0.02, 0.05), 0, 1)
    fold = np.abs(ax - (wing + (face.mouth_width * 1.12 - wing) * along**1.2))
    inside = (t < tip + 0.015) & (t > face.mouth_height - 0.03)
    c.darken(np.float32(0.03 + 0.16 * face.age) * np.exp(-((fold / 0.008) ** 2)) * inside)
    if face.age > 0.45:
        lines = np.exp(-(((((t - 0.60) % 0.045) - 0.0225) / 0.005) ** 2)) * ((t > 0.61) & (t < 0.745))
        c.darken(np.float32(0.28 * (face.age - 0.4)) * lines * np.clip(1.4 - ax / 0.14, 0, 1))
        crow = np.abs(((t - eye) / np.maximum(ax - face.eye_distance - face.eye_width, 0.008)) % 0.9 - 0.45)
        reach = _spot(ax, t, face.eye_distance + face.eye_width * 1.55, eye, 0.030, 0.03)
        c.darken(np.float32(0.30 * face.age) * (crow < 0.12) * reach)


def _eyes(c: _Canvas, face: FaceTraits, x: Floats, ax: Floats, t: Floats, mood: Expression) -> None:
    eye = eye_level(face)
    sign = np.where(x > 0, np.float32(1), np.float32(-1))
    along = ax - np.float32(face.eye_distance)
    dx = along / np.float32(face.eye_width)
    up = t - np.float32(eye) - np.float32(math.tan(math.radians(face.eye_tilt))) * along
    height = face.eye_height * (0.25 + 0.75 * mood.lids)
    arc = np.clip(1 - np.abs(dx) ** 2.3, 0, 1)
    top, bottom = height * arc, -0.66 * face.eye_height * np.clip(1 - dx * dx, 0, 1) * (1 - 0.25 * max(mood.smile, 0))
    near = np.abs(dx) < 1.35
    c.darken(0.22 * c.edge(0.0025 - np.abs(up - top - 0.016 - 0.006 * arc)) * (near & (np.abs(dx) < 1.02)))
    c.darken(0.10 * np.exp(-(((up - top - 0.012) / 0.012) ** 2)) * near * arc)
    open_ = c.edge(np.minimum(top - up, up - bottom)) * (np.abs(dx) < 1)
    white = np.clip(0.80 + 0.17 * (top - up) / np.float32(face.eye_height), 0.62, 0.95) - 0.10 * np.abs(dx) ** 3
    c.layer(open_, white[:, None] * np.array([1.0, 0.985, 0.965], np.float32), 0.5)
    corner = open_ * np.clip(1 - (dx + 0.98) / 0.16, 0, 1)
    c.layer(0.6 * corner, (0.80, 0.48, 0.44))
    radius = 0.0285
    ix = along - sign * np.float32(mood.gaze[0] * face.eye_width)
    iy = up - np.float32((mood.gaze[1] + 0.10) * face.eye_height)
    r = np.sqrt(ix * ix + iy * iy) / np.float32(radius)
    streaks = 0.82 + 0.35 * np.clip(r, 0, 1) ** 2 * (0.6 + 0.4 * np.sin(23 * np.arctan2(iy, ix)))
    iris = np.array(EYE_COLOURS[face.eyes], np.float32) * (streaks * np.where(r > 0.86, 0.45, 1.15))[:, None]
    iris = iris * (1 - 0.35 * np.clip(iy / np.float32(radius), 0, 1))[:, None]
    c.layer(open_ * c.edge((1 - r) * np.float32(radius)), np.clip(iris, 0, 1), 0.6)
    c.layer(open_ * c.edge((0.43 - r) * np.float32(radius)), (0.02, 0.02, 0.025), 0.6)
    glint = np.sqrt((x - sign * np.float32(face.eye_distance) - 0.010) ** 2 + (iy - 0.010) ** 2)
    c.layer(0.95 * open_ * c.edge(0.0062 - glint), (1.0, 1.0, 1.0))
    lash = 0.0045 + 0.005 * np.clip(0.4 + dx, 0, 1.4) * (0.055 / max(face.eye_width, 0.05))
    c.layer(0.92 * c.edge(lash - np.abs(up - top - 0.4 * lash)) * (np.abs(dx) < 1.06), (0.07, 0.05, 0.05))
    c.layer(0.40 * c.edge(0.0022 - np.abs(up - bottom)) * (np.abs(dx) < 0.98), (0.30, 0.16, 0.13))


def _brows(c: _Canvas, face: FaceTraits, x: Floats, ax: Floats, t: Floats) -> None:
    along = ax - np.float32(face.eye_distance)
    s = along / 0.088
    middle = eye_level(face) + face.brow_height + math.tan(math.radians(face.brow_angle)) * along
    middle = middle - 0.020 * np.clip(s, -0.7, 1.2) ** 2
    thick = face.brow_thickness * np.clip(1.12 - 0.55 * np.clip(s, 0, 1) - 0.25 * np.clip(-s - 0.6, 0, 1), 0.2, 1.2)
    inside = np.minimum(thick - np.abs(t - middle), 0.35 * face.brow_thickness + (1 - np.abs(s)) * 0.088)
    strands = 0.82 + 0.25 * sample(noise_tile(), ax * 7 + t * 3, t * 1.5) * (c.soft < 0.006)
    hair = np.array(HAIR_COLOURS[face.hair], np.float32) * 0.62
    if face.hair in ("grey", "white"):
        hair = hair * 0.8
    c.layer(c.edge(inside) * np.clip(strands, 0, 0.95), hair, 0.1)


def _nose(c: _Canvas, face: FaceTraits, ax: Floats, t: Floats) -> None:
    tip = nose_tip(face)
    holes = _spot(ax, t, 0.46 * face.nose_width, tip - 0.033, 0.017, 0.0085)
    c.layer(np.clip(1.15 * holes - 0.1, 0, 0.78), (0.16, 0.07, 0.06))
    c.darken(0.22 * _spot(ax, t, 1.18 * face.nose_width, tip - 0.008, 0.009, 0.022))
    c.darken(0.18 * _spot(ax, t, 0.0, tip - 0.045, 0.05, 0.010))


def _mouth(c: _Canvas, face: FaceTraits, x: Floats, ax: Floats, t: Floats, mood: Expression) -> None:
    wide = face.mouth_width * (1 + 0.10 * mood.smile)
    u = ax / np.float32(wide)
    line = face.mouth_height + 0.022 * mood.smile * (u * u - 0.35)
    cupid = 1 - 0.28 * np.exp(-((u / 0.16) ** 2)) - 0.1 * u
    top = line + face.lips * np.clip(1 - u**1.9, 0, 1) * cupid
    bottom = line - 1.18 * face.lips * np.clip(1 - u**2.1, 0, 1)
    r, g, b = face.skin_colour
    bare = np.array([r * 0.86, g * 0.62, b * 0.62], np.float32)
    tint = np.array([0.72, 0.16, 0.20], np.float32)
    lips = bare + (tint - bare) * np.float32(0.55 * face.lip_tint)
    cover = c.edge(np.minimum(top - t, t - bottom)) * (u < 1)
    shade = np.clip(1.0 - 0.14 * (t > line) + 0.10 * np.exp(-(((t - line + 0.6 * face.lips) / 0.012) ** 2)), 0, 1.15)
    c.layer(0.92 * cover, np.clip(lips * shade[:, None], 0, 1), 0.34)
    c.layer(
        0.85 * c.edge(0.0036 - np.abs(t - line) - 0.0022 * u) * (u < 1.06),
        (0.26 * r + 0.06, 0.16 * g + 0.02, 0.16 * b + 0.02),
    )
    c.darken(0.20 * _spot(ax, t, 1.08 * wide, face.mouth_height + 0.012 * mood.smile, 0.014, 0.016))
    c.darken(0.16 * _spot(ax, t, 0.0, face.mouth_height - 1.75 * face.lips, 0.06, 0.012))


def _beard(c: _Canvas, face: FaceTraits, ax: Floats, x: Floats, t: Floats) -> None:
    if face.beard == "none":
        return
    mouth, tip = face.mouth_height, nose_tip(face)
    upper = np.minimum(tip - 0.040 - 0.35 * ax - t, t - mouth + 0.004 + 0.45 * ax * ax)
    upper = np.minimum(upper, 1.18 * face.mouth_width - ax - 0.4 * np.clip(mouth + 0.03 - t, 0, 1))
    cheek = 0.5 * np.clip(ax - 0.16, 0, 1) + mouth + 0.02 + 1.2 * np.clip(ax - 0.20, 0, 1)
    jaw = np.minimum(cheek - t, 0.5)
    around = np.maximum(ax - 1.12 * face.mouth_width, 0) > 0
    jaw = np.where(around | (t < mouth - 0.8 * face.lips), jaw, -1)
    chin = np.minimum(mouth - 1.5 * face.lips - t, 0.095 - ax)
    beside = np.minimum(0.018 - np.abs(ax - 1.12 * face.mouth_width), mouth + 0.03 - t)
    beside = np.minimum(beside, t - mouth + 0.06)
    cover = {
        "stubble": np.maximum(upper, jaw),
        "full": np.maximum(np.maximum(upper, jaw), beside),
        "moustache": upper,
        "goatee": np.maximum(
            upper, np.maximum(chin, np.minimum(0.016 - np.abs(ax - 1.1 * face.mouth_width), mouth + 0.02 - t))
        ),
    }[face.beard]
    ragged = cover + 0.008 * sample(noise_tile(), x * 6, t * 3)
    strands = 0.80 + 0.2 * sample(noise_tile(), x * 12, t * 2.5)
    strength = 0.34 if face.beard == "stubble" else 0.93
    hair = np.array(HAIR_COLOURS[face.hair], np.float32) * 0.8
    soft = 0.05 if face.beard == "stubble" else 0.018
    c.layer(strength * np.clip(ragged / soft + 0.3, 0, 1) * np.clip(strands, 0, 1), hair, 0.06)


def _glasses(c: _Canvas, face: FaceTraits, ax: Floats, t: Floats, z: Floats) -> None:
    dx = (ax - np.float32(face.eye_distance)) / 0.112
    dy = (t - np.float32(eye_level(face) - 0.008)) / 0.082
    ring = (dx**4 + dy**4) ** 0.25
    rim = c.edge(0.0085 - np.abs(ring - 1) * 0.09)
    c.layer(0.10 * c.edge((1 - ring) * 0.09), (0.75, 0.83, 0.92))
    bridge = c.edge(0.008 - np.abs(t - np.float32(eye_level(face) + 0.018))) * (ax < face.eye_distance - 0.10)
    temple = c.edge(0.009 - np.abs(t - np.float32(eye_level(face) + 0.02))) * (ax > face.eye_distance + 0.10)
    c.layer(np.clip(rim + bridge + temple, 0, 1), (0.07, 0.06, 0.07), 0.5)

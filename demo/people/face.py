"""A face: the traits that stay the same in every photo, the head they give, and its landmarks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .field import spline
from .surface import Mesh, join, lattice

Array = NDArray[np.float64]
Colour = tuple[float, float, float]

SKIN_TONES: dict[str, Colour] = {
    "porcelain": (0.96, 0.82, 0.75),
    "fair": (0.93, 0.76, 0.66),
    "light": (0.89, 0.69, 0.56),
    "olive": (0.80, 0.61, 0.46),
    "tan": (0.71, 0.51, 0.37),
    "brown": (0.55, 0.37, 0.26),
    "dark": (0.40, 0.26, 0.19),
    "deep": (0.29, 0.19, 0.15),
}
EYE_COLOURS: dict[str, Colour] = {
    "dark brown": (0.22, 0.13, 0.08),
    "brown": (0.38, 0.22, 0.11),
    "hazel": (0.45, 0.36, 0.17),
    "green": (0.29, 0.47, 0.29),
    "blue": (0.28, 0.48, 0.70),
    "grey": (0.45, 0.52, 0.57),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.06),
    "dark brown": (0.17, 0.11, 0.08),
    "brown": (0.31, 0.20, 0.12),
    "auburn": (0.42, 0.18, 0.10),
    "red": (0.66, 0.30, 0.13),
    "blond": (0.80, 0.64, 0.38),
    "ash blond": (0.66, 0.58, 0.45),
    "grey": (0.58, 0.57, 0.56),
    "white": (0.86, 0.85, 0.83),
}
HAIR_STYLES: tuple[str, ...] = ("bald", "buzz", "short", "side-part", "curly", "afro", "bob", "long", "ponytail", "bun")
BEARDS: tuple[str, ...] = ("none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class FaceTraits:
    """One person's face; lengths are shares of the head's height, angles in degrees."""

    skin: str
    skin_shift: Colour
    eyes: str
    hair: str
    hair_style: str
    beard: str
    glasses: bool
    freckles: float
    age: float  # 0 young, 1 old
    head_width: float
    face_length: float
    jaw_width: float
    chin_width: float
    chin_forward: float
    cheek: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_height: float
    brow_thickness: float
    brow_angle: float
    nose_length: float
    nose_width: float
    nose_forward: float
    nose_bridge: float
    mouth_width: float
    mouth_height: float
    lips: float
    lip_tint: float
    ear_size: float
    fringe: float  # how far the hair hangs over the forehead

    @property
    def skin_colour(self) -> Colour:
        """The skin's sRGB colour in 0..1."""
        r, g, b = (c + s for c, s in zip(SKIN_TONES[self.skin], self.skin_shift, strict=True))
        return r, g, b


def draw_face(rng: np.random.Generator) -> FaceTraits:
    """A face from an identity's own stream."""
    soft = rng.random() < 0.5
    skin = str(rng.choice(list(SKIN_TONES)))
    deep = skin in ("brown", "dark", "deep")
    age = float(rng.beta(1.3, 2.0))
    dark = ["black", "dark brown"] if deep else [c for c in HAIR_COLOURS if c not in ("grey", "white")]
    hair = str(rng.choice(["grey", "white"] if rng.random() < max(0.0, 1.6 * age - 0.8) else dark))
    styles = ("bob", "long", "ponytail", "bun", "side-part", "curly", "afro", "short")
    styles = styles if soft else ("bald", "buzz", "short", "short", "side-part", "curly", "afro", "long")
    n = rng.normal(0, 1, 24).clip(-2.2, 2.2)
    bearded = () if soft else tuple(BEARDS)
    eyes = ["dark brown", "brown"] if deep else list(EYE_COLOURS)
    return FaceTraits(
        skin=skin,
        skin_shift=(0.015 * float(n[20]), 0.012 * float(n[21]), 0.012 * float(n[22])),
        eyes=str(rng.choice(eyes)),
        hair=hair,
        hair_style=str(rng.choice(styles)),
        beard=str(rng.choice(bearded)) if bearded and rng.random() < 0.75 else "none",
        glasses=bool(rng.random() < 0.2),
        freckles=float(rng.random()) if rng.random() < 0.2 and not deep else 0.0,
        age=age,
        head_width=0.335 + 0.014 * float(n[0]),
        face_length=0.022 * float(n[1]),
        jaw_width=(0.262 if soft else 0.285) + 0.017 * float(n[2]),
        chin_width=(0.145 if soft else 0.175) + 0.017 * float(n[3]),
        chin_forward=0.008 + 0.014 * float(n[4]),
        cheek=0.012 + 0.011 * float(n[5]),
        eye_distance=0.142 + 0.0095 * float(n[6]),
        eye_width=(0.071 if soft else 0.066) + 0.0055 * float(n[7]),
        eye_height=(0.034 if soft else 0.028) + 0.0045 * float(n[8]),
        eye_tilt=1.5 + 4 * float(n[9]),
        brow_height=0.072 + 0.008 * float(n[10]),
        brow_thickness=(0.010 if soft else 0.015) + 0.0035 * float(n[11]),
        brow_angle=0.5 + 4.5 * float(n[12]),
        nose_length=0.165 + 0.014 * float(n[13]),
        nose_width=0.056 + 0.008 * float(n[14]),
        nose_forward=(0.082 if soft else 0.092) + 0.013 * float(n[15]),
        nose_bridge=0.034 + 0.010 * float(n[16]),
        mouth_width=0.108 + 0.012 * float(n[17]),
        mouth_height=0.205 + 0.011 * float(n[18]),
        lips=(0.030 if soft else 0.022) + 0.0055 * float(n[19]),
        lip_tint=float(rng.random()) * (1.0 if soft else 0.35),
        ear_size=1.0 + 0.1 * float(n[23]),
        fringe=float(rng.choice((0.0, 0.0, 0.03, 0.09))),
    )


EYE_LEVEL = 0.475


def eye_level(face: FaceTraits) -> float:
    """Height of the eyes above the chin, as a share of the head's height."""
    return EYE_LEVEL + 0.35 * face.face_length


def nose_tip(face: FaceTraits) -> float:
    """Height of the nose's tip above the chin, as a share of the head's height."""
    return eye_level(face) - 0.9 * face.nose_length + 0.02


def outline(face: FaceTraits, t: Array) -> tuple[Array, Array, Array]:
    """Half width, front and back [N] of the head at heights t (0 chin, 1 crown), as shares of the head's height."""
    w = face.head_width
    knots = (0.0, 0.03, 0.09, 0.20, 0.34, 0.50, 0.66, 0.80, 0.90, 0.965, 1.0)
    jaw, chin = face.jaw_width, face.chin_width
    width = spline(
        t, knots, (0.0, 0.56 * chin, 0.95 * chin, jaw, 0.955 * w, w, 1.01 * w, 0.93 * w, 0.73 * w, 0.45 * w, 0.0)
    )
    c = face.chin_forward
    front = spline(t, knots, (0.06, 0.275 + c, 0.33 + c, 0.345, 0.355, 0.362, 0.378, 0.35, 0.27, 0.165, 0.0))
    back = spline(t, knots, (0.0, 0.02, 0.06, 0.19, 0.33, 0.425, 0.46, 0.44, 0.345, 0.21, 0.0))
    return width, front, back


def _bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    return np.asarray(np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2))


def relief(face: FaceTraits, x: Array, t: Array) -> Array:
    """How far the face stands forward of its outline at (x, t), all as shares of the head's height."""
    ax = np.abs(x)
    eye, tip = eye_level(face), nose_tip(face)
    bridge = eye + 0.02
    along = np.clip((bridge - t) / (bridge - tip), 0, 1)
    ridge = face.nose_bridge * np.clip(along * 3, 0, 1) + (face.nose_forward - face.nose_bridge) * along**1.7
    ridge = ridge * np.where(t < tip, np.exp(-(((tip - t) / 0.022) ** 2)), 1.0)
    ridge = ridge * np.clip((bridge + 0.05 - t) / 0.05, 0, 1)
    spread = 0.020 + (face.nose_width * 0.62 - 0.020) * along**1.5
    out = ridge * np.exp(-(np.abs(ax / spread) ** 2.4))
    out += 0.030 * _bump(ax, t, face.nose_width * 0.72, tip - 0.004, 0.021, 0.022)  # wings
    out -= 0.034 * _bump(ax, t, face.eye_distance - 0.01, eye + 0.004, 0.062, 0.040)  # sockets
    out += 0.019 * _bump(ax, t, face.eye_distance, eye, 0.040, 0.034)  # eyeballs under their lids
    out += 0.010 * _bump(ax, t, 0.13, eye + face.brow_height, 0.09, 0.024)
    out += face.cheek * _bump(ax, t, 0.19, eye - 0.105, 0.07, 0.06)
    mouth, wide = face.mouth_height, face.mouth_width
    out += 0.017 * _bump(ax, t, 0.0, mouth, 1.15 * wide, 0.075)  # the teeth behind
    out += 0.62 * face.lips * _bump(ax, t, 0.0, mouth + 0.42 * face.lips, 0.75 * wide, 0.42 * face.lips)
    out += 0.70 * face.lips * _bump(ax, t, 0.0, mouth - 0.55 * face.lips, 0.62 * wide, 0.48 * face.lips)
    out -= 0.40 * face.lips * _bump(ax, t, 0.0, mouth - 0.02 * face.lips, 0.9 * wide, 0.14 * face.lips)
    out -= 0.012 * _bump(ax, t, 0.0, mouth - 1.9 * face.lips, 0.5 * wide, 0.02)
    out -= 0.008 * _bump(ax, t, 0.0, mouth + 1.5 * face.lips, 0.012, 0.02)  # philtrum
    return np.asarray(out)


def surface_points(face: FaceTraits, x: Array, t: Array) -> Array:
    """Points [N, 3] of the face's front at (x, t), in head heights from the head's origin (chin level, mid-axis)."""
    width, front, _ = outline(face, t)
    s = np.clip(np.abs(x) / np.maximum(width, 1e-6), 0, 1)
    return np.stack([x, t, front * (1 - s**2) ** 0.42 + relief(face, x, t)], 1)


@lru_cache(maxsize=256)
def landmarks(face: FaceTraits) -> dict[str, Array]:
    """Points of the face [3] in head heights: eyes, nose, mouth corners and ears; left is the person's left.

    The nose's point lies 0.025 under its tip's skin, so that in profile it falls on the nose and not beside it.
    """
    eye, ear, corner = eye_level(face), 0.43, 0.94 * face.mouth_width
    x = np.array([0.0, face.eye_distance, -face.eye_distance, corner, -corner])
    t = np.array([nose_tip(face), eye, eye, face.mouth_height, face.mouth_height])
    names = ("nose", "left_eye", "right_eye", "left_mouth", "right_mouth")
    out = dict(zip(names, surface_points(face, x, t), strict=True))
    out["nose"] = out["nose"] - np.array([0, 0, 0.025])
    width = float(outline(face, np.array([ear]))[0][0])
    for side, sign in (("left", 1), ("right", -1)):
        out[f"{side}_ear"] = np.array([sign * (width + 0.02 * face.ear_size), ear, -0.02])
    return out


@lru_cache(maxsize=256)
def region(face: FaceTraits) -> Array:
    """Points [N, 3] spread over the face (hairline to chin, cheek to cheek), in head heights."""
    t, s = (v.ravel() for v in np.meshgrid(np.linspace(0.03, 0.76, 13), np.linspace(-0.86, 0.86, 11), indexing="ij"))
    return surface_points(face, s * outline(face, t)[0], t)


def _ear(face: FaceTraits, sign: int, rows: int, part: int) -> Mesh:
    width = float(outline(face, np.array([0.45]))[0][0])
    polar = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    round_ = np.linspace(0, 2 * np.pi, 2 * rows, endpoint=False)[None]
    x = 0.5 * np.cos(polar) * np.sin(round_)
    z = np.cos(polar) * np.cos(round_)
    y = np.sin(polar) * (1 + 0 * round_)
    hollow = np.exp(-((y / 0.55) ** 2) - (((z - 0.15) / 0.5) ** 2))
    x = np.where(x > 0, x * (1 - 0.75 * hollow), x)
    half = np.array([0.050, 0.088, 0.050]) * face.ear_size
    x, y, z = x * half[0], y * half[1], z * half[2] * (0.8 + 0.2 * y)
    x, z = x + 0.30 * -z, z
    points = np.stack([sign * (x + width - 0.003), y + 0.43 + 0.15 * 0, z - 0.025 - 0.12 * -y], -1)
    mesh = lattice(points, part)
    return mesh if sign > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1].copy(), mesh.part)


@lru_cache(maxsize=64)
def head_mesh(face: FaceTraits, rows: int, part: int) -> Mesh:
    """The head without hair, in head heights: a loft with a relief for the face; ``rows`` sets how fine it is."""
    u = np.linspace(0, 1, rows)
    t = (0.5 - 0.5 * np.cos(np.pi * u)) * 0.45 + 0.55 * u
    turn = np.linspace(-np.pi, np.pi, int(rows * 1.5), endpoint=False)
    phi = turn - 0.45 * np.sin(turn)  # closer columns in front
    width, front, back = (v[:, None] for v in outline(face, t))
    c, s = np.cos(phi)[None], np.sin(phi)[None]
    x = width * np.sign(s) * np.abs(s)
    z = np.where(c > 0, front * np.abs(c) ** 0.84, -back * np.abs(c) ** 0.92)
    ahead = np.clip(c * 2.2, 0, 1)
    tt = np.broadcast_to(t[:, None], x.shape)
    z = z + relief(face, x, tt) * ahead * (np.minimum(t, 1 - t)[:, None] > 1e-6)
    lift = 0.16 * np.clip(1 - t / 0.28, 0, 1)[:, None] ** 1.3 * np.clip(0.24 - z, 0, 0.4) / 0.3  # under the chin
    points = np.stack([x, tt + lift, z], -1)
    ears = [_ear(face, sign, max(6, rows // 6), part) for sign in (1, -1)]
    return join([lattice(points, part), *ears])

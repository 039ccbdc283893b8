"""Hair: a shell round the head whose thickness and line depend on the style."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .face import FaceTraits, outline
from .field import spline
from .surface import Mesh, join, lattice

Array = NDArray[np.float64]

# Thickness of the shell (head heights), and how far down the sides and back it hangs (share of head height, 0 chin).
_STYLE: dict[str, tuple[float, float]] = {
    "buzz": (0.012, 0.2),
    "short": (0.045, 0.2),
    "side-part": (0.055, 0.2),
    "curly": (0.085, 0.16),
    "afro": (0.17, 0.14),
    "bob": (0.055, -0.02),
    "long": (0.055, -0.75),
    "ponytail": (0.028, 0.2),
    "bun": (0.028, 0.2),
}
HANGING: tuple[str, ...] = ("bob", "long")


def _line(face: FaceTraits, phi: Array) -> Array:
    """Height of the hairline at each angle from the front, radians."""
    angle = np.degrees(np.abs(phi))
    low = _STYLE[face.hair_style][1]
    ragged = 0.012 * np.sin(7 * phi + 1) + 0.008 * np.sin(17 * phi)
    if face.hair_style in ("bob", "long", "side-part", "short"):
        ragged = ragged - face.fringe * np.exp(-((angle / 48) ** 4))
    high = 0.785 + 0.05 * face.age * (face.hair_style in ("buzz", "short", "side-part"))
    if face.hair_style in HANGING:
        line = spline(angle, (0, 30, 52, 66, 80, 180), (high + 0.02, high - 0.01, high - 0.08, 0.45, low, low))
        return line + ragged
    knots = (0, 30, 55, 72, 84, 93, 104, 125, 180)
    line = spline(angle, knots, (high, high + 0.005, high - 0.03, 0.64, 0.44, 0.52, 0.42, low + 0.04, low))
    return line + ragged


def _ripple(face: FaceTraits, phi: Array, t: Array) -> Array:
    if face.hair_style in ("curly", "afro"):
        wave = np.sin(19 * phi + 5 * np.sin(23 * t)) * np.sin(31 * t + 4 * np.sin(7 * phi))
        return np.asarray(1 + (0.22 if face.hair_style == "curly" else 0.10) * wave)
    wave = np.sin(23 * phi + 3 * t) * 0.5 + np.sin(41 * phi - 2 * t + 1) * 0.3
    return np.asarray(1 + 0.10 * wave)


def _shell(face: FaceTraits, rows: int) -> tuple[Array, Array, Array]:
    """Points [R, C, 3] of the shell, with their heights t [R, C] and angles [R, C]."""
    thick, low = _STYLE[face.hair_style]
    hanging = face.hair_style in HANGING
    bottom = min(low, 0.02) if hanging else 0.02
    t = bottom + (1 - bottom) * (1 - (1 - np.linspace(0, 1, rows)) ** 1.6)
    phi = np.linspace(-np.pi, np.pi, int(rows * 1.4), endpoint=False)
    held = np.maximum(t, 0.47) if hanging else t
    width, front, back = (v[:, None] for v in outline(face, held))
    tt, pp = np.meshgrid(t, phi, indexing="ij")
    over = np.clip((tt - _line(face, phi)[None]) / 0.07, -1, 1)
    grown = thick * _ripple(face, pp, tt) * np.sqrt(np.clip(over, 0, 1)) - 0.045 * np.clip(-over, 0, 1)
    if face.hair_style == "side-part":
        grown += 0.025 * np.exp(-(((pp + 0.5) / 0.8) ** 2)) * np.clip((tt - 0.75) * 5, 0, 1) * (over > 0)
        grown -= 0.035 * np.exp(-(((pp - 0.75) / 0.06) ** 2)) * (over > 0) * np.clip((tt - 0.7) * 8, 0, 1)
    grown = np.where(over > 0, grown + 0.006, grown)
    if hanging:
        fall = np.clip(0.45 - tt, 0, 2)
        grown += np.where(over > 0, 0.03 * np.sqrt(fall) * (1 + 0.5 * np.sin(3 * np.abs(pp))), 0)
    c, s = np.cos(pp), np.sin(pp)
    x = width * s
    z = np.where(c > 0, front * np.abs(c) ** 0.86, -back * np.abs(c) ** 0.92)
    if hanging:  # the curtain's front edge lies beside the neck, not before it
        z -= 0.16 * np.clip(0.32 - tt, 0, 1) * (c > -0.3)
    out = np.stack([x / 0.115, np.clip(tt - 0.55, 0 if hanging else -1, 1) / 0.19, (z + 0.04) / 0.16], -1)
    out /= np.sqrt((out * out).sum(-1, keepdims=True)) + 1e-9
    return np.stack([x, tt, z], -1) + out * grown[..., None], tt, pp


def _ball(centre: tuple[float, float, float], half: tuple[float, float, float], rows: int, part: int) -> Mesh:
    polar = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    turn = np.linspace(0, 2 * np.pi, 2 * rows, endpoint=False)[None]
    points = np.stack([np.cos(polar) * np.sin(turn), np.sin(polar) + 0 * turn, np.cos(polar) * np.cos(turn)], -1)
    return lattice(points * np.array(half) + np.array(centre), part)


def _tail(rows: int, part: int) -> Mesh:
    """A ponytail: a tube along a falling curve behind the head."""
    s = np.linspace(0, 1, rows)[:, None]
    turn = np.linspace(0, 2 * np.pi, rows, endpoint=False)[None]
    radius = 0.10 * np.sin(np.pi * np.clip(s * 0.86 + 0.12, 0, 1)) ** 0.7 * (1 - 0.35 * s)
    y = 0.74 - 0.72 * s + 0.08 * np.sin(np.pi * np.clip(2.2 * s, 0, 1))
    z = -0.44 - 0.17 * np.sin(np.pi * np.clip(s * 1.1, 0, 1)) - 0.02 * s
    points = np.stack([radius * np.sin(turn), y + 0.3 * radius * np.cos(turn), z + radius * np.cos(turn)], -1)
    mesh = lattice(points, part)
    return Mesh(mesh.vertices, mesh.faces[:, ::-1].copy(), mesh.part)


@lru_cache(maxsize=64)
def hair_mesh(face: FaceTraits, rows: int, part: int) -> Mesh | None:
    """The hair in head heights in the head's frame, or None where there is none."""
    if face.hair_style == "bald":
        return None
    points, t, phi = _shell(face, rows)
    mesh = lattice(points, part)
    corner = np.ravel(t - _line(face, phi))
    kept = corner[mesh.faces].max(1) > -0.16
    faces = mesh.faces[kept]
    shell = Mesh(mesh.vertices, faces, np.full(len(faces), part, np.int32))
    if face.hair_style in HANGING:  # the curtain has an inner side, with vertices and so normals of its own
        shell = join([shell, Mesh(mesh.vertices, faces[:, ::-1].copy(), shell.part)])
    small = max(8, rows // 4)
    if face.hair_style == "bun":
        return join([shell, _ball((0, 0.98, -0.24), (0.13, 0.11, 0.13), small, part)])
    if face.hair_style == "ponytail":
        return join([shell, _tail(max(10, rows // 2), part)])
    return shell

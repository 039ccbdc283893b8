"""What people sit on, lie on and lean against, and what stands in an empty room."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .pose import BED_HEIGHT, MAT_HEIGHT, SEAT_HEIGHT
from .surface import Mesh, box, join, lattice, turn
from .texture import noise_tile, sample

Colour = tuple[float, float, float]

WOODS: tuple[Colour, ...] = ((0.55, 0.38, 0.25), (0.72, 0.56, 0.38), (0.30, 0.21, 0.16), (0.88, 0.87, 0.84))
FABRICS: tuple[Colour, ...] = ((0.30, 0.37, 0.48), (0.62, 0.57, 0.48), (0.45, 0.28, 0.28), (0.35, 0.42, 0.34))
SEATS: tuple[str, ...] = ("stool", "box", "bench", "chair")


@dataclass(frozen=True)
class Piece:
    """A piece of furniture in the scene: mesh in metres, its colours, and whether it is wood or cloth."""

    name: str
    mesh: Mesh
    colour: Colour
    wooden: bool


def cylinder(radius: float, low: float, high: float, part: int, sides: int = 28) -> Mesh:
    """An upright cylinder with flat ends."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], -1) * radius

    def at(height: float, scale: float) -> NDArray[np.float64]:
        return np.asarray(ring * scale + np.array([0, height, 0]))

    side = lattice(np.stack([at(low, 1), at(high, 1)]), part)
    top = lattice(np.stack([at(high, 1), at(high, 1e-4)]), part)
    return join([side, top])


def place_mesh(mesh: Mesh, yaw: float, x: float, z: float) -> Mesh:
    """A mesh turned about the vertical by ``yaw`` degrees and put at (x, z)."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    axes = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return Mesh(turn(mesh.vertices, axes) + np.array([x, 0, z], np.float32), mesh.faces, mesh.part)


def seat(kind: str, tint: float, part: int) -> Piece:
    """A stool, box, bench or chair whose top is at `SEAT_HEIGHT`; the sitter faces +z from the origin."""
    h = SEAT_HEIGHT
    wood = WOODS[int(tint * len(WOODS))]
    if kind == "stool":
        legs = [
            box((x - 0.018, 0, z - 0.018), (x + 0.018, h - 0.04, z + 0.018), part)
            for x in (-0.13, 0.13)
            for z in (-0.13, 0.13)
        ]
        return Piece(kind, join([cylinder(0.20, h - 0.045, h, part), *legs]), wood, True)
    if kind == "box":
        return Piece(kind, box((-0.24, 0, -0.26), (0.24, h, 0.20), part), FABRICS[int(tint * 4)], False)
    wide, deep = (0.62, 0.20) if kind == "bench" else (0.22, 0.22)
    legs = [
        box((x - 0.022, 0, z - 0.022), (x + 0.022, h - 0.04, z + 0.022), part)
        for x in (-wide + 0.06, wide - 0.06)
        for z in (-deep + 0.03, deep - 0.03)
    ]
    parts = [box((-wide, h - 0.045, -deep), (wide, h, deep), part), *legs]
    if kind == "chair":
        parts += [box((x - 0.018, h, -0.235), (x + 0.018, h + 0.42, -0.20), part) for x in (-0.19, 0.19)]
        parts += [box((-0.19, h + y, -0.232), (0.19, h + y + 0.07, -0.208), part) for y in (0.16, 0.33)]
    return Piece(kind, join(parts), wood, True)


def bed(tint: float, part: int) -> Piece:
    """A low bed along z, its head at -z; its top is at `BED_HEIGHT`."""
    mattress = box((-0.52, 0.10, -1.10), (0.52, BED_HEIGHT, 1.02), part)
    base = box((-0.54, 0, -1.12), (0.54, 0.10, 1.04), part)
    return Piece("bed", join([mattress, base]), FABRICS[int(tint * 4)], False)


def mat(tint: float, part: int) -> Piece:
    """A mat along z on the ground; its top is at `MAT_HEIGHT`."""
    return Piece("mat", box((-0.50, 0, -1.08), (0.50, MAT_HEIGHT, 1.0), part), FABRICS[int(tint * 4)], False)


def pillar(part: int, tint: float) -> Piece:
    """An upright post to lean against, 0.4 m square, its face at x = 0 and its body beyond it."""
    post = box((0.0, 0, -0.20), (0.40, 2.6, 0.20), part)
    shade = 0.62 + 0.25 * tint
    return Piece("pillar", post, (shade, shade * 0.98, shade * 0.94), False)


def cabinet(part: int, tint: float) -> Piece:
    """A low cabinet with a pot on it."""
    body = box((-0.55, 0.10, -0.2), (0.55, 0.78, 0.2), part)
    feet = [box((x - 0.03, 0, -0.15), (x + 0.03, 0.1, 0.15), part) for x in (-0.48, 0.48)]
    pot = cylinder(0.09, 0.78, 0.98, part)
    return Piece("cabinet", join([body, *feet, pot]), WOODS[int(tint * 4)], True)


def paint_furniture(piece: Piece, p: Floats) -> Floats:
    """Colour [N, 3] of points [N, 3] of a piece."""
    if piece.wooden:
        grain = sample(noise_tile(), p[:, 0] * 0.6 + p[:, 2] * 0.2, p[:, 1] * 2.7 + p[:, 2] * 2.3)
        return np.array(piece.colour, np.float32) * (1 + 0.08 * grain)[:, None]
    weave = sample(noise_tile(), p[:, 0] * 1.7 + p[:, 1], p[:, 2] * 1.7 + p[:, 1] * 0.6)
    return np.array(piece.colour, np.float32) * (1 + 0.05 * weave)[:, None]

"""Hands and shoes: rigid meshes made once and then scaled and placed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .field import Cone, Ellipsoid, Grid
from .pose import Frame
from .surface import Mesh, surface_nets

Array = NDArray[np.float64]

# (knuckle, middle joint, tip) of each finger of a left hand of length 1: x away from the body, y up the arm, z ahead.
_FINGERS: tuple[tuple[tuple[float, float, float], ...], ...] = (
    ((0.00, -0.50, 0.145), (-0.045, -0.70, 0.165), (-0.12, -0.87, 0.155)),
    ((0.01, -0.52, 0.050), (-0.045, -0.75, 0.055), (-0.13, -0.95, 0.050)),
    ((0.01, -0.51, -0.045), (-0.050, -0.72, -0.050), (-0.14, -0.90, -0.045)),
    ((0.00, -0.47, -0.135), (-0.050, -0.64, -0.150), (-0.13, -0.77, -0.145)),
)
_THUMB = ((-0.03, -0.12, 0.10), (-0.075, -0.33, 0.235), (-0.09, -0.53, 0.265))


def _at(point: tuple[float, float, float]) -> Array:
    return np.array(point)


@lru_cache(maxsize=8)
def left_hand(step: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A relaxed left hand of length 1 hanging from its wrist, as vertices and faces."""
    grid = Grid.around(np.array([-0.3, -1.08, -0.3]), np.array([0.2, 0.1, 0.4]), step)
    frame = Frame(np.zeros(3), np.eye(3))
    Cone(_at((0, 0.0, 0)), _at((0, -0.1, 0)), 0.135, 0.12).add(grid, 0)
    Ellipsoid(frame, (0.0, -0.29, 0.0), (0.085, 0.28, 0.205)).add(grid, 0.1)
    for knuckle, middle, tip in _FINGERS:
        width = 0.052 if knuckle[2] > -0.1 else 0.045
        Cone(_at(knuckle), _at(middle), width * 1.12, width).add(grid, 0.03)
        Cone(_at(middle), _at(tip), width, width * 0.8).add(grid, 0.012)
    Cone(_at(_THUMB[0]), _at(_THUMB[1]), 0.085, 0.062).add(grid, 0.06)
    Cone(_at(_THUMB[1]), _at(_THUMB[2]), 0.06, 0.045).add(grid, 0.012)
    return surface_nets(grid.values, grid.origin, step)


def hand(length: float, left: bool, fine: bool, part: int) -> Mesh:
    """A hand in its own frame, metres."""
    vertices, faces = left_hand(0.024 if fine else 0.05)
    scale = np.array([length if left else -length, length, length], np.float32)
    faces = faces if left else faces[:, ::-1]
    return Mesh(vertices * scale, np.ascontiguousarray(faces), np.full(len(faces), part, np.int32))


@lru_cache(maxsize=8)
def _shoe(kind: str, step: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A shoe of length 1 whose sole lies at y = -0.3, the ankle at the origin."""
    grid = Grid.around(np.array([-0.3, -0.34, -0.42]), np.array([0.3, 0.5, 0.86]), step)
    frame = Frame(np.zeros(3), np.eye(3))
    Ellipsoid(frame, (0, -0.17, -0.10), (0.155, 0.19, 0.19)).add(grid, 0)
    Cone(_at((0, -0.04, -0.02)), _at((0.015, -0.20, 0.46)), 0.15, 0.105).add(grid, 0.08)
    Ellipsoid(frame, (0.015, -0.24, 0.46), (0.195, 0.125, 0.255)).add(grid, 0.1)
    Ellipsoid(frame, (0.0, -0.26, 0.12), (0.15, 0.11, 0.32)).add(grid, 0.08)
    top = {"sneakers": 0.06, "boots": 0.36, "shoes": 0.02}[kind]
    Cone(_at((0, -0.1, -0.02)), _at((0, top, -0.03)), 0.165, 0.16 + 0.03 * (kind == "boots"), flat=True).add(grid, 0.06)
    x, y, z = grid.local(
        (slice(0, grid.values.shape[0]), slice(0, grid.values.shape[1]), slice(0, grid.values.shape[2])), frame
    )
    np.maximum(grid.values, -0.3 - y + 0 * x + 0 * z, out=grid.values)
    if kind != "boots":
        return surface_nets(grid.values, grid.origin, step)
    return surface_nets(grid.values, grid.origin, step)


def shoe(kind: str, length: float, ankle: float, fine: bool, part: int) -> Mesh:
    """A shoe in the foot's frame, metres; its sole is ``ankle`` below the ankle joint."""
    vertices, faces = _shoe(kind, 0.032 if fine else 0.06)
    scale = np.array([length, ankle / 0.3, length], np.float32)
    return Mesh(vertices * scale, faces, np.full(len(faces), part, np.int32))

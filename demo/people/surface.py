"""From a distance field to a triangle mesh (naive surface nets), and meshes as records."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, Ints, normalise


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh: vertices [V, 3] metres, faces [T, 3] counter-clockwise from outside, part [T] codes."""

    vertices: Floats
    faces: Ints
    part: Ints

    def moved(self, axes: NDArray[np.float64], origin: NDArray[np.float64]) -> "Mesh":
        """The mesh turned by ``axes`` [3, 3] (columns are the local axes) and moved to ``origin`` [3]."""
        return Mesh(turn(self.vertices, axes) + origin.astype(np.float32), self.faces, self.part)


def turn(points: Floats, axes: NDArray[np.float64]) -> Floats:
    """Rotate points [N, 3] by ``axes`` without BLAS, whose sums may depend on the number of threads."""
    m = axes.astype(np.float32)
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    return np.stack([m[i, 0] * x + m[i, 1] * y + m[i, 2] * z for i in range(3)], 1)


def join(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    start = np.cumsum([0] + [len(m.vertices) for m in meshes])
    faces = [m.faces + np.int32(s) for m, s in zip(meshes, start, strict=False)]
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate(faces).astype(np.int32),
        np.concatenate([m.part for m in meshes]),
    )


def normals(vertices: Floats, faces: Ints) -> Floats:
    """Area-weighted unit normals [V, 3]."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    u, v = b - a, c - a
    count = len(vertices)
    corner = faces.T.ravel()
    out = np.empty((count, 3), np.float32)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        face = u[:, j] * v[:, k] - u[:, k] * v[:, j]
        out[:, i] = np.bincount(corner, np.tile(face, 3), count)
    normalise(out)
    return out


_CORNERS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]


def _cell_points(values: Floats) -> Floats:
    """Mean of the edge crossings of each cell [N, 8] -> [N, 3] in cell units, then one Newton step to the surface."""
    total = np.zeros((len(values), 3), np.float32)
    count = np.zeros(len(values), np.float32)
    for a, b in _EDGES:
        va, vb = values[:, a], values[:, b]
        crosses = (va < 0) != (vb < 0)
        t = np.where(crosses, va / np.where(crosses, va - vb, 1), 0)
        step = (_CORNERS[b] - _CORNERS[a]).astype(np.float32)
        at = _CORNERS[a].astype(np.float32) + t[:, None] * step
        total += np.where(crosses[:, None], at, 0)
        count += crosses
    return total / count[:, None]


def surface_nets(field: Floats, origin: NDArray[np.float64], step: float) -> tuple[Floats, Ints]:
    """Triangulate the zero set of ``field`` [X, Y, Z], negative inside (Gibson 1998, in the naive form).

    Returns vertices [V, 3] and faces [T, 3]; one vertex for each cell that the surface crosses.
    """
    inside = field < 0
    any_in, all_in = inside, inside
    for axis in range(3):
        lo = tuple(slice(0, -1) if i == axis else slice(None) for i in range(3))
        hi = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        any_in, all_in = any_in[lo] | any_in[hi], all_in[lo] & all_in[hi]
    cells = np.flatnonzero(any_in & ~all_in)
    shape = any_in.shape
    ijk = np.stack(np.unravel_index(cells, shape), 1)
    _, ny, nz = field.shape
    base = (ijk[:, 0] * ny + ijk[:, 1]) * nz + ijk[:, 2]
    offsets = (_CORNERS[:, 0] * ny + _CORNERS[:, 1]) * nz + _CORNERS[:, 2]
    values = field.ravel()[base[:, None] + offsets[None]]
    vertices = (ijk + _cell_points(values)).astype(np.float32) * np.float32(step) + origin.astype(np.float32)
    number = np.full(any_in.size, -1, np.int32)
    number[cells] = np.arange(len(cells), dtype=np.int32)
    return vertices, _faces(inside, number, shape)


def _faces(inside: NDArray[np.bool_], number: Ints, shape: tuple[int, ...]) -> Ints:
    """Two triangles for each grid edge that the surface crosses, joining the four cells round that edge."""
    stride = (shape[1] * shape[2], shape[2], 1)
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        lo = tuple(slice(0, -1) if i == axis else slice(1, -1) for i in range(3))
        hi = tuple(slice(1, None) if i == axis else slice(1, -1) for i in range(3))
        a, b = inside[lo], inside[hi]
        at = np.stack(np.nonzero(a != b), 0)
        leaving = a[tuple(at)]
        at[u] += 1
        at[v] += 1
        cell = at[0] * stride[0] + at[1] * stride[1] + at[2]
        q = [cell - stride[u] - stride[v], cell - stride[v], cell, cell - stride[u]]
        corners = number[np.stack(q, 1)]
        quads.append(np.where(leaving[:, None], corners, corners[:, ::-1]))
    quad = np.concatenate(quads)
    return np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])


def box(low: tuple[float, float, float], high: tuple[float, float, float], part: int) -> Mesh:
    """An axis-aligned box with flat sides (24 vertices, so that normals stay flat)."""
    vertices: list[list[float]] = []
    faces: list[tuple[int, ...]] = []
    for axis in range(3):
        for side in (0, 1):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
            start = len(vertices)
            for cu, cv in corners:
                point = [0.0, 0.0, 0.0]
                point[axis] = (low, high)[side][axis]
                point[u], point[v] = (low, high)[cu][u], (low, high)[cv][v]
                vertices.append(point)
            order = [(0, 1, 2), (0, 2, 3)] if side else [(0, 2, 1), (0, 3, 2)]
            faces += [tuple(start + i for i in tri) for tri in order]
    return Mesh(np.array(vertices, np.float32), np.array(faces, np.int32), np.full(len(faces), part, np.int32))


def lattice(points: Floats, part: int, *, closed: bool = True) -> Mesh:
    """A mesh over a grid of points [R, C, 3]: rows go up, columns go round (seen from above, counter-clockwise)."""
    rows, columns = points.shape[:2]
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    nxt = (c + 1) % columns
    a, b, d, e = r * columns + c, r * columns + nxt, (r + 1) * columns + nxt, (r + 1) * columns + c
    faces = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, e], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), np.full(len(faces), part, np.int32))

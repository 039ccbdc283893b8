"""A triangle rasteriser in numpy: rows, then spans, then a depth test; no per-pixel work outside the triangles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, Ints


@dataclass(frozen=True)
class Fragments:
    """The surface seen by each pixel that a triangle covers."""

    pixel: NDArray[np.int64]  # [N] flat index, y * width + x
    triangle: Ints  # [N]
    nearness: Floats  # [H*W] 1/depth of the nearest surface, 0 where there is none
    weights: Floats  # [N, 3] perspective-correct barycentric weights


def _ranges(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owner and running number of each element of runs of the given lengths."""
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - first[owner]


def _edges(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Coefficients a, b, c [3, T] of the half-planes a*x + b*y + c >= 0 opposite each corner.

    Two triangles that share an edge get exact negatives, so that no pixel falls between them.
    """
    nx, ny, mx, my = x[[1, 2, 0]], y[[1, 2, 0]], x[[2, 0, 1]], y[[2, 0, 1]]
    return ny - my, mx - nx, nx * my - mx * ny


def _spans(
    edges: tuple[NDArray[np.float64], ...], owner: NDArray[np.int64], row: NDArray[np.float64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.zeros(len(owner))
    high = np.full(len(owner), float(width))
    for a, b, c in zip(*edges, strict=True):
        slope = a[owner]
        with np.errstate(divide="ignore", invalid="ignore"):
            at = -(b[owner] * row + c[owner]) / slope
        np.maximum(low, at, out=low, where=slope > 0)
        np.minimum(high, at, out=high, where=slope < 0)
    start = np.ceil(low - 0.5).astype(np.int64)
    return start, np.maximum(np.ceil(np.minimum(high, width) - 0.5).astype(np.int64) - start, 0)


def rasterize(
    screen: NDArray[np.float64], nearness: NDArray[np.float64], faces: Ints, size: tuple[int, int]
) -> Fragments:
    """Cover pixels with front-facing triangles and keep the nearest one of each pixel.

    ``screen`` [V, 2] pixels with y down, pixel centres at .5; ``nearness`` [V] 1/depth (or any quantity that is
    affine over the screen and larger when nearer), <= 0 behind the camera; ``faces`` [T, 3], counter-clockwise
    seen from outside; ``size`` (width, height).
    """
    width, height = size
    x, y, near = screen[faces, 0].T, screen[faces, 1].T, nearness[faces].T
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    top = np.clip(np.ceil(y.min(0) - 0.5), 0, height).astype(np.int64)
    rows = np.clip(np.ceil(y.max(0) - 0.5), 0, height).astype(np.int64) - top
    kept = np.flatnonzero((area < -1e-9) & (rows > 0) & (near.min(0) > 0) & (x.max(0) > 0) & (x.min(0) < width))
    # Screen y points down, so a front face is clockwise here: swap two corners to make its half-planes positive.
    x, y, near = x[[0, 2, 1]][:, kept], y[[0, 2, 1]][:, kept], near[[0, 2, 1]][:, kept]
    edges = _edges(x, y)
    over = -1.0 / area[kept]
    dx, dy, at0 = ((e * near).sum(0) * over for e in edges)
    owner, k = _ranges(rows[kept])
    line = top[kept][owner] + k
    start, count = _spans(edges, owner, line + 0.5, width)
    row, k = _ranges(count)
    first = at0[owner] + dy[owner] * (line + 0.5) + dx[owner] * (start + 0.5)
    value = first.astype(np.float32)[row] + dx.astype(np.float32)[owner][row] * k.astype(np.float32)
    pixel = (line * width + start)[row] + k
    buffer = np.zeros(width * height, np.float32)
    np.maximum.at(buffer, pixel, value)
    won = np.flatnonzero(buffer[pixel] == value)
    chosen = np.full(width * height, -1, np.int32)
    chosen[pixel[won]] = owner[row[won]]
    hit = np.flatnonzero(chosen >= 0)
    local = chosen[hit]
    weights = _weights(edges, near, over, local, hit, width)
    return Fragments(hit, kept[local].astype(np.int32), buffer, weights[:, [0, 2, 1]])


def _weights(
    edges: tuple[NDArray[np.float64], ...],
    near: NDArray[np.float64],
    over: NDArray[np.float64],
    local: Ints,
    hit: NDArray[np.int64],
    width: int,
) -> Floats:
    a, b, c = edges
    px, py = (hit % width + 0.5), (hit // width + 0.5)
    share = np.stack(
        [
            ((a[i] * over * near[i])[local] * px + (b[i] * over * near[i])[local] * py + (c[i] * over * near[i])[local])
            for i in range(3)
        ],
        1,
    ).astype(np.float32)
    np.clip(share, 0, None, out=share)
    share /= np.maximum(share[:, 0] + share[:, 1] + share[:, 2], 1e-20)[:, None]
    return share

"""Distance fields on a grid: rounded cones, ellipsoids and lofts, joined by smooth unions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .pose import Frame

Array = NDArray[np.float64]
Window = tuple[slice, slice, slice]
FAR = np.float32(1.0)


@dataclass
class Grid:
    """A block of space: ``origin`` [3] metres, ``step`` metres, ``values`` [X, Y, Z] signed distances."""

    origin: Array
    step: float
    values: Floats

    @classmethod
    def around(cls, low: Array, high: Array, step: float) -> "Grid":
        """An empty grid that holds the box with two cells to spare."""
        count = np.ceil((high - low) / step).astype(int) + 5
        return cls(low - 2 * step, step, np.full(tuple(count), FAR, np.float32))

    def like(self) -> "Grid":
        """An empty grid of the same place."""
        return Grid(self.origin, self.step, np.full_like(self.values, FAR))

    def window(self, low: Array, high: Array) -> Window:
        """The slices that hold a box, clipped to the grid."""
        a = np.clip(np.floor((low - self.origin) / self.step).astype(int), 0, self.values.shape)
        b = np.clip(np.ceil((high - self.origin) / self.step).astype(int) + 1, 0, self.values.shape)
        return slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])

    def local(self, window: Window, frame: Frame) -> tuple[Floats, Floats, Floats]:
        """Coordinates of a window's points in a frame, three arrays of the window's size."""
        axis = []
        for i in range(3):
            at = self.origin[i] + self.step * np.arange(window[i].start, window[i].stop) - frame.origin[i]
            axis.append(at.astype(np.float32).reshape([-1 if j == i else 1 for j in range(3)]))
        m = frame.axes.astype(np.float32)
        x, y, z = ((m[0, i] * axis[0] + m[1, i] * axis[1]) + m[2, i] * axis[2] for i in range(3))
        return x, y, z


def smooth_min(a: Floats, b: Floats, k: float) -> Floats:
    """Polynomial smooth minimum (Quilez): blends where |a - b| < k."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    h *= h
    h *= np.float32(0.25 / k)
    return np.minimum(a, b) - h


def merge(grid: Grid, window: Window, d: Floats, k: float) -> None:
    """Join a primitive to what the window holds."""
    held = grid.values[window]
    grid.values[window] = smooth_min(held, d, k) if k > 0 else np.minimum(held, d)


@dataclass(frozen=True)
class Cone:
    """A rounded cone from a to b with radii ra and rb, a swelling in between, and perhaps a flat end at b."""

    a: Array
    b: Array
    ra: float
    rb: float
    swell: float = 0.0
    at: float = 0.4
    flat: bool = False

    def add(self, grid: Grid, k: float) -> None:
        """Join the cone to a grid."""
        reach = max(self.ra, self.rb) + abs(self.swell) + max(k, 2 * grid.step)
        window = grid.window(np.minimum(self.a, self.b) - reach, np.maximum(self.a, self.b) + reach)
        if min(s.stop - s.start for s in window) <= 0:
            return
        merge(grid, window, self.distance(*grid.local(window, Frame(self.a, np.eye(3)))), k)

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Signed distance (a lower bound) of points given relative to ``a``."""
        ba = (self.b - self.a).astype(np.float32)
        length2 = np.float32(ba @ ba)
        along = (x * ba[0] + y * ba[1] + z * ba[2]) / length2
        t = np.clip(along, 0, 1)
        dx, dy, dz = x - t * ba[0], y - t * ba[1], z - t * ba[2]
        d = np.sqrt(dx * dx + dy * dy + dz * dz) - (np.float32(self.ra) + np.float32(self.rb - self.ra) * t)
        if self.swell:
            p = np.float32(self.at / (1 - self.at))
            d -= np.float32(self.swell * 4) * t**p * (1 - t)
        if self.flat:
            d = np.maximum(d, (along - 1) * np.sqrt(length2))
        return np.asarray(d)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid in a frame: centre and half axes in metres."""

    frame: Frame
    centre: tuple[float, float, float]
    half: tuple[float, float, float]

    def add(self, grid: Grid, k: float) -> None:
        """Join the ellipsoid to a grid."""
        middle = self.frame.at(*self.centre)
        reach = max(self.half) + max(k, 2 * grid.step)
        window = grid.window(middle - reach, middle + reach)
        if min(s.stop - s.start for s in window) <= 0:
            return
        x, y, z = grid.local(window, Frame(middle, self.frame.axes))
        a, b, c = (np.float32(v) for v in self.half)
        f = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        g = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) + np.float32(1e-6)
        merge(grid, window, f * (f - 1) / g, k)


@dataclass(frozen=True)
class Loft:
    """Elliptic slices stacked along a frame's y: heights [K], half widths, half depths and forward offsets."""

    frame: Frame
    heights: Sequence[float]
    widths: Sequence[float]
    depths: Sequence[float]
    forward: Sequence[float]
    ease: float = 0.0

    def add(self, grid: Grid, k: float, below: float | None = None, above: float | None = None) -> None:
        """Join the loft to a grid; ``below`` and ``above`` cut it flat at a height of the frame."""
        low, high = self.heights[0], self.heights[-1]
        radius = max(*self.widths, *self.depths) + max(abs(f) for f in self.forward) + self.ease + max(k, 2 * grid.step)
        ends = np.stack([self.frame.at(0, low, 0), self.frame.at(0, high, 0)])
        window = grid.window(ends.min(0) - radius, ends.max(0) + radius)
        if min(s.stop - s.start for s in window) <= 0:
            return
        x, y, z = grid.local(window, self.frame)
        d = self.distance(x, y, z)
        if below is not None:
            d = np.maximum(d, np.float32(below) - y)
        if above is not None:
            d = np.maximum(d, y - np.float32(above))
        merge(grid, window, d, k)

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Signed distance (first order) of points of the frame."""
        fine = np.linspace(self.heights[0], self.heights[-1], 64)
        table = [spline(fine, self.heights, v) for v in (self.widths, self.depths, self.forward)]
        where = (y - np.float32(fine[0])) * np.float32(63 / (fine[-1] - fine[0]))
        where = np.clip(where, 0, 62.999)
        i = where.astype(np.intp)
        t = where - i
        a, b, c = ((lambda v: v[i] + (v[i + 1] - v[i]) * t)(v.astype(np.float32)) for v in table)
        a, b = a + np.float32(self.ease), b + np.float32(self.ease)
        dz = z - c
        f = np.sqrt((x / a) ** 2 + (dz / b) ** 2)
        g = np.sqrt((x / (a * a)) ** 2 + (dz / (b * b)) ** 2) + np.float32(1e-5)
        side = f * (f - 1) / g
        beyond = np.maximum(np.float32(fine[0]) - y, y - np.float32(fine[-1]))
        return smooth_max(side, beyond, 0.03)


def smooth_max(a: Floats, b: Floats, k: float) -> Floats:
    """Polynomial smooth maximum."""
    return -smooth_min(-a, -b, k)


def spline(x: Array, knots: Sequence[float], values: Sequence[float]) -> Array:
    """Cubic Hermite interpolation with three-point slopes (Catmull-Rom on uneven knots)."""
    k, v = np.asarray(knots, float), np.asarray(values, float)
    slope = np.gradient(v, k)
    i = np.clip(np.searchsorted(k, x, side="right") - 1, 0, len(k) - 2)
    h = k[i + 1] - k[i]
    t = (np.clip(x, k[0], k[-1]) - k[i]) / h
    return np.asarray(
        (1 + 2 * t) * (1 - t) ** 2 * v[i]
        + t * (1 - t) ** 2 * h * slope[i]
        + t**2 * (3 - 2 * t) * v[i + 1]
        + t**2 * (t - 1) * h * slope[i + 1]
    )

"""Light: one key lamp with its shadow map, light from all around, and how a surface answers."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, dot, normalise
from .raster import rasterize

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """The lamp's direction [3] (towards it) and colours of the lamp, of what comes from above and from below."""

    towards: Array
    key: Colour
    sky: Colour
    ground: Colour


def draw_light(rng: np.random.Generator, *, outdoors: bool) -> Light:
    """A lamp above the camera's side, to the left or the right."""
    side = float(rng.choice((-1, 1)) * rng.uniform(18, 58))
    height = float(rng.uniform(32, 58))
    a, e = math.radians(side), math.radians(height)
    towards = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    warm = float(rng.uniform(-0.06, 0.08))
    power = float(rng.uniform(0.62, 0.82)) * (1.08 if outdoors else 1.0)
    key = (power * (1 + warm), power, power * (1 - warm))
    fill = float(rng.uniform(0.36, 0.50))
    sky = (fill * 0.96, fill, fill * (1.10 if outdoors else 1.03))
    ground = (0.66 * fill, 0.61 * fill, 0.56 * fill)
    return Light(towards, key, sky, ground)


class ShadowMap:
    """How far the scene reaches towards the lamp, on a square grid across the lamp's direction."""

    def __init__(self, vertices: Floats, faces: NDArray[np.int32], towards: Array, cells: int) -> None:
        ahead = towards / np.linalg.norm(towards)
        right = np.cross([0.0, 1.0, 0.0] if abs(ahead[1]) < 0.95 else [0.0, 0.0, -1.0], ahead)
        right /= np.linalg.norm(right)
        self.axes = np.stack([right, np.cross(ahead, right), ahead])
        u, v, w = self._across(vertices)
        self.low = np.array([u.min(), v.min()]) - 0.10
        self.span = float(max(u.max() - u.min(), v.max() - v.min())) + 0.20
        self.cells = cells
        self.floor = float(w.min()) - 1.0
        screen = np.stack(self._cell(u, v), 1).astype(np.float64)
        seen = rasterize(screen, w.astype(np.float64) - self.floor, faces, (cells, cells))
        self.reach = seen.nearness

    def _across(self, p: Floats) -> tuple[Floats, Floats, Floats]:
        a = self.axes.astype(np.float32)
        u, v, w = (p[:, 0] * a[i, 0] + p[:, 1] * a[i, 1] + p[:, 2] * a[i, 2] for i in range(3))
        return u, v, w

    def _cell(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        scale = self.cells / self.span
        return (u - np.float32(self.low[0])) * np.float32(scale), (
            self.cells - (v - np.float32(self.low[1])) * np.float32(scale)
        )

    def lit(self, points: Floats, bias: float, spread: float, taps: int = 2) -> Floats:
        """Share [N] of the lamp that reaches points [N, 3]; ``bias`` and ``spread`` (softness) in metres."""
        u, v, w = self._across(points)
        x, y = self._cell(u, v)
        height = w - np.float32(self.floor - bias)
        step = spread * self.cells / self.span / max(taps, 1)
        total = np.zeros(len(points), np.float32)
        for i in range(-taps, taps + 1):
            for j in range(-taps, taps + 1):
                cx = np.clip((x + np.float32(i * step)).astype(np.int32), 0, self.cells - 1)
                cy = np.clip((y + np.float32(j * step)).astype(np.int32), 0, self.cells - 1)
                total += self.reach[cy * self.cells + cx] <= height
        return total / np.float32((2 * taps + 1) ** 2)

    def veil(self) -> tuple[Floats, Floats, Floats]:
        """Maps [cells, cells]: a sharp and a soft shadow mask, and the height towards the lamp of what casts it."""
        reach = self.reach.reshape(self.cells, self.cells)
        mask = (reach > 0).astype(np.float32)
        sharp = blur(mask, max(1, round(0.012 * self.cells / self.span)))
        wide = max(1, round(0.05 * self.cells / self.span))
        soft = blur(blur(mask, wide), wide)
        height = blur(blur(reach, wide), wide) / np.maximum(soft, 1e-3)
        return sharp, soft, height

    def cast(self, points: Floats, veil: tuple[Floats, Floats, Floats]) -> Floats:
        """Depth 0..1 of the shadow that falls on points [N, 3] behind everything in the map."""
        u, v, w = self._across(points)
        x, y = self._cell(u, v)
        inside = (x >= 0) & (y >= 0) & (x < self.cells - 1) & (y < self.cells - 1)
        xi, yi = np.clip(x, 0.5, self.cells - 1.5) - 0.5, np.clip(y, 0.5, self.cells - 1.5) - 0.5
        sharp, soft, height = (_bilinear(m, xi, yi) for m in veil)
        far = np.clip((height - (w - np.float32(self.floor)) - 0.05) / 1.1, 0, 1)
        return np.asarray((sharp + (soft - sharp) * far) * inside)


def _bilinear(tile: Floats, x: Floats, y: Floats) -> Floats:
    i, j = y.astype(np.int32), x.astype(np.int32)
    fy, fx = y - i, x - j
    flat, columns = tile.ravel(), tile.shape[1]
    at = i * columns + j
    top = flat[at] + (flat[at + 1] - flat[at]) * fx
    low = flat[at + columns] + (flat[at + columns + 1] - flat[at + columns]) * fx
    return np.asarray(top + (low - top) * fy)


def blur(tile: Floats, radius: int) -> Floats:
    """A box blur over 2 * radius + 1 cells in both directions, with the border's values beyond it."""
    for axis in (0, 1):
        padding = [(radius + 1, radius) if a == axis else (0, 0) for a in range(tile.ndim)]
        total = np.cumsum(np.pad(tile, padding, mode="edge"), axis=axis, dtype=np.float64)
        count = tile.shape[axis]
        width = 2 * radius + 1
        high = np.take(total, np.arange(width, width + count), axis)
        low = np.take(total, np.arange(count), axis)
        tile = ((high - low) / width).astype(np.float32)
    return tile


def shade(
    colour: Floats, normal: Floats, towards_eye: Floats, gloss: Floats, lit: Floats, open_sky: Floats, light: Light
) -> Floats:
    """Linear light [N, 3] of surface points: wrapped Lambert, hemisphere light, Blinn highlight and a soft rim."""
    albedo = colour * colour
    lamp = light.towards.astype(np.float32)
    facing = normal[:, 0] * lamp[0] + normal[:, 1] * lamp[1] + normal[:, 2] * lamp[2]
    key = np.clip((facing + 0.22) / 1.22, 0, 1) * lit
    up = (0.5 + 0.5 * normal[:, 1]) * open_sky
    down = (0.5 - 0.5 * normal[:, 1]) * (0.35 + 0.65 * open_sky)
    out = np.empty_like(albedo)
    half = towards_eye + lamp
    normalise(half)
    shine = np.clip(dot(normal, half), 0, 1)
    shine = gloss * shine**28 * lit * 0.55
    grazing = 1 - np.clip(dot(normal, towards_eye), 0, 1)
    rim = 0.16 * grazing**3 * open_sky
    for i in range(3):
        total = (
            np.float32(1.45 * light.key[i]) * key + np.float32(light.sky[i]) * up + np.float32(light.ground[i]) * down
        )
        out[:, i] = albedo[:, i] * (total + rim) + shine + 0.03 * rim
    return out

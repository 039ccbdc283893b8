"""Where a photo is taken: a floor, a wall or a far view, painted by casting a ray through each pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats
from .camera import Camera
from .light import Light, ShadowMap, blur
from .texture import noise_tile, sample

Colour = tuple[float, float, float]

WALL_COLOURS: dict[str, Colour] = {
    "white": (0.88, 0.87, 0.85),
    "cream": (0.88, 0.82, 0.70),
    "grey": (0.60, 0.61, 0.63),
    "pale blue": (0.66, 0.76, 0.84),
    "sage green": (0.62, 0.69, 0.58),
    "terracotta": (0.74, 0.46, 0.35),
    "lilac": (0.74, 0.68, 0.80),
    "dark blue": (0.20, 0.27, 0.38),
}
PLACES: tuple[str, ...] = ("studio", "room", "brick wall", "tiled wall", "park", "beach")
OUTDOORS: tuple[str, ...] = ("brick wall", "park", "beach")


@dataclass(frozen=True)
class Place:
    """A background: its kind, its wall's colour, the wall's distance behind the origin, and details' numbers [12]."""

    kind: str
    colour: str
    wall: float
    detail: tuple[float, ...]

    @property
    def outdoors(self) -> bool:
        """Whether the sky is the lamp."""
        return self.kind in OUTDOORS


def draw_place(rng: np.random.Generator) -> Place:
    """A background from a photo's own stream."""
    kind = str(rng.choice(PLACES, p=[0.2, 0.32, 0.14, 0.1, 0.14, 0.1]))
    colour = str(rng.choice(list(WALL_COLOURS)))
    wall = float(rng.uniform(1.1, 2.4)) if kind not in ("park", "beach") else 14.0
    return Place(kind, colour, wall, tuple(float(v) for v in rng.random(12)))


def paint_background(
    place: Place, camera: Camera, light: Light, shadows: ShadowMap | None, wall: float, *, defocus: float
) -> Floats:
    """Linear light [H, W, 3] of the place without people; ``wall`` metres behind the origin, ``defocus`` in pixels."""
    width, height = camera.size
    x = (np.arange(width, dtype=np.float32) + 0.5)[None]
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    dx, dy, dz = (np.broadcast_to(d, (height, width)) for d in camera.rays(x, y))
    eye = camera.eye.astype(np.float32)
    with np.errstate(divide="ignore"):
        to_floor = np.where(dy < -1e-5, -eye[1] / np.minimum(dy, -1e-5), np.float32(1e6))
        to_wall = np.where(dz < -1e-5, (-wall - eye[2]) / np.minimum(dz, -1e-5), np.float32(1e6))
    floor = to_floor < to_wall
    distance = np.minimum(np.minimum(to_floor, to_wall), 200)
    px, py, pz = eye[0] + dx * distance, eye[1] + dy * distance, eye[2] + dz * distance
    pixel = distance / np.float32(camera.focal)
    colour = np.empty((height, width, 3), np.float32)
    f, w = np.nonzero(floor), np.nonzero(~floor)
    colour[f] = _floor(place, px[f], pz[f], pixel[f], wall)
    colour[w] = _wall(place, px[w], py[w], pixel[w])
    lit: Floats = colour * colour * _falloff(place, light, px, py, pz, floor, wall)
    if place.kind == "studio":
        lit = _cove(lit, colour, place, px, py, pz, light, wall)
    if shadows is not None:
        lit *= _shade(place, shadows, light, px, py, pz)
    radius = round(defocus)
    return blur(lit, radius) if radius > 0 else lit


def _shade(place: Place, shadows: ShadowMap, light: Light, px: Floats, py: Floats, pz: Floats) -> Floats:
    near = np.nonzero((np.abs(px) < 4) & (pz > -4))
    depth = np.zeros(px.shape, np.float32)
    depth[near] = shadows.cast(np.stack([px[near], py[near], pz[near]], 1), shadows.veil())
    strength = 0.55 if place.kind not in ("park",) else 0.45
    return (1 - np.float32(strength) * depth)[..., None]


def _falloff(
    place: Place, light: Light, px: Floats, py: Floats, pz: Floats, floor: NDArray[np.bool_], wall: float
) -> Floats:
    _, high, ahead = light.towards.astype(np.float32)
    key: Floats = np.where(floor, np.maximum(high, 0.3), np.maximum(ahead, 0.25)) * 1.30
    key = key * np.exp(-0.035 * (px * px + (pz + 0.5) ** 2)) if not place.outdoors else key + 0 * px
    if place.kind in ("room", "tiled wall", "brick wall"):  # dim where floor and wall meet
        key = key * (1 - 0.22 * np.exp(-np.where(floor, pz + np.float32(wall), py) / 0.22))
    if not place.outdoors:
        key = key + 0.15
    return np.stack([np.float32(light.key[i]) * key + np.float32(light.sky[i]) * 0.85 for i in range(3)], -1)


def _cove(
    lit: Floats, colour: Floats, place: Place, px: Floats, py: Floats, pz: Floats, light: Light, wall: float
) -> Floats:
    """A studio's paper has no edge between floor and wall: blend the light of both across the bend."""
    base = np.array(WALL_COLOURS[place.colour], np.float32) ** 2
    s = np.clip(np.where(py > 0.01, 0.5 + py / 1.6, 0.5 - (pz + wall) / 1.6), 0, 1)
    s = s * s * (3 - 2 * s)
    glow = np.exp(-0.10 * (px * px + (py - 1.2) ** 2))
    level = (0.92 - 0.30 * s) + 0.25 * glow
    return np.asarray(level[..., None] * base * np.array(light.key, np.float32) * 1.5, np.float32)


def _mix(a: Colour | Floats, b: Colour | Floats, share: Floats) -> Floats:
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return first + share[..., None] * (second - first)


def _line(at: Floats, period: float, width: float, pixel: Floats) -> Floats:
    """Thin lines [N] at multiples of a period, softened over a pixel and faded where too fine."""
    gap = np.abs((at / np.float32(period) + 0.5) % 1 - 0.5) * np.float32(period)
    cover = np.clip((width / 2 - gap) / np.maximum(pixel, 1e-4) + 0.5, 0, 1)
    return np.asarray(cover * np.clip(period / (4 * np.maximum(pixel, 1e-4)), 0, 1))


def _floor(place: Place, x: Floats, z: Floats, pixel: Floats, wall: float) -> Floats:
    d = place.detail
    fade = np.clip(0.02 / np.maximum(pixel, 1e-4), 0, 1)
    if place.kind == "room":
        plank = 0.14
        row = np.floor(x / np.float32(plank))
        shift = (row * np.float32(0.618)) % 1 * 1.7
        board = np.floor((z + shift) / 1.4)
        tint = sample(noise_tile(), row * 0.137 + 0.3, board * 0.291 + 0.1)
        grain = sample(noise_tile(), x * 3.1, z * 0.22 + row * 0.37) * fade
        woods = ((0.62, 0.44, 0.29), (0.47, 0.33, 0.23), (0.74, 0.59, 0.42), (0.40, 0.30, 0.26))
        base: Floats = np.array(woods[int(d[0] * 4)], np.float32) * (1 + 0.13 * tint + 0.12 * grain)[:, None]
        seam = np.maximum(_line(x, plank, 0.006, pixel), _line(z + shift, 1.4, 0.006, pixel))
        out: Floats = base * (1 - 0.45 * seam)[:, None]
        if d[1] < 0.35:  # a rug
            edge = np.minimum(1.05 + 0.3 * d[2] - np.abs(x), 0.75 - np.abs(z - 0.1))
            rug = np.clip(edge / np.maximum(pixel, 1e-4) + 0.5, 0, 1)
            border = np.exp(-(((edge - 0.10) / 0.025) ** 2))
            pile = np.array((0.2 + 0.5 * d[3], 0.25 + 0.3 * d[4], 0.3 + 0.3 * d[5]), np.float32)
            weave = 1 + 0.10 * sample(noise_tile(), x * 4, z * 4)
            out = _mix(out, _mix(pile, (0.85, 0.8, 0.7), border) * weave[:, None], rug)
        return np.asarray(out, np.float32)
    noise = sample(noise_tile(), x * 0.37, z * 0.37) + fade * sample(noise_tile(), x * 2.3, z * 2.3)
    if place.kind == "brick wall":
        joint = np.maximum(_line(x, 0.6, 0.012, pixel), _line(z + 0.2, 0.6, 0.012, pixel))
        return np.array((0.52, 0.51, 0.50), np.float32) * ((1 + 0.07 * noise) * (1 - 0.25 * joint))[:, None]
    if place.kind == "tiled wall":
        joint = np.maximum(_line(x, 0.33, 0.008, pixel), _line(z, 0.33, 0.008, pixel))
        tone = (0.36 + 0.3 * d[0],) * 3
        return np.array(tone, np.float32) * ((1 + 0.05 * noise) * (1 - 0.3 * joint))[:, None]
    if place.kind == "park":
        blades = 0.5 * sample(noise_tile(), x * 5.3, z * 2.9) * fade
        grass = np.array((0.35, 0.50, 0.20), np.float32) * (1 + 0.16 * noise + 0.30 * blades)[:, None]
        path = np.clip((0.9 - np.abs(z + 4.6 + 0.3 * np.sin(0.8 * x))) / 0.2, 0, 1)
        return np.asarray(_mix(grass, (0.72, 0.65, 0.52), path), np.float32)
    if place.kind == "beach":
        sand = np.array((0.84, 0.75, 0.58), np.float32) * (1 + 0.07 * noise)[:, None]
        shore = np.clip((-z - 5.0 - 0.3 * np.sin(0.7 * x + 6 * d[0])) / 0.5, 0, 1)
        foam = np.exp(-(((-z - 5.1 - 0.3 * np.sin(0.7 * x + 6 * d[0])) / 0.16) ** 2))
        sea = np.array((0.16, 0.42, 0.52), np.float32) * (1 + 0.12 * sample(noise_tile(), x * 0.08, z * 0.5))[:, None]
        return np.asarray(_mix(_mix(sand, sea, shore), (0.95, 0.96, 0.95), foam), np.float32)
    return np.broadcast_to(np.array(WALL_COLOURS[place.colour], np.float32), (len(x), 3))


def _wall(place: Place, x: Floats, y: Floats, pixel: Floats) -> Floats:
    if place.kind == "room":
        return _room_wall(place, x, y, pixel)
    d = place.detail
    if place.kind == "brick wall":
        row = np.floor(y / 0.075)
        across = x + 0.125 * (row % 2)
        brick = np.floor(across / 0.25)
        tint = sample(noise_tile(), brick * 0.173 + row * 0.031, row * 0.219)
        rough = sample(noise_tile(), x * 3.3, y * 3.3)
        base = ((0.58, 0.30, 0.22), (0.66, 0.52, 0.40), (0.47, 0.25, 0.20))[int(d[0] * 3)]
        bricks = np.array(base, np.float32) * (1 + 0.20 * tint + 0.09 * rough)[:, None]
        joint = np.maximum(_line(across, 0.25, 0.012, pixel), _line(y, 0.075, 0.012, pixel))
        return np.asarray(_mix(bricks, (0.68, 0.65, 0.60), joint), np.float32)
    if place.kind == "tiled wall":
        size = 0.12 + 0.12 * d[1]
        column, row = np.floor(x / size), np.floor(y / size)
        tint = sample(noise_tile(), column * 0.173, row * 0.219)
        tiles = np.array(WALL_COLOURS[place.colour], np.float32) * (1 + 0.05 * tint)[:, None]
        joint = np.maximum(_line(x, size, 0.006, pixel), _line(y, size, 0.006, pixel))
        return np.asarray(_mix(tiles, (0.80, 0.79, 0.77), joint), np.float32)
    if place.kind == "studio":
        return np.broadcast_to(np.array(WALL_COLOURS[place.colour], np.float32), (len(x), 3))
    return _far_view(place, x, y)


def _far_view(place: Place, x: Floats, y: Floats) -> Floats:
    d = place.detail
    cloud = np.clip(sample(noise_tile(), x * 0.022 + d[0], y * 0.06 + d[1]) + 0.15, 0, 1)
    sky = _mix((0.80, 0.89, 0.96), (0.50, 0.70, 0.93), np.clip(y / 9, 0, 1))
    sky = _mix(sky, (0.96, 0.97, 0.98), cloud)
    if place.kind == "beach":
        sea = np.array((0.14, 0.36, 0.50), np.float32) * (1 + 0.08 * sample(noise_tile(), x * 0.02, y * 0.9))[:, None]
        return np.asarray(_mix(sky, sea, np.clip((1.35 - y) / 0.03, 0, 1)), np.float32)
    crowns = 2.6 + 1.4 * d[2] + 1.3 * sample(noise_tile(), x * 0.045 + d[3], 0 * x + d[4])
    crowns = crowns + 0.30 * sample(noise_tile(), x * 0.31, y * 0.31)
    leaves = sample(noise_tile(), x * 0.19, y * 0.19) + 0.6 * sample(noise_tile(), x * 0.6, y * 0.6)
    trees = np.array((0.16, 0.29, 0.12), np.float32) * np.clip(1 + 0.38 * leaves + 0.10 * y, 0.35, 2.2)[:, None]
    hedge = np.array((0.20, 0.36, 0.14), np.float32) * (1 + 0.25 * leaves)[:, None]
    out = _mix(sky, trees, np.clip((crowns - y) / 0.12, 0, 1))
    return np.asarray(_mix(out, hedge, np.clip((0.9 - y + 0.12 * leaves) / 0.1, 0, 1)), np.float32)


def _frame(x: Floats, y: Floats, box: tuple[float, float, float, float], pixel: Floats) -> tuple[Floats, Floats]:
    """Signed distance into a rectangle (x0, y0, x1, y1) and its coverage."""
    inside = np.minimum(np.minimum(x - box[0], box[2] - x), np.minimum(y - box[1], box[3] - y))
    return inside, np.clip(inside / np.maximum(pixel, 1e-4) + 0.5, 0, 1)


def _room_wall(place: Place, x: Floats, y: Floats, pixel: Floats) -> Floats:
    d = place.detail
    plaster = 1 + 0.018 * sample(noise_tile(), x * 0.5, y * 0.5)
    out: Floats = np.array(WALL_COLOURS[place.colour], np.float32) * plaster[:, None]
    if d[6] < 0.25:  # panelled below
        below = np.clip((0.95 - y) / np.maximum(pixel, 1e-4), 0, 1)
        panel = np.array((0.80, 0.78, 0.74), np.float32) * (1 - 0.18 * _line(x, 0.32, 0.012, pixel))[:, None]
        out = _mix(out, panel, below)
    if d[7] < 0.5:
        out = _door(place, out, x - ((-1.25, 1.25)[int(d[8] * 2)] + 0.3 * (d[9] - 0.5)), y, pixel)
    if d[7] > 0.35:
        out = _picture(place, out, x - ((0.85, -0.85)[int(d[8] * 2)] + 0.5 * (d[9] - 0.5)), y - 1.55, pixel)
    skirting = np.clip((0.09 - y) / np.maximum(pixel, 1e-4) + 0.5, 0, 1)
    out = _mix(out, (0.86, 0.85, 0.82), skirting)
    return np.asarray(out * (1 - 0.3 * np.exp(-(((y - 0.092) / 0.004) ** 2)))[:, None], np.float32)


def _door(place: Place, wall: Floats, x: Floats, y: Floats, pixel: Floats) -> Floats:
    """A door of 2.03 m, by which stature can be read; ``x`` from its middle."""
    _, cover = _frame(x, y, (-0.50, -0.1, 0.50, 2.08), pixel)
    out = _mix(wall, (0.86, 0.85, 0.82), cover)
    _, cover = _frame(x, y, (-0.43, -0.1, 0.43, 2.03), pixel)
    out = _mix(out, ((0.50, 0.34, 0.23), (0.82, 0.81, 0.78), (0.36, 0.42, 0.46))[int(place.detail[10] * 3)], cover)
    for low, high in ((0.2, 0.9), (1.05, 1.85)):
        groove, _ = _frame(x, y, (-0.3, low, 0.3, high), pixel)
        out = out * (1 - 0.25 * np.exp(-((groove / 0.012) ** 2)))[:, None]
    knob = np.hypot(x + 0.35, y - 1.02)
    return _mix(out, (0.75, 0.68, 0.45), np.clip((0.03 - knob) / np.maximum(pixel, 1e-4) + 0.5, 0, 1))


def _picture(place: Place, wall: Floats, x: Floats, y: Floats, pixel: Floats) -> Floats:
    """A picture or a window; ``x`` and ``y`` from its middle."""
    d = place.detail
    wide, high = 0.22 + 0.25 * d[10], 0.18 + 0.25 * d[11]
    _, cover = _frame(x, y, (-wide, -high, wide, high), pixel)
    out = _mix(wall, (0.16, 0.13, 0.11) if d[5] < 0.5 else (0.92, 0.91, 0.88), cover)
    _, cover = _frame(x, y, (0.03 - wide, 0.03 - high, wide - 0.03, high - 0.03), pixel)
    if d[4] < 0.55:
        tone = np.clip(sample(noise_tile(), x * 0.35 + d[0], y * 0.35 + d[1]) + 0.5, 0, 1)
        return _mix(out, _mix((0.75, 0.55 + 0.3 * d[2], 0.35), (0.20, 0.35, 0.30 + 0.4 * d[3]), tone), cover)
    pane = _mix((0.93, 0.96, 0.98), (0.70, 0.83, 0.95), np.clip((y + 0.35) * 1.2, 0, 1))
    bars = _line(x, 2 * wide, 0.03, pixel)
    return _mix(out, pane * (1 - 0.6 * bars)[:, None], cover)

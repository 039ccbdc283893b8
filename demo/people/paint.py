"""The colours of a person's parts: cloth with its pattern, hems and seams, skin, shoes, hair, face."""

from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .body import HEM
from .clothes import COLOURS, Garment, Outfit
from .face import HAIR_COLOURS, FaceTraits
from .face_paint import Expression, paint_face
from .pose import ankle_height, bone_lengths
from .shape import Shape
from .texture import noise_tile, sample


@dataclass(frozen=True)
class Look:
    """All that the paint of one person depends on."""

    shape: Shape
    face: FaceTraits
    outfit: Outfit
    mood: Expression


@dataclass
class Coat:
    """Colour [N, 3] (sRGB 0..1), gloss [N], and how strongly cloth folds bend the normals [N]."""

    colour: Floats
    gloss: Floats
    folds: Floats

    @classmethod
    def of(cls, colour: tuple[float, float, float], count: int, gloss: float, folds: float) -> "Coat":
        """One material all over."""
        rgb = np.broadcast_to(np.array(colour, np.float32), (count, 3)).copy()
        return cls(rgb, np.full(count, gloss, np.float32), np.full(count, folds, np.float32))

    def put(self, cover: Floats, other: "Coat") -> None:
        """Lay another material over this one with coverage [N] 0..1."""
        self.colour += cover[:, None] * (other.colour - self.colour)
        self.gloss += cover * (other.gloss - self.gloss)
        self.folds += cover * (other.folds - self.folds)


def edge(inside: Floats, soft: float) -> Floats:
    """Coverage from a distance in metres, positive inside, softened over a pixel."""
    return np.asarray(np.clip(inside * np.float32(1 / max(soft, 1e-5)) + np.float32(0.5), 0, 1))


def _wave(at: Floats, period: float, share: float, soft: float) -> Floats:
    """A square wave, 1 on ``share`` of each period, softened over a pixel and faded where it is too fine to show."""
    saw = np.abs((at / np.float32(period)) % 1 - 0.5) * 2
    sharp = np.clip((share - saw) * np.float32(period / (2 * max(soft, 1e-5))) + 0.5, 0, 1)
    fade = np.float32(np.clip(1.5 - 2.2 * soft / period, 0, 1))
    return np.asarray(sharp * fade + share * (1 - fade))


def _pattern(garment: Garment, u: Floats, v: Floats, outfit: Outfit, soft: float) -> Floats:
    """Share [N] of the second colour at (u round, v along), metres."""
    size = outfit.scale * 0.05
    v = v + np.float32(outfit.phase * size)
    if garment.pattern == "striped":
        return _wave(v, size, 0.42, soft)
    if garment.pattern == "checked":
        return 0.5 * (_wave(u, size * 1.2, 0.45, soft) + _wave(v, size * 1.2, 0.45, soft))
    if garment.pattern == "dotted":
        row = np.floor(v / np.float32(size * 0.8))
        du = ((u / np.float32(size * 0.9) + 0.5 * (row % 2)) % 1 - 0.5) * np.float32(size * 0.9)
        dv = ((v / np.float32(size * 0.8)) % 1 - 0.5) * np.float32(size * 0.8)
        return edge(np.float32(0.24 * size) - np.sqrt(du * du + dv * dv), soft)
    return np.zeros_like(u)


def cloth(garment: Garment, u: Floats, v: Floats, outfit: Outfit, soft: float) -> Coat:
    """A garment's cloth at (u, v) metres round and along the part."""
    first, second = (np.array(COLOURS[c], np.float32) for c in (garment.colour, garment.second))
    share = _pattern(garment, u, v, outfit, soft)
    if garment.pattern == "checked":
        second = first + (second - first) * np.float32(0.8)
    colour = first + share[:, None] * (second - first)
    coarse = 1 + 0.03 * sample(noise_tile(), u * 2.1, v * 2.1)
    fine = np.float32(np.clip(2 - soft / 0.0008, 0, 1)) * sample(noise_tile(), u * 23, v * 23)
    amount = {"jeans": 0.07, "sweater": 0.06, "hoodie": 0.03}.get(garment.name, 0.02)
    colour = colour * (coarse + np.float32(amount) * fine)[:, None]
    folds = {"leggings": 0.05, "sweater": 0.10, "tank top": 0.06, "T-shirt": 0.10}.get(garment.name, 0.12) * float(
        np.clip(0.0022 / max(soft, 1e-5), 0.35, 1)
    )
    return Coat(
        np.clip(colour + 0.012 * (fine * (amount > 0.1))[:, None], 0.01, 0.98).astype(np.float32),
        np.full(len(u), 0.10 if garment.name in ("leggings", "jacket") else 0.04, np.float32),
        np.full(len(u), folds, np.float32),
    )


def skin(look: Look, u: Floats, v: Floats) -> Coat:
    """Bare skin."""
    coat = Coat.of(look.face.skin_colour, len(u), 0.15, 0.0)
    coat.colour *= (1 + 0.02 * sample(noise_tile(), u * 2.5, v * 2.5))[:, None]
    return coat


def _seam(coat: Coat, distance: Floats, width: float, depth: float = 0.32) -> None:
    coat.colour *= (1 - np.float32(depth) * np.exp(-((distance / np.float32(width)) ** 2)))[:, None]


def paint_trunk(look: Look, x: Floats, y: Floats, z: Floats, soft: float) -> Coat:
    """Chest, belly, pelvis and neck; coordinates in the chest's frame but with y from the hip joints, metres."""
    outfit, t = look.outfit, look.shape.torso_length
    u = _round_trunk(look, x, z)
    coat = cloth(outfit.top, u, y, outfit, soft)
    _details(coat, look, x, y, z, soft)
    if outfit.top.name != "dress":
        low = cloth(outfit.bottom, u, y, outfit, soft)
        hem = 0.13 if outfit.top.name == "tank top" and not outfit.skirted else 0.15 * t if outfit.skirted else HEM
        _seam(coat, y - np.float32(hem), 0.008)
        coat.put(edge(hem - y, soft), low)
    else:
        _seam(coat, y - np.float32(0.36 * t), 0.012, 0.4)
    bare = skin(look, u, y)
    coat.put(edge(_bare_chest(look, x, y, z), soft), bare)
    return coat


def _round_trunk(look: Look, x: Floats, z: Floats) -> Floats:
    """A coordinate round the trunk in metres: across on front and back, from front to back under the arms."""
    half = np.float32(0.43 * look.shape.chest_width)
    flank = np.clip((np.abs(x) - half) / 0.02 + 0.5, 0, 1)
    return np.asarray(np.clip(x, -half, half) - np.sign(x) * z * flank)


def _neckline(look: Look, x: Floats, y: Floats, z: Floats) -> Floats:
    """Signed height over the neckline, metres: positive is skin."""
    base, w = look.shape.torso_length, look.shape.neck_girth / (2 * np.pi)
    drop = {"tank top": 0.085, "T-shirt": 0.025, "dress": 0.075}.get(look.outfit.top.name, 0.004)
    if look.outfit.top.name in ("shirt", "jacket"):
        drop = 0.0
    scoop = np.sqrt(np.maximum(1 - (x / np.float32(w * 1.55)) ** 2, 0))
    ahead = np.clip((z + 0.02) / 0.05, 0, 1)
    rise = 0.030 if look.outfit.top.name in ("sweater", "shirt", "jacket", "hoodie") else 0.012
    if look.outfit.top.name == "hoodie":  # the hood lies behind the neck
        rise = rise + 0.12 * np.clip((-z - 0.045) / 0.03, 0, 1)
    return np.asarray(
        y
        - np.float32(base)
        - np.float32(1) * rise
        + np.float32(drop) * scoop * ahead
        - 1.2 * np.clip(np.abs(x) - 1.25 * w, 0, 1)
    )


def _bare_chest(look: Look, x: Floats, y: Floats, z: Floats) -> Floats:
    """Distance into bare skin, metres."""
    bare = _neckline(look, x, y, z)
    if look.outfit.top.length == 0:
        hole = look.shape.shoulder_width / 2 - 0.052
        high = np.clip((y - 0.62 * look.shape.torso_length) / (0.38 * look.shape.torso_length), 0, 1)
        bare = np.maximum(bare, np.minimum(np.abs(x) - hole + 0.018 * high, y - 0.68 * look.shape.torso_length))
    if look.outfit.top.name == "shirt":  # an open collar
        bare = np.maximum(bare, np.minimum(0.30 * (y - look.shape.torso_length + 0.085) - np.abs(x), z))
    return np.asarray(bare, np.float32)


def _details(coat: Coat, look: Look, x: Floats, y: Floats, z: Floats, soft: float) -> None:
    kind, t = look.outfit.top.name, look.shape.torso_length
    ahead = z > 0
    over = _neckline(look, x, y, z)
    if kind in ("T-shirt", "sweater", "tank top", "dress"):
        _seam(coat, over + 0.018, 0.004)
    if kind == "shirt":
        _seam(coat, np.where(ahead, x - 0.016, 1), 0.0025)
        button = np.sqrt(x * x + (((y + 0.04) % 0.085) - 0.0425) ** 2)
        light = np.clip((0.0065 - button) / max(soft, 1e-5) + 0.5, 0, 1) * ahead
        coat.colour += light[:, None] * (np.array([0.9, 0.9, 0.86], np.float32) - coat.colour)
        collar = (over > -0.032) | (np.abs(np.abs(x) - 0.32 * (y - t + 0.115)) < 0.017) & ahead & (y > t - 0.075)
        coat.colour[collar] = np.clip(coat.colour[collar] * 1.14 + 0.02, 0, 1)
        _seam(coat, over + 0.032, 0.004)
    if kind == "jacket":  # open over something light
        gap = np.abs(x) - (0.035 + 0.03 * np.clip((y - 0.5 * t) / t, 0, 1))
        inner = np.clip(-gap / max(soft, 1e-5) + 0.5, 0, 1) * ahead
        coat.colour += inner[:, None] * (np.array(COLOURS[look.outfit.top.second], np.float32) - coat.colour)
        _seam(coat, np.where(ahead, gap, 1), 0.006, 0.5)
        _seam(coat, np.where(ahead & (np.abs(x) > 0.06) & (np.abs(x) < 0.15), y - 0.22 * t, 1), 0.005)
    if kind == "hoodie":
        _seam(coat, over + 0.028, 0.010, 0.4)
        pocket = np.maximum(np.abs(x) - 0.12 + 0.35 * np.clip(y - 0.17 * t, 0, 1), np.abs(y - 0.22 * t) - 0.07)
        _seam(coat, np.where(ahead, pocket, 1), 0.004)
        cord = np.abs(np.abs(x) - 0.035) - 0.003
        light = np.clip(-cord / max(soft, 1e-5) + 0.5, 0, 1) * (ahead & (y > 0.78 * t) & (over < -0.02))
        coat.colour += light[:, None] * (0.93 - coat.colour)


def paint_arm(look: Look, x: Floats, y: Floats, z: Floats, *, lower: bool, soft: float) -> Coat:
    """Upper arm or forearm in its own frame, metres."""
    name = "forearm" if lower else "upper_arm"
    length = bone_lengths(look.shape)[name]
    along = -y / np.float32(length) + (1 if lower else 0)
    u = np.arctan2(x, z) * np.float32(0.05)
    coat = cloth(look.outfit.top, u, -y, look.outfit, soft)
    end = look.outfit.top.length
    _seam(coat, (along - np.float32(end - 0.045)) * np.float32(length), 0.003)
    if end <= 0:
        return skin(look, u, y)
    coat.put(edge((along - np.float32(end)) * np.float32(length), soft), skin(look, u, y))
    return coat


def paint_leg(look: Look, x: Floats, y: Floats, z: Floats, beyond: Floats, *, lower: bool, soft: float) -> Coat:
    """Thigh or shin in its own frame, metres; ``beyond`` [N] is the distance past a skirt's hem."""
    outfit = look.outfit
    length = bone_lengths(look.shape)["shin" if lower else "thigh"]
    along = -y / np.float32(length) + (1 if lower else 0)
    u = np.arctan2(x, z) * np.float32(0.08)
    garment = outfit.top if outfit.top.name == "dress" else outfit.bottom
    coat = cloth(garment, u, -y, outfit, soft)
    past = beyond if outfit.skirted else (along - np.float32(outfit.bottom.length)) * np.float32(length)
    _seam(coat, past + 0.022, 0.003)
    if garment.name in ("jeans", "trousers"):
        _seam(coat, np.abs(np.abs(np.arctan2(x, z)) - 1.57) * 0.08, 0.003, 0.22)
    if garment.name == "jeans":
        worn = np.exp(-((np.arctan2(x, z) / 0.8) ** 2)) * np.exp(-(((along - 0.6) / 0.4) ** 2))
        coat.colour *= (1 + 0.22 * worn)[:, None]
    coat.put(edge(past, soft), skin(look, u, y))
    return coat


def paint_shoe(look: Look, x: Floats, y: Floats, z: Floats, soft: float) -> Coat:
    """A shoe in the foot's frame, metres."""
    outfit, length = look.outfit, look.shape.foot_length
    coat = Coat.of(COLOURS[outfit.shoe_colour], len(x), 0.12 if outfit.shoes == "sneakers" else 0.4, 0.0)
    height = y + np.float32(ankle_height(look.shape))
    if outfit.shoes == "sneakers":
        laces = (np.abs(x) < 0.02) & (z > 0.1 * length) & (z < 0.42 * length) & ((z % 0.022) < 0.009) & (height > 0.04)
        coat.colour[laces] = 0.95 if outfit.shoe_colour != "white" else 0.6
        sole, tint = 0.026, (0.92, 0.92, 0.90) if outfit.shoe_colour != "white" else (0.72, 0.72, 0.72)
    else:
        sole, tint = 0.014, (0.08, 0.07, 0.06)
    _seam(coat, height - np.float32(sole), 0.003, 0.5)
    coat.put(edge(sole - height, soft), Coat.of(tint, len(x), 0.1, 0.0))
    return coat


def paint_hair(look: Look, x: Floats, y: Floats, z: Floats, soft: float) -> Coat:
    """Hair in the head's frame, in head heights."""
    face = look.face
    phi = np.arctan2(x, z)
    coat = Coat.of(HAIR_COLOURS[face.hair], len(x), 0.13, 0.0)
    if face.hair_style in ("curly", "afro"):
        strand = 1.2 * sample(noise_tile(), phi * np.float32(8 / (2 * np.pi)), y * 1.5)
        coat.gloss[:] = 0.08
    elif face.hair_style in ("ponytail", "bun"):  # combed back
        strand = sample(noise_tile(), y * 5.5 + 0.5 * x, z * 0.35)
        strand = np.where(z < -0.38, sample(noise_tile(), x * 6.0, y * 0.4), strand)
    else:
        around = phi / np.float32(2 * np.pi)  # whole tiles round the head, so that no seam shows behind
        strand = sample(noise_tile(), around * 3 + 0.02 * y, y * 0.10)
        if soft < 0.01:
            strand = 0.6 * strand + 0.6 * sample(noise_tile(), around * 9, y * 0.16)
    level = 0.30 if sum(HAIR_COLOURS[face.hair]) < 0.5 else 0.17
    coat.colour = np.clip(coat.colour * (1 + np.float32(level) * strand)[:, None], 0.01, 0.97)
    if sum(HAIR_COLOURS[face.hair]) < 0.5:
        coat.colour += (0.022 * np.clip(strand, 0, 2))[:, None]
    if face.hair_style == "buzz":
        coat.colour = 0.78 * coat.colour + 0.22 * np.array(face.skin_colour, np.float32)
        coat.gloss[:] = 0.05
    return coat


def paint_head(look: Look, x: Floats, y: Floats, z: Floats, soft: float) -> Coat:
    """The head's skin with the face, in head heights."""
    colour, gloss = paint_face(look.face, x, y, z, look.mood, soft)
    return Coat(np.clip(colour, 0.01, 0.98), gloss, np.zeros(len(x), np.float32))

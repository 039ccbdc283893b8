"""A scene of figures and furniture to a picture, with the depth and the label of every pixel."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, normalise
from .background import Place, paint_background
from .body import FURNITURE, PEOPLE_STRIDE
from .camera import Camera
from .figure import Figure, figure_mesh, paint_figure, tailored
from .furniture import Piece, paint_furniture
from .light import Light, ShadowMap, shade
from .raster import Fragments, rasterize
from .surface import Mesh, join, normals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """What stands before the camera; the wall is ``wall`` metres behind the origin, ``legs`` says if they show."""

    figures: tuple[Figure, ...]
    pieces: tuple[Piece, ...]
    place: Place
    light: Light
    camera: Camera
    wall: float
    legs: bool
    defocus: float


@dataclass(frozen=True)
class Rendering:
    """A picture in linear light [H, W, 3], label [H, W] (-1 background) and depth [H, W] metres (inf where none)."""

    linear: Floats
    label: NDArray[np.int32]
    depth: Floats


def render(scene: Scene) -> Rendering:
    """Draw a scene at its camera's size."""
    camera = scene.camera
    width, height = camera.size
    mesh = _scene_mesh(scene)
    if mesh is None:
        linear = _background(scene, None)
        empty = np.full((height, width), np.inf, np.float32)
        return Rendering(linear, np.full((height, width), -1, np.int32), empty)
    screen, depth = camera.project(mesh.vertices.astype(np.float64))
    seen = rasterize(screen, np.where(depth > 0.05, 1 / np.maximum(depth, 0.05), -1.0), mesh.faces, (width, height))
    cells = int(np.clip(max(width, height) / 3.2, 128, 384))
    lamp = ShadowMap(mesh.vertices, mesh.faces, scene.light.towards, cells)
    linear = _background(scene, lamp)
    linear.reshape(-1, 3)[seen.pixel] = _surface_light(scene, mesh, seen, lamp)
    label = np.full((height, width), -1, np.int32)
    label.reshape(-1)[seen.pixel] = mesh.part[seen.triangle]
    with np.errstate(divide="ignore"):
        far = np.where(seen.nearness > 0, 1 / seen.nearness, np.inf).astype(np.float32)
    far = far.reshape(height, width)
    return Rendering(_smooth_edges(linear, far), label, far)


def _scene_mesh(scene: Scene) -> Mesh | None:
    meshes = []
    for i, figure in enumerate(scene.figures):
        depth = float(scene.camera.view(figure.bones["chest"].origin[None])[0, 2])
        scale = scene.camera.focal / depth  # pixels a metre
        step = float(np.clip(9.0 / scale, 0.0085, 0.024))
        rows = int(np.clip(scale * figure.look.shape.head_height / 3.2, 34, 110))
        mesh = figure_mesh(figure, step, rows, legs=scene.legs)
        meshes.append(Mesh(mesh.vertices, mesh.faces, mesh.part + np.int32(i * PEOPLE_STRIDE)))
    meshes += [piece.mesh for piece in scene.pieces]
    return join(meshes) if meshes else None


def furniture_part(index: int, people: int) -> int:
    """The label of a piece of furniture; those of people come before."""
    return people * PEOPLE_STRIDE + FURNITURE + index


def _background(scene: Scene, lamp: ShadowMap | None) -> Floats:
    width, height = scene.camera.size
    factor = 2 if max(width, height) > 700 else 1
    small = scene.camera.scaled(1 / factor)
    light = paint_background(scene.place, small, scene.light, lamp, scene.wall, defocus=scene.defocus / factor)
    return enlarge(light, factor, (width, height))


def enlarge(image: Floats, factor: int, size: tuple[int, int]) -> Floats:
    """An image [h, w, 3] enlarged by 1 or 2 with linear interpolation, cut or padded to ``size`` (width, height)."""
    if factor == 1:
        return np.ascontiguousarray(image)
    width, height = size
    for axis in (0, 1):
        before = np.concatenate([image.take([0], axis), image.take(range(image.shape[axis] - 1), axis)], axis)
        after = np.concatenate([image.take(range(1, image.shape[axis]), axis), image.take([-1], axis)], axis)
        stacked = np.stack([0.25 * before + 0.75 * image, 0.75 * image + 0.25 * after], axis + 1)
        shape = list(image.shape)
        shape[axis] *= 2
        image = stacked.reshape(shape)
    image = image[:height, :width]
    pad = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.ascontiguousarray(np.pad(image, pad, mode="edge")) if pad != [(0, 0)] * 3 else np.ascontiguousarray(image)


def _surface_light(scene: Scene, mesh: Mesh, seen: Fragments, lamp: ShadowMap) -> Floats:
    """Linear light [N, 3] of all fragments."""
    camera, light = scene.camera, scene.light
    width = camera.size[0]
    sky = ShadowMap(mesh.vertices, mesh.faces, np.array([0.25, 0.95, 0.35]), 144)
    side = ShadowMap(mesh.vertices, mesh.faces, np.array([-light.towards[0], 0.35, 0.75]), 144)
    unit = normals(mesh.vertices, mesh.faces)
    vertex = np.concatenate([unit, _vertex_light(mesh.vertices, unit, lamp, sky, side)], 1)
    corner = mesh.faces[seen.triangle]
    value = vertex[corner[:, 0]] * seen.weights[:, :1]
    value += vertex[corner[:, 1]] * seen.weights[:, 1:2]
    value += vertex[corner[:, 2]] * seen.weights[:, 2:]
    normal, lit, open_sky = value[:, :3], value[:, 3], value[:, 4]
    normalise(normal)
    x, y = (seen.pixel % width + 0.5).astype(np.float32), (seen.pixel // width + 0.5).astype(np.float32)
    ray = np.stack(camera.rays(x, y), 1)
    depth = 1 / seen.nearness[seen.pixel]
    points = camera.eye.astype(np.float32) + ray * depth[:, None]
    colour, gloss, lit, open_sky = _materials(scene, mesh, seen, points, normal, lit, open_sky, lamp)
    towards = -ray
    normalise(towards)
    return shade(colour, normal, towards, gloss, lit, open_sky, light)


def _vertex_light(points: Floats, unit: Floats, lamp: ShadowMap, sky: ShadowMap, side: ShadowMap) -> Floats:
    """Share of the lamp and of the sky [V, 2] that reach each vertex; looked up a little off the surface."""
    off = points + np.float32(0.012) * unit
    lit = lamp.lit(off, 0.022, 0.020)
    above = 0.55 * sky.lit(off, 0.03, 0.10) + 0.45 * side.lit(off, 0.03, 0.10)
    return np.stack([lit, 0.42 + 0.58 * above], 1)


def _materials(
    scene: Scene,
    mesh: Mesh,
    seen: Fragments,
    points: Floats,
    normal: Floats,
    lit: Floats,
    open_sky: Floats,
    lamp: ShadowMap,
) -> tuple[Floats, Floats, Floats, Floats]:
    part = mesh.part[seen.triangle]
    for i, figure in enumerate(scene.figures):
        own = np.flatnonzero(part // PEOPLE_STRIDE == i)
        part[own] = tailored(figure, part[own] - np.int32(i * PEOPLE_STRIDE), points[own]) + np.int32(i * PEOPLE_STRIDE)
    order = np.argsort(part, kind="stable")
    bounds = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
    colour, gloss = np.empty((len(part), 3), np.float32), np.zeros(len(part), np.float32)
    for start, end in pairwise(bounds):
        which = order[start:end]
        code = int(part[which[0]])
        person, bone = divmod(code, PEOPLE_STRIDE)
        if person < len(scene.figures):
            bent = normal[which]
            soft = float(np.median(1 / seen.nearness[seen.pixel[which]])) / scene.camera.focal
            coat = paint_figure(scene.figures[person], bone, points[which], bent, soft)
            normal[which], colour[which], gloss[which] = bent, coat.colour, coat.gloss
            continue
        piece = scene.pieces[code - furniture_part(0, len(scene.figures))]
        colour[which], gloss[which] = paint_furniture(piece, points[which]), 0.08
        lit[which] = lamp.lit(points[which] + np.float32(0.01) * normal[which], 0.02, 0.05)
        open_sky[which] = 0.9
    return colour, gloss, lit, open_sky


def _smooth_edges(linear: Floats, depth: Floats) -> Floats:
    """Average 3 x 3 pixels where silhouettes cut through, which the centre samples alone would leave jagged."""
    near = 1 / depth
    jump = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(near, axis=axis)) > 0.02 * np.maximum(np.delete(near, 0, axis), np.delete(near, -1, axis))
        low = tuple(slice(0, -1) if a == axis else slice(None) for a in (0, 1))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
        jump[low] |= step
        jump[high] |= step
    jump[0], jump[-1], jump[:, 0], jump[:, -1] = False, False, False, False
    i, j = np.nonzero(jump)
    total = np.zeros((len(i), 3), np.float32)
    for di, dj, w in (
        (0, 0, 4),
        (0, 1, 2),
        (0, -1, 2),
        (1, 0, 2),
        (-1, 0, 2),
        (1, 1, 1),
        (1, -1, 1),
        (-1, 1, 1),
        (-1, -1, 1),
    ):
        total += np.float32(w / 16) * np.sqrt(linear[i + di, j + dj])
    out = linear.copy()
    out[i, j] = total * total
    return out


def develop(linear: Floats, grain: Floats | None) -> NDArray[np.uint8]:
    """Linear light [H, W, 3] to sRGB bytes, with a soft shoulder for the highlights and film grain [H, W]."""
    x = np.maximum(linear, 0)
    x = x * (1 + x * np.float32(0.10)) / (1 + x * np.float32(0.42))
    np.sqrt(x * np.float32(1.16), out=x)
    if grain is not None:
        x += grain[..., None]
    x *= 255
    x += np.float32(0.5)
    return np.clip(x, 0, 255, out=x).astype(np.uint8)


def halve(image: Floats) -> Floats:
    """Mean over 2 x 2 pixels."""
    return np.asarray(0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]))

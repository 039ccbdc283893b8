"""A pinhole camera and how a photo is framed."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FRAMINGS: tuple[str, ...] = ("full", "three-quarter", "half", "portrait")
VIEWS: tuple[str, ...] = ("front", "three-quarter", "side", "back")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: eye [3] metres, axes [3, 3] whose rows are right, up and ahead, focal length in pixels."""

    eye: Array
    axes: Array
    focal: float
    size: tuple[int, int]
    centre: tuple[float, float]

    def view(self, points: Array) -> Array:
        """World points [N, 3] as (right, up, ahead) from the eye, metres."""
        d = np.asarray(points, np.float64) - self.eye
        a = self.axes
        return np.stack([d[:, 0] * a[i, 0] + d[:, 1] * a[i, 1] + d[:, 2] * a[i, 2] for i in range(3)], 1)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels [N, 2] (y down, the first pixel's centre is 0.5) and depths [N] metres of world points [N, 3]."""
        v = self.view(points)
        scale = self.focal / np.where(np.abs(v[:, 2]) < 1e-6, 1e-6, v[:, 2])
        return np.stack([self.centre[0] + v[:, 0] * scale, self.centre[1] - v[:, 1] * scale], 1), v[:, 2]

    def scaled(self, factor: float) -> "Camera":
        """The same view with ``factor`` times as many pixels each way."""
        width, height = (round(s * factor) for s in self.size)
        cx, cy = self.centre
        return Camera(self.eye, self.axes, self.focal * factor, (width, height), (cx * factor, cy * factor))

    def rays(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """World direction components of pixels (x, y), with 1 along the camera's axis."""
        u = (x - np.float32(self.centre[0])) / np.float32(self.focal)
        v = (np.float32(self.centre[1]) - y) / np.float32(self.focal)
        a = self.axes.astype(np.float32)
        return tuple(a[0, i] * u + a[1, i] * v + a[2, i] for i in range(3))


def look(eye: Array, target: Array, focal: float, size: tuple[int, int], shift: tuple[float, float] = (0, 0)) -> Camera:
    """A camera at ``eye`` looking at ``target`` with a level horizon; ``shift`` moves the picture, in pixels."""
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, ahead), ahead])
    return Camera(eye, axes, focal, size, (size[0] / 2 + shift[0], size[1] / 2 + shift[1]))


def frame_points(
    points: Array,
    radii: Array,
    size: tuple[int, int],
    *,
    pitch: float,
    field_of_view: float,
    fill: float,
    headroom: float = 1.0,
) -> Camera:
    """A camera on the +z side that looks down by ``pitch`` and holds all spheres (points [N, 3], radii [N]).

    ``field_of_view`` in degrees is that of the longer side; ``fill`` is the share of the picture that the spheres
    take in the tighter direction. The distance follows by bisection. The spheres are centred, unless that would leave
    more than ``headroom`` of the picture's height empty above them.
    """
    focal = max(size) / 2 / math.tan(math.radians(field_of_view) / 2)
    target = (points - radii[:, None]).min(0) / 2 + (points + radii[:, None]).max(0) / 2
    back = np.array([0.0, math.sin(math.radians(pitch)), math.cos(math.radians(pitch))])
    near, far = 0.3 + float(radii.max()), 40.0
    for _ in range(30):
        middle = (near + far) / 2
        low, high = _extent(look(target + middle * back, target, focal, size), points, radii)
        if np.max((high - low) / np.array(size)) > fill or not np.isfinite(low).all():
            near = middle
        else:
            far = middle
    camera = look(target + far * back, target, focal, size)
    low, high = _extent(camera, points, radii)
    shift = np.array(size) / 2 - (low + high) / 2
    shift[1] = min(shift[1], headroom * size[1] - low[1])
    return look(target + far * back, target, focal, size, (float(shift[0]), float(shift[1])))


def _extent(camera: Camera, points: Array, radii: Array) -> tuple[Array, Array]:
    xy, depth = camera.project(points)
    if depth.min() < 0.25:
        return np.full(2, -np.inf), np.full(2, np.inf)
    reach = (camera.focal * radii / depth)[:, None]
    return (xy - reach).min(0), (xy + reach).max(0)


def wrap(degrees: float) -> float:
    """An angle in (-180, 180]."""
    return 180.0 - (180.0 - degrees) % 360.0


def view_of(yaw: float) -> str:
    """The name of a view: front within 25 degrees, three-quarter to 65, side to 115, back beyond."""
    turned = abs(wrap(yaw))
    return VIEWS[int(np.searchsorted((25.0, 65.0, 115.0), turned))]

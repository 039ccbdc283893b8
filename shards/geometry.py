"""Points and windows through crop and resize; pure functions.

Pixels are squares: the picture spans 0…width, and a pixel's centre lies at half-integers, so a resize is a
multiplication and nothing is off by half a pixel.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ROUNDING = 1e-3
"""Pixels by which a window may seem to reach beyond the picture, because of rounding."""


@dataclass(frozen=True)
class Window:
    """A rectangle in a picture, in pixels; it may reach beyond the picture."""

    left: float
    top: float
    width: float
    height: float


def scale_keypoints(keypoints: Floats, x_scale: float, y_scale: float) -> Floats:
    """Scale x and y of keypoints `[17][3]`; confidences stay."""
    return (keypoints * np.array([x_scale, y_scale, 1.0], np.float32)).astype(np.float32)


def scale_box(box: Floats, x_scale: float, y_scale: float) -> Floats:
    """Scale a box `[4]` (left, top, right, bottom)."""
    return (box * np.array([x_scale, y_scale] * 2, np.float32)).astype(np.float32)


def keypoints_in_window(keypoints: Floats, window: Window, size: tuple[int, int]) -> Floats:
    """Map keypoints `[17][3]` of a picture to the window resized to `size` (width, height).

    A keypoint outside the window keeps its (outside) coordinates and gets the confidence 0: it cannot be seen there.
    One that was not measured (confidence 0) is 0, 0, 0.
    """
    width, height = size
    measured = keypoints[:, 2] > 0
    if not measured.any():
        return np.zeros_like(keypoints)
    x = (keypoints[:, 0] - window.left) * (width / window.width)
    y = (keypoints[:, 1] - window.top) * (height / window.height)
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    mapped = np.stack([x, y, np.where(inside, keypoints[:, 2], 0.0)], axis=1)
    return np.where(measured[:, None], mapped, 0.0).astype(np.float32)


def stored_window(window: Window, size: tuple[int, int], orientation: int) -> Window:
    """Return the rectangle of a picture as it is stored that a window of the upright picture shows.

    Args:
        window: in pixels of the upright picture.
        size: (width, height) of the stored picture, before its orientation is applied.
        orientation: EXIF orientation, 1 to 8 (TIFF 6.0, tag 274).
    """
    width, height = (window.height, window.width) if orientation >= 5 else (window.width, window.height)
    left, top = (window.top, window.left) if orientation >= 5 else (window.left, window.top)
    if orientation in (2, 3, 7, 8):
        left = size[0] - left - width
    if orientation in (3, 4, 6, 7):
        top = size[1] - top - height
    return Window(left, top, width, height)


def whole_pixels(window: Window, picture: tuple[int, int]) -> Window:
    """Return the nearest window of whole pixels; one that lies inside the picture (width, height) stays inside."""
    left, width = _whole(window.left, window.width, picture[0])
    top, height = _whole(window.top, window.height, picture[1])
    return Window(left, top, width, height)


def _whole(start: float, length: float, limit: int) -> tuple[int, int]:
    """Round an interval: its length first, because that decides the scale, then its middle."""
    rounded = max(1, round(length))
    first = round(start + (length - rounded) / 2)
    if start >= -ROUNDING and start + length <= limit + ROUNDING:
        rounded = min(rounded, limit)
        first = min(max(first, 0), limit - rounded)
    return first, rounded


def picture_window(picture: tuple[int, int], size: tuple[int, int]) -> Window:
    """Return the largest window of the aspect of `size` inside a picture (width, height), centred."""
    width, height = picture
    scale = min(width / size[0], height / size[1])
    inner_width, inner_height = size[0] * scale, size[1] * scale
    return Window((width - inner_width) / 2, (height - inner_height) / 2, inner_width, inner_height)


def person_window(box: Floats, picture: tuple[int, int], size: tuple[int, int], margin: float) -> Window:
    """Return the window around a person box, widened by `margin` of its sides and grown to the aspect of `size`.

    It is moved into the picture as far as it fits; where it is larger than the picture it reaches beyond both sides.
    A box without area (no person measured) gives `picture_window`.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    if right <= left or bottom <= top:
        return picture_window(picture, size)
    aspect = size[0] / size[1]
    width, height = (right - left) * (1 + 2 * margin), (bottom - top) * (1 + 2 * margin)
    width, height = max(width, height * aspect), max(height, width / aspect)
    return Window(
        _inside((left + right - width) / 2, width, picture[0]),
        _inside((top + bottom - height) / 2, height, picture[1]),
        width,
        height,
    )


def _inside(start: float, length: float, limit: int) -> float:
    """Move the interval [start, start + length] into [0, limit], or centre it there when it is longer."""
    if length >= limit:
        return (limit - length) / 2
    return min(max(start, 0.0), limit - length)

"""Where the person is in a training picture, at the resolution of its latents.

Shapes: h and w latents.
"""

from typing import Literal

import torch
from torch import Tensor

from ..models.body_mask import body_mask
from ..shards.geometry import Floats, Window

Kind = Literal["none", "box", "person"]

STEP = 8
"""Pixels of the picture to one of the mask, as to one of SDXL's latents; no layer attends at a finer resolution."""


def of_box(box: Floats, window: Window, size: tuple[int, int]) -> Tensor:
    """Return the share of each pixel of the mask that the person box covers; 1 everywhere where there is no box.

    Args:
        box: `[4]` left, top, right, bottom in pixels of the photo, zeros where no person was measured.
        window: part of the photo that the picture shows.
        size: (width, height) of the picture.

    Returns:
        `[1, h, w]` in 0..1.
    """
    across, down = size[0] // STEP, size[1] // STEP
    left, top, right, bottom = (float(edge) for edge in box)
    if right <= left or bottom <= top:
        return torch.ones(1, down, across)
    columns = _covered((left - window.left) / window.width, (right - window.left) / window.width, across)
    rows = _covered((top - window.top) / window.height, (bottom - window.top) / window.height, down)
    return (rows[:, None] * columns[None, :])[None]


def of_keypoints(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `models.body_mask.body_mask` of keypoints `[17, 3]` in pixels of a picture of `size`: `[1, h, w]`."""
    return body_mask(keypoints, size, (size[0] // STEP, size[1] // STEP))


def _covered(start: float, end: float, count: int) -> Tensor:
    """Return the share of each of `count` equal parts of 0..1 that lies between `start` and `end`."""
    edges = torch.arange(count + 1) / count
    return (edges[1:].clamp(max=end) - edges[:-1].clamp(min=start)).clamp(min=0) * count

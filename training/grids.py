"""Pictures in rows and columns as one PNG."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import atomic

GAP = 2
"""Pixels between pictures."""


def grid(pictures: Tensor) -> Tensor:
    """Lay out pictures `[rows, columns, 3, H, W]` in -1..1 as bytes `[height, width, 3]` on white."""
    padded = torch.nn.functional.pad(pictures.clamp(-1, 1).float(), (0, GAP, 0, GAP), value=1.0)
    rows, columns, _, height, width = padded.shape
    laid = padded.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return ((laid + 1) * 127.5).round().to(torch.uint8).cpu()


def write_grid(path: Path, pictures: Tensor) -> None:
    """Write `grid(pictures)` as PNG, whole or not at all."""
    with atomic.replacing(path) as temporary:
        Image.fromarray(grid(pictures).numpy()).save(temporary, format="PNG")

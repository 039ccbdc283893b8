"""Makes renders look like what a judge may be shown: softer, noisier, compressed, a little off in place and light."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..judges import as_input


def soften(images: NDArray[np.uint8], rng: np.random.Generator, *, zoom: float = 0.04, strength: float = 1.0) -> Tensor:
    """Images uint8 [N, S, S, 3] as float32 [N, 3, S, S] in 0..1, each changed in its own way; see `softened`."""
    made: Tensor = softened(images, rng, zoom=zoom, strength=strength)[0]
    return made


@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
def softened(
    images: NDArray[np.uint8], rng: np.random.Generator, *, zoom: float = 0.04, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Change each image in its own way, hues left alone, and say how its pixels moved.

    Returns:
        float32 [N, 3, S, S] in 0..1, and [N, 2, 3]: the affine map from the new picture's x, y, 1 to the old one's, in
        -1..1 across the picture.

    Args:
        images: renders.
        rng: decides everything.
        zoom: largest change of scale, and largest shift as a share of the side.
        strength: 0..1, share of the images that are compressed, smoothed or given noise.
    """
    count, side = images.shape[:2]
    squeezed = images.copy()
    for i in np.flatnonzero(rng.random(count) < 0.25 * strength):
        squeezed[i] = _compressed(images[i], int(rng.integers(35, 96)))
    x, moves = _moved(as_input(squeezed), rng, zoom)
    smooth = rng.random(count)
    coarse = torch.from_numpy(np.flatnonzero(smooth < 0.25 * strength))
    blurred = torch.from_numpy(np.flatnonzero((smooth >= 0.25 * strength) & (smooth < 0.5 * strength)))
    if len(coarse):  # as if decoded from a latent of fewer pixels
        small = round(side / float(rng.uniform(1.2, 2.6)))
        down = F.interpolate(x[coarse], (small, small), mode="bilinear", antialias=True)
        x[coarse] = F.interpolate(down, (side, side), mode="bicubic")
    if len(blurred):
        x[blurred] = _blurred(x[blurred], float(rng.uniform(0.4, 1.3)))
    x *= torch.from_numpy(rng.uniform(0.94, 1.06, (count, 1, 1, 1)).astype(np.float32))
    for i in np.flatnonzero(rng.random(count) < 0.3 * strength):
        x[i] += float(rng.uniform(0, 0.04)) * torch.from_numpy(rng.standard_normal(x[i].shape, np.float32))
    return x.clamp_(0, 1), moves


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _moved(x: Tensor, rng: np.random.Generator, zoom: float) -> tuple[Tensor, Tensor]:
    """Mirror half of the images, and scale and shift all; what comes in from outside repeats the edge."""
    count = len(x)
    scale = rng.uniform(1 - zoom, 1 + zoom, count)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = rng.uniform(-zoom, zoom, (count, 2))
    grid = F.affine_grid(torch.from_numpy(theta), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False), torch.from_numpy(theta)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of 7 taps each way; sums of shifted images are faster here than `conv2d` by group."""
    reach = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-(reach**2) / (2 * sigma**2))
    taps = (kernel / kernel.sum()).tolist()
    side = x.shape[-1]
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    rows = sum((tap * padded[:, :, i : i + side] for i, tap in enumerate(taps)), torch.zeros(()))
    return sum((tap * rows[..., i : i + side] for i, tap in enumerate(taps)), torch.zeros(()))

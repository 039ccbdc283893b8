"""Body keypoints as pictures: a Gaussian spot for each, as bright as its confidence.

Shapes: K 12 body keypoints, H and W pixels, * any leading dimensions.
"""

import torch
from torch import Tensor

BODY_KEYPOINTS = slice(5, 17)  # of the 17 COCO keypoints: shoulders, elbows, wrists, hips, knees, ankles
BODY_KEYPOINT_COUNT = 12


def body_heatmaps(keypoints: Tensor, crop: tuple[int, int], size: tuple[int, int], sigma: float) -> Tensor:
    """Draw the 12 body keypoints; one that was not measured, or lies outside the crop, leaves its map dark.

    Args:
        keypoints: `[*, 17, 3]` x, y in pixels of the crop (pixel centres at half-integers) and confidence 0..1.
        crop: width and height of the crop that the coordinates belong to.
        size: width and height of the maps.
        sigma: standard deviation of a spot as a share of the height.

    Returns:
        `[*, 12, H, W]`, at most the confidence.
    """
    x, y, confidence = keypoints[..., BODY_KEYPOINTS, :].float().unbind(-1)
    spread = sigma * size[1]
    across = _spots(x * (size[0] / crop[0]), size[0], spread)
    down = _spots(y * (size[1] / crop[1]), size[1], spread)
    return confidence[..., None, None] * down[..., :, None] * across[..., None, :]


def _spots(centres: Tensor, length: int, spread: float) -> Tensor:
    """Return `exp(-(i + 1/2 - centre)² / (2 spread²))` for the pixels i of a line: `[*, K, length]`."""
    return torch.exp(-0.5 * ((pixel_centres(length, centres) - centres[..., None]) / spread) ** 2)


def pixel_centres(length: int, like: Tensor) -> Tensor:
    """Return where the middles of a line's pixels are, `[length]`, on the device and in the type of `like`."""
    return torch.arange(length, device=like.device, dtype=like.dtype) + 0.5

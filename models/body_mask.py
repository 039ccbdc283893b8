"""Where in a picture the person is, from the keypoints alone: limbs as capsules, generous enough for flesh and clothes.

Shapes: * any leading dimensions, S segments, H and W pixels.
"""

import torch
from torch import Tensor

from .heatmaps import pixel_centres

HEAD = slice(0, 5)
SHOULDERS, HIPS = [5, 6], [11, 12]
TORSO = ((5, 11), (6, 12))
BONES = (
    *((5, 6), (11, 12), (5, 11), (6, 12), (5, 12), (6, 11)),  # the sides and diagonals of the torso fill it
    *((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)),
)
BEYOND = (((7, 9), 0.6), ((8, 10), 0.6), ((13, 15), 0.3), ((14, 16), 0.3))
"""Bones that go on past their end, by this share of their length: hands and feet have no keypoint of their own."""
RADIUS, HEAD_RADIUS = 0.3, 0.42
"""Of a capsule, in torso lengths."""
EDGE = 0.1
"""Width over which the mask falls from 1 to 0, in torso lengths."""
NECK = 0.5
"""From between the shoulders to the middle of the head, in torso lengths, where no point of the head was measured."""
THIGH = 1.0
"""In torso lengths, straight on from the torso, where a knee was not measured."""


def body_mask(keypoints: Tensor, crop: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Draw the mask of a person; 1 everywhere where no torso was measured, because then nothing is known.

    Args:
        keypoints: `[*, 17, 3]` x, y in pixels of the crop and confidence; 0, 0, 0 where not measured. One outside the
            crop counts: its limb comes in from there.
        crop: width and height of the crop that the coordinates belong to.
        size: width and height of the mask.

    Returns:
        `[*, 1, H, W]` in 0..1.
    """
    points = keypoints[..., :2].float()
    known = (keypoints != 0).any(-1)
    unit, whole = _unit(points, known)
    start, end, there = _segments(points, known, unit)
    radius = unit[..., None] * unit.new_tensor([HEAD_RADIUS] + [RADIUS] * (there.shape[-1] - 1))
    distance = _distance(start, end, crop, size)
    inside = 1 - (distance - radius[..., None, None]) / (EDGE * unit[..., None, None, None])
    drawn = inside.clamp(0, 1).masked_fill(~there[..., None, None], 0.0).amax(-3)
    return torch.where(whole[..., None, None], drawn, 1.0)[..., None, :, :]


def _unit(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of the torso `[*]`, and whether shoulders and hips were measured; 1 where they were not.

    A torso that leans to the camera looks short; the thighs, which are about as long, then say how large the person is.
    """
    lengths = [(points[..., a, :] - points[..., b, :]).norm(dim=-1) for a, b in (*TORSO, (11, 13), (12, 14))]
    pairs = [known[..., a] & known[..., b] for a, b in (*TORSO, (11, 13), (12, 14))]
    longest = torch.where(torch.stack(pairs, -1), torch.stack(lengths, -1), 0.0).amax(-1)
    whole = known[..., SHOULDERS].any(-1) & known[..., HIPS].any(-1) & (longest > 0)
    return torch.where(whole, longest, 1.0), whole


def _segments(points: Tensor, known: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both ends `[*, S, 2]` of what is drawn, the head first, and whether it is drawn, `[*, S]`."""
    shoulder, hip = (_mean(points, known, ends) for ends in (SHOULDERS, HIPS))
    up = shoulder - hip
    up = up / up.norm(dim=-1, keepdim=True).clamp(min=1e-6) * unit[..., None]
    head_seen = known[..., HEAD].any(-1)
    head = torch.where(head_seen[..., None], _mean(points, known, list(range(5))), shoulder + NECK * up)
    starts, ends, there = [shoulder], [head], [torch.ones_like(head_seen)]
    starts.append(shoulder)
    ends.append(hip)
    there.append(torch.ones_like(head_seen))
    for a, b in BONES:
        starts.append(points[..., a, :])
        ends.append(points[..., b, :])
        there.append(known[..., a] & known[..., b])
    for (a, b), share in BEYOND:
        starts.append(points[..., b, :])
        ends.append(points[..., b, :] + share * (points[..., b, :] - points[..., a, :]))
        there.append(known[..., a] & known[..., b])
    for hip_end, knee in ((11, 13), (12, 14)):
        starts.append(points[..., hip_end, :])
        ends.append(points[..., hip_end, :] - THIGH * up)
        there.append(known[..., hip_end] & ~known[..., knee])
    return torch.stack(starts, -2), torch.stack(ends, -2), torch.stack(there, -1)


def _mean(points: Tensor, known: Tensor, which: list[int]) -> Tensor:
    """Return the mean `[*, 2]` of the points that are known; 0 where none is."""
    weight = known[..., which, None].to(points.dtype)
    return (points[..., which, :] * weight).sum(-2) / weight.sum(-2).clamp(min=1)


def _distance(start: Tensor, end: Tensor, crop: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return how far every pixel of the mask is from every segment, in pixels of the crop: `[*, S, H, W]`."""
    across = pixel_centres(size[0], start) * (crop[0] / size[0])
    down = pixel_centres(size[1], start) * (crop[1] / size[1])
    along = end - start
    x = across[None, :] - start[..., 0, None, None]
    y = down[:, None] - start[..., 1, None, None]
    dx, dy = along[..., 0, None, None], along[..., 1, None, None]
    share = ((x * dx + y * dy) / (dx.square() + dy.square()).clamp(min=1e-6)).clamp(0, 1)
    return ((x - share * dx).square() + (y - share * dy).square()).sqrt()

"""The losses of both trainers: pure functions, each with the source of its formula.

Shapes: B identities, d latent, R bone ratios, H and W crop, K = 12 body keypoints, * any leading dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TORSO = ((5, 11), (6, 12))
"""Shoulder and hip of each side, as COCO indices; the unit of length is the mean of the two that are measured."""
BONES: dict[str, tuple[tuple[int, int], ...]] = {
    "shoulders": ((5, 6),),
    "hips": ((11, 12),),
    "upper arm": ((5, 7), (6, 8)),
    "forearm": ((7, 9), (8, 10)),
    "thigh": ((11, 13), (12, 14)),
    "shin": ((13, 15), (14, 16)),
}
"""The bones whose ratios to the torso are used; left and right are averaged where both are measured."""
BODY = slice(5, 17)
"""Shoulders, elbows, wrists, hips, knees and ankles among the 17 keypoints of COCO."""
HIPS = [11, 12]


def kl_to_prior(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, var) ‖ N(0, 1)) of each number in nats, `[B, d]`: Kingma and Welling 2014, appendix B."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def free_bits(kl: Tensor, floor: float) -> Tensor:
    """Return the sum over d of max(mean over B of KL, floor): Kingma et al. 2016 (IAF), eq. 15, a group a dimension.

    Args:
        kl: `[B, d]` in nats; B = 0 (a process that got only samples which fill the batch) costs the floor.
        floor: nats a dimension may carry before it costs anything.
    """
    return (kl.sum(0) / max(1, len(kl))).clamp(min=floor).sum()


def annealed(step: int, rise: int) -> float:
    """Return the factor of the KL term at update `step`: linear from 0 to 1 in `rise` updates (Bowman et al. 2016)."""
    return min(1.0, step / rise) if rise else 1.0


def info_nce(first: Tensor, second: Tensor, identity: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Return how badly the two halves of each pair find each other among the batch, in nats.

    van den Oord et al. 2018, eq. 4, with cosine similarity and both directions, as Radford et al. 2021, figure 3.
    The same identity in another row is no negative.

    Args:
        first, second: `[B, d]`; row i of both is one identity, seen in disjoint sets of views.
        identity: `[B]`, the number of the identity.
        valid: `[B]` of bool; other rows are left out altogether.
        temperature: divides the cosines.
    """
    similarity = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / temperature
    own = torch.arange(len(first), device=first.device)
    same = identity[:, None] == identity[None, :]
    no_negative = (same | ~valid[None, :]) & (own[:, None] != own[None, :])
    total = similarity.new_zeros(())
    for scores in (similarity, similarity.T):
        each = F.cross_entropy(scores.masked_fill(no_negative, -torch.inf), own, reduction="none")
        total = total + 0.5 * (each * valid).sum() / valid.sum().clamp(min=1)
    return total


def reconstruction(drawn: Tensor, target: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the weighted mean absolute difference of two pictures (L1), over the mask where there is one.

    Args:
        drawn, target: `[B, 3, H, W]`.
        weight: `[B]`, how much each sample counts; all zero gives zero.
        mask: `[B, 1, H, W]` in 0..1, 1 on the person.
    """
    difference = (drawn - target).abs()
    if mask is None:
        each = difference.mean((1, 2, 3))
    else:
        each = (difference * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3))).clamp(min=1.0)
    return weighted_mean(each, weight)


def weighted_mean(each: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of `[B]` weighted by the samples' loss weights `[B]`; 0 when all weights are 0."""
    return (each * weight).sum() / weight.sum().clamp(min=1e-8)


def log_bone_ratios(keypoints: Tensor, confident: float) -> tuple[Tensor, Tensor]:
    """Return the log of each bone's length in torso lengths, and whether it was measured (method.md, stage 1.5).

    Args:
        keypoints: `[*, 17, 3]` x, y in pixels and confidence.
        confident: confidence that both ends of a bone need.

    Returns:
        `[*, R]` log ratios, 0 where not measured, and `[*, R]` of bool. The order is that of `BONES`.
    """
    torso, torso_seen = _mean_length(keypoints, TORSO, confident)
    lengths, seen = zip(*(_mean_length(keypoints, bone, confident) for bone in BONES.values()), strict=True)
    measured = torch.stack(seen, -1) & torso_seen[..., None]
    ratios = torch.stack(lengths, -1).clamp(min=1e-6).log() - torso[..., None].clamp(min=1e-6).log()
    return torch.where(measured, ratios, 0.0), measured


def keypoint_error(generated: Tensor, reference: Tensor, confident: float, shortest: float) -> tuple[Tensor, Tensor]:
    """Return the squared distance of each body keypoint between two poses, both in their torso frame (eq. 14, L_id).

    A torso frame has its origin midway between the hips and the torso's length as unit, so that size and place of the
    person do not count. It needs both hips and, for its unit, the shoulders of the sides that both poses show.

    Args:
        generated, reference: `[*, 17, 3]` x, y in pixels and confidence.
        confident: confidence that a keypoint needs in both poses to count.
        shortest: pixels of the shortest torso of `generated` that is a unit; under it distances would explode.

    Returns:
        `[*, K]` squared distances in torso lengths, 0 where not counted, and `[*, K]` of bool.
    """
    seen = torch.minimum(generated[..., 2], reference[..., 2]).detach() >= confident
    frames = [_torso_frame(points, seen) for points in (generated, reference)]
    counted = seen[..., BODY] & seen[..., HIPS].all(-1, keepdim=True)
    for (_, length), limit in zip(frames, (shortest, 0.0), strict=True):
        counted = counted & (length.detach() > limit)
    first, second = (
        (points[..., BODY, :2] - origin) / length[..., None].clamp(min=1e-6)
        for points, (origin, length) in zip((generated, reference), frames, strict=True)
    )
    distance = torch.where(counted[..., None], first - second, 0.0).square().sum(-1)
    return distance, counted


def _torso_frame(points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return origin `[*, 1, 2]` and unit `[*, 1]` of a pose; 0 for the unit where no side of the torso is seen."""
    origin = points[..., HIPS, :2].mean(-2, keepdim=True)
    together = torch.cat([points[..., :2], seen[..., None].to(points.dtype)], -1)
    length, measured = _mean_length(together, TORSO, 0.5)
    return origin, torch.where(measured, length, 0.0)[..., None]


def masked_l1(predicted: Tensor, target: Tensor, measured: Tensor) -> Tensor:
    """Return the mean absolute difference where `measured` holds; 0, with a gradient of 0, where nothing was."""
    difference = torch.where(measured, (predicted - target).abs(), 0.0)
    return difference.sum() / measured.sum().clamp(min=1)


def _mean_length(keypoints: Tensor, bones: tuple[tuple[int, int], ...], confident: float) -> tuple[Tensor, Tensor]:
    """Return the mean length over the measured ones of `bones`, `[*]`, and whether there was any, `[*]`."""
    start, end = (keypoints[..., [bone[side] for bone in bones], :] for side in (0, 1))
    squared = (start[..., :2] - end[..., :2]).square().sum(-1)
    seen = (torch.minimum(start[..., 2], end[..., 2]) >= confident) & (squared > 0)
    length = torch.where(seen, squared, 1.0).sqrt()  # the root's gradient at 0 is infinite
    count = seen.sum(-1)
    return torch.where(seen, length, 0.0).sum(-1) / count.clamp(min=1), count > 0


def cosine_distance(generated: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Return 1 − cos of the features of a picture and the mean cosine to what it should resemble (eq. 14, L_CLIP).

    Args:
        generated: `[B, D]` of unit length.
        wanted: `[B, n, D]` of unit length.
        weight: `[B, n]`, 0 for what does not count; a row of zeros gives 0.

    Returns:
        `[B]`.
    """
    cosine = (generated[:, None] * wanted).sum(-1)
    total = weight.sum(1)
    return torch.where(total > 0, 1 - (cosine * weight).sum(1) / total.clamp(min=1e-8), 0.0)

"""What the latents of held-out people tell: their bone ratios, and how much each number of a latent is used.

Shapes: N photos, I identities, R bone ratios, d latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import losses
from .posteriors import Posteriors, disjoint_views

LEAST_IDENTITIES = 3
ROUNDING = 1e-8
"""Variance of log ratios under which all are alike."""


@dataclass
class DimensionUse:
    """How one number of the latent is used over photos.

    Attributes:
        variance: of its mean over photos; near 0 where it says nothing.
        kl: mean KL to the prior in nats: what it costs, hence what it can tell.
    """

    variance: float
    kl: float


def dimension_use(known: Posteriors) -> list[DimensionUse]:
    """Return the use of each number of the latent."""
    variance, kl = known.mu.var(0, correction=0), losses.kl_to_prior(known.mu, known.logvar).mean(0)
    return [DimensionUse(*pair) for pair in zip(variance.tolist(), kl.tolist(), strict=True)]


@torch.no_grad()
def bone_ratio_r2(
    known: Posteriors, predict: Callable[[Tensor], Tensor], views: int, confident: float
) -> dict[str, float]:
    """Return R² of each bone's log ratio: predicted from one set of views, measured in a disjoint set of the person.

    1 where it is predicted exactly, 0 where no better than by the mean over people. What a photo shows of a bone
    depends on the pose, so the mean over a few photos is itself uncertain and 1 is out of reach.

    Args:
        known: posteriors with keypoints.
        predict: log ratios `[I, R]` from latents `[I, d]`.
        views: in each set at most.
        confident: confidence that both ends of a bone need.

    Returns:
        By name of the bone; bones that fewer than three people show, or that all have alike, are left out.
    """
    if known.keypoints is None:
        return {}
    pairs = disjoint_views(known, views)
    sides = [(first, second) for pair in pairs for first, second in (pair, pair[::-1])]
    if not sides:
        return {}
    ratios, measured = losses.log_bone_ratios(known.keypoints, confident)
    predicted = predict(torch.cat([known.of_rows(first)[0] for first, _ in sides]))
    counts = torch.stack([measured[second].sum(0) for _, second in sides])
    truth = torch.stack([ratios[second].sum(0) for _, second in sides]) / counts.clamp(min=1)
    found = {}
    for number, bone in enumerate(losses.BONES):
        seen = counts[:, number] > 0
        wanted = truth[seen, number]
        spread = (wanted - wanted.mean()).square().sum() if len(wanted) else wanted.sum()
        if len(wanted) >= 2 * LEAST_IDENTITIES and spread / len(wanted) > ROUNDING:
            found[bone] = float(1 - (wanted - predicted[seen, number]).square().sum() / spread)
    return found

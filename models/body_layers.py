"""Layers of the Body-ID Encoder and its decoder.

Shapes: N pictures, C channels, H and W pixels, d latent.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with the most groups of at least 8 channels (statistics of one sample only)."""
    groups = max(g for g in range(1, max(1, channels // 8) + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class Down(nn.Module):
    """A residual block that halves width and height: `[N, C, H, W]` to `[N, C', H/2, W/2]`."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, outputs, 3, stride=2, padding=1))
        self.second = nn.Sequential(_norm(outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the halved features."""
        out: Tensor = self.second(self.first(features)) + self.skip(F.avg_pool2d(features, 2))
        return out


class Up(nn.Module):
    """A block that doubles width and height, sees the pose as maps and the latent as a scale and shift a channel.

    The latent enters as in adaptive group normalisation (Dhariwal and Nichol 2021, section 3).
    """

    def __init__(self, channels: int, outputs: int, maps: int, latent: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels + maps, outputs, 3, padding=1)
        self.norm = _norm(outputs)
        self.modulation = nn.Linear(latent, 2 * outputs)
        self.out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(channels, outputs, 1)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, features: Tensor, maps: Tensor, latent: Tensor) -> Tensor:
        """Return `[N, C', 2H, 2W]` from features `[N, C, H, W]`, maps `[N, 12, 2H, 2W]` and latent `[N, d]`."""
        raised = F.interpolate(features, scale_factor=2.0, mode="nearest")
        scale, shift = self.modulation(latent)[..., None, None].chunk(2, 1)
        mixed = self.norm(self.mix(torch.cat([raised, maps], 1))) * (1 + scale) + shift
        out: Tensor = self.out(F.silu(mixed)) + F.interpolate(self.skip(features), scale_factor=2.0, mode="nearest")
        return out

"""Variants of the diffusion loss that are off by default.

Legend: B batch, C channels, h and w latents.
"""

import torch
from torch import Tensor


def noise_like(latents_BChw: Tensor, offset: float) -> Tensor:
    """Return normal noise, plus `offset` times a normal number for each channel of each sample.

    The second part teaches very dark and very bright pictures (N. Guttenberg, "Diffusion with offset noise", 2023).
    """
    noise_BChw = torch.randn_like(latents_BChw)
    if offset:
        noise_BChw = noise_BChw + offset * torch.randn_like(latents_BChw[:, :, :1, :1])
    return noise_BChw


def min_snr_weight(alpha_bar_B: Tensor, gamma: float) -> Tensor:
    """Return the weight of each sample's error: min(SNR, gamma) / SNR, for a network that predicts the noise.

    Hang et al. 2023 (Min-SNR), section 3.4; SNR = alpha_bar / (1 − alpha_bar). gamma = 0 gives 1.
    """
    if not gamma:
        return torch.ones_like(alpha_bar_B)
    snr_B = alpha_bar_B / (1 - alpha_bar_B)
    return snr_B.clamp(max=gamma) / snr_B

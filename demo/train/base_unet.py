"""The base's UNet: trained on latents and captions to tell noise, as SDXL is.

Legend of shapes: B batch, C latent channels, S text tokens, D width of both text encoders.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn

from ... import progress
from ...models.sdxl import noise_schedule
from .base_checkpoint import load_checkpoint, rate_at, save_checkpoint, shuffled
from .base_text import WIDTHS, Hearing, TextEncoders
from .base_vae import CHANNELS

SIDE = 16
TIME_IDS = (128.0, 128.0, 0.0, 0.0, 128.0, 128.0)
"""SDXL's size conditions as the stock pipeline passes them at 128x128: original size, crop, target size."""

TIME_ID_WIDTH = 8


@dataclass(frozen=True)
class UNetSettings:
    """How the UNet and, with it, the text encoders are trained."""

    steps: int = 7000
    schedule: int = (
        7200  # steps over which the rate would fall to nothing; the mean of the weights allows to stop early
    )
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    hearing: float = 0.1  # weight of what the text encoders must tell of captions by themselves
    noisy: float = 0.75  # time steps are drawn as 1000 u^noisy: below 1 more of those that decide what is seen
    drop: float = 0.1  # share of captions dropped, for classifier-free guidance
    snr: float = 5.0  # least-SNR weight (Hang et al. 2023, eq. 4) for noise prediction: min(SNR, this) / SNR
    average: float = 0.999
    seed: int = 3


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet of SDXL's layout: a first level without attention, then two with cross-attention."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 96, 80),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=1,
        attention_head_dim=(2, 3, 5),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * TIME_ID_WIDTH,
        cross_attention_dim=sum(WIDTHS),
    )
    return unet


def plain_attention(unet: UNet2DConditionModel) -> None:
    """Use matrix products and a softmax: torch's fused attention in bfloat16 takes half as long again on a CPU."""
    unet.set_attn_processor(AttnProcessor())


def scheduler() -> EulerDiscreteScheduler:
    """SDXL's own noise schedule."""
    return noise_schedule()


class Averaged(nn.Module):
    """A running mean of the weights, whose memory grows to `decay` as the steps do."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.weights = nn.ParameterList([p.detach().clone() for p in model.parameters()]).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after step number `step` into the mean."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights), [p.detach() for p in model.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Give `model` the mean weights."""
        for mean, p in zip(self.weights, model.parameters(), strict=True):
            p.copy_(mean)


def predict(unet: UNet2DConditionModel, x_BCHW: Tensor, t_B: Tensor, states_BSD: Tensor, pooled_BP: Tensor) -> Tensor:
    """The noise that the UNet sees in latents scaled to unit variance, float32 [B, C, H, W]; bfloat16 inside."""
    conditions = {"text_embeds": pooled_BP, "time_ids": torch.tensor(TIME_IDS).expand(len(x_BCHW), 6)}
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = unet(x_BCHW, t_B, states_BSD, added_cond_kwargs=conditions, return_dict=False)[0]
    return out.float()


def train_unet(
    latents_2NCHW: Tensor, ids_NKS: Tensor, text: TextEncoders, hearing: Hearing, settings: UNetSettings, work: Path
) -> UNet2DConditionModel:
    """Train on latents of photos and of their mirror images, and on token ids of each photo's K captions.

    The result and `text` have the mean weights. Dropped captions are zeros, as the stock pipeline's negative half is
    without a negative prompt. A photo and its mirror image share captions, which never say left or right.
    """
    torch.manual_seed(settings.seed)
    unet = new_unet()
    plain_attention(unet)
    both = nn.ModuleList([unet, text])
    every = nn.ModuleList([both, hearing])
    optimizer = torch.optim.AdamW(every.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    mean = Averaged(both, settings.average)
    file = work / "unet.pt"
    start = load_checkpoint(file, settings, every=every, mean=mean, optimizer=optimizer)
    alphas = scheduler().alphas_cumprod
    rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + start)
    batches = shuffled(len(ids_NKS), settings.batch, settings.seed, start)
    losses, begun = 0.0, time.monotonic()
    with progress.bar("unet", settings.steps - start) as bar:
        for step in range(start, settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, settings.schedule, settings.warmup, settings.rate)
            chosen = torch.from_numpy(next(batches))
            wording = torch.randint(0, ids_NKS.shape[1], (len(chosen),), generator=rng)
            mirrored = torch.randint(0, 2, (len(chosen),), generator=rng)
            with torch.autocast("cpu", torch.bfloat16):
                said = text(ids_NKS[chosen, wording])
            loss = _loss(unet, latents_2NCHW[mirrored, chosen].float(), said, alphas, settings, rng)
            heard = hearing(said[1:], chosen)
            optimizer.zero_grad()
            (loss + settings.hearing * heard).backward()
            torch.nn.utils.clip_grad_norm_(every.parameters(), 1.0)
            optimizer.step()
            mean.update(both, step)
            losses += loss.item()
            bar.advance(1)
            if (step + 1) % 100 == 0:
                each = (time.monotonic() - begun) / (step + 1 - start)
                print(
                    f"unet step {step + 1} loss {losses / 100:.4f} heard {heard.item():.3f} {each:.3f} s/step",
                    flush=True,
                )
                losses = 0.0
            if (step + 1) % 250 == 0 or step + 1 == settings.steps:
                save_checkpoint(file, settings, step + 1, every=every, mean=mean, optimizer=optimizer)
    mean.copy_to(both)
    return unet


def _loss(
    unet: UNet2DConditionModel,
    clean_BCHW: Tensor,
    said: tuple[Tensor, Tensor, Tensor],
    alphas_T: Tensor,
    settings: UNetSettings,
    rng: torch.Generator,
) -> Tensor:
    noise = torch.randn(clean_BCHW.shape, generator=rng)
    t_B = (torch.rand(len(clean_BCHW), generator=rng) ** settings.noisy * len(alphas_T)).long()
    alpha_B111 = alphas_T[t_B][:, None, None, None]
    noisy = alpha_B111.sqrt() * clean_BCHW + (1 - alpha_B111).sqrt() * noise
    states, _, pooled = said
    kept_B = (torch.rand(len(t_B), generator=rng) >= settings.drop).float()
    made = predict(unet, noisy, t_B, states * kept_B[:, None, None], pooled * kept_B[:, None])
    ratio_B = (alpha_B111 / (1 - alpha_B111)).flatten()
    weight_B = ratio_B.clamp(max=settings.snr) / ratio_B
    return (weight_B * (made - noise).square().mean((1, 2, 3))).mean()


@torch.no_grad()
def trajectories(
    unet: UNet2DConditionModel,
    states_NSD: Tensor,
    pooled_NP: Tensor,
    noise_NCHW: Tensor,
    steps: int,
    guidance: float,
    keep: int = 1,
    batch: int = 64,
) -> Iterator[Tensor]:
    """Yield for each batch the latents along the Euler solution of the probability flow, [kept, B, C, H, W].

    Trailing time steps; guidance above 1 takes the zero text as the unconditional one. `keep` keeps every so many
    steps, beginning with the start. Latents are in the scheduler's scale: clean + sigma * noise.
    """
    for i in range(0, len(noise_NCHW), batch):
        euler: Any = EulerDiscreteScheduler.from_config(scheduler().config, timestep_spacing="trailing")
        euler.set_timesteps(steps)
        states, pooled = states_NSD[i : i + batch], pooled_NP[i : i + batch]
        x = noise_NCHW[i : i + batch] * euler.sigmas[0]
        path = [x]
        for number, t in enumerate(euler.timesteps):
            sigma, after = euler.sigmas[number], euler.sigmas[number + 1]
            scaled = x / (sigma**2 + 1).sqrt()
            eps = predict(unet, scaled, t.expand(len(x)), states, pooled)
            if guidance > 1:
                blank = predict(unet, scaled, t.expand(len(x)), states * 0, pooled * 0)
                eps = blank + guidance * (eps - blank)
            x = x + (after - sigma) * eps
            if (number + 1) % keep == 0:
                path.append(x)
        yield torch.stack(path)


def seeded_noise(seed: int, count: int) -> Tensor:
    """Unit noise [N, C, 16, 16] of a seed."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((count, CHANNELS, SIDE, SIDE), np.float32))

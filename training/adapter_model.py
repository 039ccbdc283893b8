"""eps_theta(x_t, c_text, c_face, c_body, t): the frozen base, the frozen body encoder and the adapter, together.

Legend: B batch, K references, H and W pixels, h and w latents.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor

from ..errors import ModelError
from ..models.adapter import AdapterBundle
from ..models.body_encoder import BodyEncoder, aggregate_views
from ..models.sdxl import Text, move, time_ids
from .adapter_conditions import Conditions, face_of
from .encoders import AdapterCache, FrozenEncoders
from .task import Batch

VALIDATION_TIMES = (100, 300, 500, 700, 900)


class AdapterModel:
    """A base with an adapter installed; everything but the adapter is frozen.

    Args:
        pipe: the base; its UNet gets the adapter installed.
        encoder: the body encoder.
        bundle: the adapter.
        caption_fallback: prompt of photos without a caption.
        cache: of what the frozen networks make, or None.

    Raises:
        ModelError: the base does not predict noise (eps), or the adapter does not fit it or the encoder.
    """

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        encoder: BodyEncoder,
        bundle: AdapterBundle,
        caption_fallback: str,
        cache: AdapterCache | None = None,
    ) -> None:
        scheduler: Any = pipe.scheduler
        kind = scheduler.config.get("prediction_type", "epsilon")
        if kind != "epsilon":
            raise ModelError(f"the base predicts {kind}, not noise; choose a base that predicts epsilon")
        require_latent(bundle, encoder.config.latent)
        self.pipe, self.encoder, self.bundle = pipe, encoder.requires_grad_(False).eval(), bundle
        self.caption_fallback = caption_fallback
        self.encoders = FrozenEncoders(pipe, self.encoder, cache)
        self.bundle.install(pipe.unet)
        self.alphas: Tensor = scheduler.alphas_cumprod.float()
        self._no_text: Text | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.alphas.device

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all networks to `device`, the base also to `dtype`."""
        move(self.pipe, device, dtype)
        self.bundle.to(device)
        self.encoder.to(device)
        self.alphas = self.alphas.to(device)
        self._no_text = None

    @property
    def no_text(self) -> Text:
        """What a dropped text is, `[1, S, D]` and `[1, P]`."""
        if self._no_text is None:
            self._no_text = self.encoders.dropped_text()
        return self._no_text

    @torch.no_grad()
    def conditions(self, batch: Batch) -> Conditions:
        """Build text, face and body of each sample; face and body from its references only, never from its target."""
        captions = [caption.strip() or self.caption_fallback for caption in batch["caption"]]
        body, _ = aggregate_views(*self.encoders.view_posteriors(batch), batch["reference_view_weight"])
        return Conditions(self.encoders.text(batch, captions), face_of(batch["reference_faces"]), body.float())

    @torch.no_grad()
    def latents(self, batch: Batch, draw: bool = True) -> Tensor:
        """Return scaled latents `[B, 4, h, w]` of a batch's targets: drawn from their posterior, or its mean."""
        mean, std = self.encoders.latent_posterior(batch)
        latents = mean + std * torch.randn_like(mean) if draw else mean
        return latents.float() * self.encoders.scaling_factor

    def errors(self, batch: Batch, latents: Tensor, conditions: Conditions, times: Tensor, noise: Tensor) -> Tensor:
        """Return the mean of (eps − eps_theta)² of each sample, `[B]` (document 000, eq. 14, first term).

        Args:
            batch: for the size conditions.
            latents: `[B, 4, h, w]`.
            conditions: of each sample.
            times: `[B]`, 0 … T−1.
            noise: eps, like `latents`.
        """
        alpha = self.alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        return (self.noise(batch, noisy, conditions, times) - noise).square().mean((1, 2, 3))

    def noise(
        self,
        batch: Batch,
        noisy: Tensor,
        conditions: Conditions,
        times: Tensor,
        unet: UNet2DConditionModel | None = None,
    ) -> Tensor:
        """Return eps_theta(x_t, c_text, c_face, c_body, t), float32 `[B, 4, h, w]`.

        Args:
            batch: for the size conditions; with `person_mask` `[B, 1, h, w]` face and body act there only.
            noisy: x_t, `[B, 4, h, w]`.
            conditions: of each sample.
            times: t, `[B]`.
            unet: another than the base's, with the adapter installed.
        """
        unet = self.pipe.unet if unet is None else unet
        dtype = unet.dtype
        pixels = self.pipe.vae_scale_factor
        size = (noisy.shape[-2] * pixels, noisy.shape[-1] * pixels)
        added = {
            "text_embeds": conditions.text.pooled.to(dtype),
            "time_ids": time_ids(batch["original_size"], batch["crop_top_left"], size).to(dtype),
            "image_embeds": conditions.embeddings(self.bundle.conditions),
        }
        masks = [batch["person_mask"]] * len(self.bundle.conditions) if "person_mask" in batch else None
        options = {"cross_attention_kwargs": {"ip_adapter_masks": masks}} if masks else {}
        states = conditions.text.states.to(dtype)
        predicted: Tensor = unet(noisy.to(dtype), times, states, added_cond_kwargs=added, **options).sample
        return predicted.float()

    @torch.no_grad()
    def validation(self, batch: Batch, seed: int) -> dict[str, float]:
        """Return L_diff at fixed noise and times: `diff_on`, `diff_body_off` (where there is a body), `diff_off`."""
        conditions = self.conditions(batch)
        latents = self.latents(batch, draw=False)
        modes: dict[str, dict[str, float]] = {"on": {}, "off": dict.fromkeys(self.bundle.conditions, 0.0)}
        if "body" in self.bundle.conditions:
            modes["body_off"] = {"body": 0.0}
        figures = {}
        for name, changed in modes.items():
            with scales(self.bundle, changed):
                figures[f"diff_{name}"] = self._at_fixed_noise(batch, latents, conditions, seed)
        return figures

    def _at_fixed_noise(self, batch: Batch, latents: Tensor, conditions: Conditions, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        means = []
        for time in VALIDATION_TIMES:
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            times = torch.full((len(latents),), time, device=latents.device)
            means.append(float(self.errors(batch, latents, conditions, times, noise).mean()))
        return sum(means) / len(means)


def require_latent(bundle: AdapterBundle, latent: int) -> None:
    """Check that the adapter's body branch takes latents of this width.

    Raises:
        ModelError: it does not.
    """
    if "body" in bundle.conditions and bundle.branch("body").image_proj.condition_dim != latent:
        width = bundle.branch("body").image_proj.condition_dim
        raise ModelError(
            f"the adapter takes body latents of {width} numbers, the body encoder makes {latent}; "
            "use the encoder that the adapter was trained with"
        )


@contextlib.contextmanager
def scales(bundle: AdapterBundle, changed: Mapping[str, float]) -> Iterator[None]:
    """Set lambda of every condition for the block: `changed`, 1 where it says nothing; 1 everywhere after it."""
    bundle.set_scale(**{name: changed.get(name, 1.0) for name in bundle.conditions})
    try:
        yield
    finally:
        bundle.set_scale(**dict.fromkeys(bundle.conditions, 1.0))

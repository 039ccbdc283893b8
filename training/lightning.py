"""The Lightning branch: a few-step sample under the batch's own conditions, and the losses that look at it (eq. 14).

PuLID (Guo et al. 2024) trains the identity of a face through a 4-step SDXL-Lightning sample; here the body's, and
CLIP's. The picture has a gradient to the adapter through the last steps of the sampler and the VAE.

Legend: B batch, C latent channels, h and w latents, H and W pixels, K references.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import progress
from ..errors import ModelError
from ..models import registry
from ..models.adapter import AdapterBundle
from ..models.clip import ClipScorer
from ..models.lightning import load_few_step_unet
from ..models.pose_gradient import DifferentiablePose
from . import losses
from .adapter_conditions import Conditions
from .adapter_config import AdapterConfig
from .adapter_model import AdapterModel
from .task import Batch

SHORTEST_TORSO = 0.02
"""Of the generated picture's shorter side: under it a torso is no unit of length, and its person does not count."""


@dataclass(frozen=True)
class Generated:
    """Pictures of a batch, with a gradient to the adapter.

    Attributes:
        pictures: `[B, 3, H, W]` RGB in 0..1.
        keypoints: `[B, 17, 3]`, those of the targets in pixels of `pictures`; confidence 0 outside.
    """

    pictures: Tensor
    keypoints: Tensor


class LightningBranch:
    """Makes pictures and compares them.

    Args:
        model: base and adapter.
        config: of the run.
        unet: the few-step UNet, which gets the same adapter installed; None samples the base's own.
        pose: for L_id.
        clip: for L_CLIP.

    Raises:
        ModelError: the adapter does not fit the UNet, or the base has no VAE.
    """

    def __init__(
        self,
        model: AdapterModel,
        config: AdapterConfig,
        unet: UNet2DConditionModel | None = None,
        pose: DifferentiablePose | None = None,
        clip: ClipScorer | None = None,
    ) -> None:
        if model.pipe.vae is None:
            raise ModelError(
                "the Lightning branch decodes pictures and the base's VAE is not loaded; set cache.mode=on"
            )
        self.model, self.config, self.pose, self.clip = model, config, pose, clip
        self.unet = model.pipe.unet if unet is None else unet
        self.twin: AdapterBundle | None = None
        if unet is not None:
            # The same branches, hence the same parameters, in a second UNet; what is trained has one owner, `model`.
            self.twin = AdapterBundle({name: model.bundle.branch(name) for name in model.bundle.conditions})
            self.twin.install(unet)
        if config.lightning.checkpoint:
            model.pipe.vae.enable_gradient_checkpointing()
        self._told = False

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the UNet to `device` and `dtype`, pose network and CLIP to `device` in float32."""
        torch.nn.Module.to(self.unet, device, dtype)
        if self.pose is not None:
            self.pose.place(device)
        if self.clip is not None:
            self.clip.place(device)

    def runs(self, step: int) -> bool:
        """Say whether update `step` (from 0) has a sample: every `lightning.every`th."""
        return (step + 1) % self.config.lightning.every == 0

    def terms(self, batch: Batch, latents: Tensor, conditions: Conditions) -> dict[str, tuple[float, Tensor]]:
        """Generate the batch's pictures and return weight and value of each term that is on.

        With L_id also `id_share`, of weight 0: the share of the body keypoints (of the ratios) that counted.

        Args:
            batch: of targets and references.
            latents: `[B, C, h, w]` of the targets, scaled.
            conditions: of the batch, none dropped.
        """
        config, weights = self.config, self.config.weights
        with _uncached_autocast(latents.device):
            made = self.generate(batch, latents, conditions)
        found: dict[str, tuple[float, Tensor]] = {}
        if weights.id:
            error, share = self._identity(batch, made)
            found |= {"id": (weights.id, error), "id_share": (0.0, share)}
        if weights.clip_text or weights.clip_image:
            features = self._scorer().image_features_differentiable(made.pictures)
            if weights.clip_text:
                captions = [caption.strip() or config.caption_fallback for caption in batch["caption"]]
                found["clip_text"] = weights.clip_text, self._to_captions(features, captions, batch["loss_weight"])
            if weights.clip_image:
                found["clip_image"] = weights.clip_image, self._to_references(features, batch)
        return found

    def generate(self, batch: Batch, latents: Tensor, conditions: Conditions) -> Generated:
        """Sample and decode; the noise is a function of the seed that the loop has set, and leaves its stream alone."""
        options = self.config.lightning
        size = [max(1, round(side * options.scale)) for side in latents.shape[-2:]]
        start = latents if options.scale == 1 else F.interpolate(latents, size, mode="area")
        noise = torch.randn(start.shape, generator=_stream()).to(latents.device)
        predict = self._predictor(batch, conditions)
        sampled = few_step_sample(
            predict, self.model.alphas, start, noise, options.steps, self.config.start, options.grad_steps
        )
        pixels = self.model.pipe.vae_scale_factor
        keypoints = batch["keypoints"].clone()
        keypoints[..., :2] *= keypoints.new_tensor([size[1] / latents.shape[-1], size[0] / latents.shape[-2]])
        window = _window(keypoints, (size[0], size[1]), options.crop // pixels, pixels, self.config)
        return Generated(self.decode(_cut(sampled, window)), _moved(keypoints, window, pixels))

    def _predictor(self, batch: Batch, conditions: Conditions) -> Callable[[Tensor, Tensor], Tensor]:
        """Return eps_theta of the few-step UNet at noisy latents and times, computed again on the way back if asked."""

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            return self.model.noise(batch, noisy, conditions, times, self.unet)

        def again(noisy: Tensor, times: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return predict(noisy, times)
            computed: Tensor = checkpoint(predict, noisy, times, use_reentrant=False, preserve_rng_state=False)
            return computed

        return again if self.config.lightning.checkpoint else predict

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures `[B, 3, H, W]` in 0..1."""
        vae: Any = self.model.pipe.vae
        scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
        pixels: Tensor = vae.decode(scaled).sample.float()
        return (pixels / 2 + 0.5).clamp(0, 1)

    def _identity(self, batch: Batch, made: Generated) -> tuple[Tensor, Tensor]:
        """Return L_id in the form that the run asks for, and the share of keypoints or ratios that counted."""
        if self.pose is None:
            raise ModelError("L_id needs a pose network; give losses.pose")
        found, options = self.pose(made.pictures), self.config.losses
        person = (found.score >= options.person_score) & (batch["loss_weight"] > 0)
        self._say_unmeasured(made)
        if options.id == "proportions":
            return self._proportions(batch, found.keypoints, person)
        shortest = SHORTEST_TORSO * min(made.pictures.shape[-2:])
        error, counted = losses.keypoint_error(found.keypoints, made.keypoints, options.keypoint_confidence, shortest)
        counted = counted & person[:, None]
        each = torch.where(counted, error, 0.0).sum(1)
        return losses.weighted_mean(each, batch["loss_weight"]), counted.float().mean()

    def _proportions(self, batch: Batch, keypoints: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
        """Compare log bone ratios with the mean over the person's photos, as the encoder's head is trained."""
        confident = self.config.losses.keypoint_confidence
        photos = torch.cat([batch["keypoints"][:, None], batch["reference_keypoints"]], 1)
        ratios, measured = losses.log_bone_ratios(photos, confident)
        mean = ratios.sum(1) / measured.sum(1).clamp(min=1)
        generated, seen = losses.log_bone_ratios(keypoints, confident)
        counted = seen & measured.any(1) & person[:, None]
        return losses.masked_l1(generated, mean, counted), counted.float().mean()

    def _to_captions(self, features: Tensor, captions: list[str], weight: Tensor) -> Tensor:
        wanted = self._scorer().text_features(captions).clone().to(features.device)  # a clone of it may meet a gradient
        each = losses.cosine_distance(features, wanted[:, None], torch.ones_like(weight)[:, None])
        return losses.weighted_mean(each, weight)

    def _to_references(self, features: Tensor, batch: Batch) -> Tensor:
        references = batch["references"]
        with torch.no_grad():
            wanted = self._scorer().image_features_differentiable(references.flatten(0, 1).float() / 255)
        counts = (batch["reference_view_weight"] > 0).float()
        each = losses.cosine_distance(features, wanted.view(*references.shape[:2], -1), counts)
        return losses.weighted_mean(each, batch["loss_weight"])

    def _scorer(self) -> ClipScorer:
        if self.clip is None:
            raise ModelError("L_CLIP needs a CLIP; give losses.clip")
        return self.clip

    def _say_unmeasured(self, made: Generated) -> None:
        if not self._told and not made.keypoints[..., 2].any():
            self._told = True
            progress.warn(
                "L_id: no photo of this batch has measured keypoints, so it is 0; curate with a pose network (--pose)"
            )


def few_step_sample(
    predict: Callable[[Tensor, Tensor], Tensor],
    alphas: Tensor,
    latents: Tensor,
    noise: Tensor,
    steps: int,
    start: int,
    grad_steps: int,
) -> Tensor:
    """Sample by Euler with trailing times (SDXL-Lightning's scheme, no guidance), the last steps with a gradient.

    Args:
        predict: the noise in `x / sqrt(sigma² + 1)`, `[B, C, h, w]`, at times `[B]`.
        alphas: cumulated products of the base's schedule, `[T]`.
        latents: `[B, C, h, w]` of pictures.
        noise: like `latents`.
        steps: of the sampler.
        start: the step from which to sample, where `latents` are noised to its time; 0: from pure noise.
        grad_steps: last steps whose prediction keeps its gradient.
    """
    times = trailing_times(len(alphas), steps)
    sigmas = [float(((1 - alphas[time]) / alphas[time]).sqrt()) for time in times] + [0.0]
    first = max(start, 1) - 1
    x = noise * sigmas[first] + (latents if start else 0)
    for index in range(first, steps):
        at = torch.full((len(x),), times[index], device=x.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= steps - grad_steps):
            eps = predict(x / (sigmas[index] ** 2 + 1) ** 0.5, at)
            x = x + (sigmas[index + 1] - sigmas[index]) * eps
    return x


def trailing_times(count: int, steps: int) -> list[int]:
    """Return the times of `steps` steps out of `count`, spaced from the last one (Lin et al. 2023, table 2)."""
    return [round(count - index * count / steps) - 1 for index in range(steps)]


def opened(model: AdapterModel, config: AdapterConfig) -> LightningBranch | None:
    """Load the networks that the run's terms need; None where no term is on.

    Raises:
        ModelError: a network is missing (the message says what to pull), damaged, or does not fit the base.
        MissingExtraError: ultralytics or transformers is not installed.
    """
    weights, options = config.weights, config.lightning
    if not weights.any():
        return None
    pose = DifferentiablePose(registry.resolve(config.losses.pose).path) if weights.id else None
    clip = ClipScorer(registry.resolve(config.losses.clip).path) if weights.clip_text or weights.clip_image else None
    unet = None
    if options.model:
        unet = load_few_step_unet(options.model, model.pipe.unet, config.base, options.steps)
    else:
        progress.warn(
            f"no lightning.model: the {options.steps}-step pictures of the losses come from the base's own UNet, which "
            "was not made for so few steps; they are softer than those of SDXL-Lightning"
        )
    return LightningBranch(model, config, unet, pose, clip)


def _stream() -> torch.Generator:
    """Return a generator of the branch's own, seeded from what the loop has seeded this batch with (`seed_step`)."""
    digest = hashlib.blake2b(f"lightning/{torch.initial_seed()}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _uncached_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return autocast as it is, but without its cache of weights.

    The cache hands weights that were cast for steps without a gradient on to steps with one, which then have none
    (pytorch/pytorch#112583); it was mended after the oldest torch that bolid runs with.
    """
    kind = device.type
    return torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False)


def _window(
    keypoints: Tensor, size: tuple[int, int], side: int, pixels: int, config: AdapterConfig
) -> list[tuple[int, int, int, int]]:
    """Return top, left, height and width in latents of what is decoded of each sample: all, or round its torso."""
    height, width = size
    if not side:
        return [(0, 0, height, width)] * len(keypoints)
    torso = keypoints[:, [5, 6, 11, 12]]
    seen = torso[..., 2] >= config.losses.keypoint_confidence
    placed = []
    for points, known in zip(torso[..., :2] / pixels, seen, strict=True):
        centre = points[known].mean(0).tolist() if known.any() else [width / 2, height / 2]
        cut = min(side, height), min(side, width)
        top = min(max(round(centre[1] - cut[0] / 2), 0), height - cut[0])
        left = min(max(round(centre[0] - cut[1] / 2), 0), width - cut[1])
        placed.append((top, left, *cut))
    return placed


def _cut(latents: Tensor, windows: list[tuple[int, int, int, int]]) -> Tensor:
    return torch.stack(
        [
            one[:, top : top + high, left : left + wide]
            for one, (top, left, high, wide) in zip(latents, windows, strict=True)
        ]
    )


def _moved(keypoints: Tensor, windows: list[tuple[int, int, int, int]], pixels: int) -> Tensor:
    """Return keypoints in pixels of the windows; confidence 0 outside."""
    corners = keypoints.new_tensor([(left, top) for top, left, _, _ in windows])[:, None] * pixels
    sizes = keypoints.new_tensor([(wide, high) for _, _, high, wide in windows])[:, None] * pixels
    places = keypoints[..., :2] - corners
    inside = ((places >= 0) & (places <= sizes)).all(-1)
    return torch.cat([places, (keypoints[..., 2] * inside)[..., None]], -1)

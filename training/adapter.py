"""Training of the Body-Condition Module: projectors and branch matrices on a frozen SDXL (document 000, eq. 14)."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import __version__, atomic
from ..models import sdxl  # noqa: F401 - its import of diffusers' pipelines is silent, so it must be the first
from ..models.adapter import AdapterBundle, ConditionShape
from ..models.body_encoder import ENCODER_FILE, BodyEncoder
from ..models.download import file_sha256
from ..models.projectors import FACE_DIM
from ..shards.index import index_hash
from . import adapter_cache, adapter_data, adapter_samples, lightning, losses, model_card
from .adapter_conditions import drop, dropped
from .adapter_config import AdapterConfig
from .adapter_model import AdapterModel
from .batches import ShardBatches
from .cached_data import CachedDataset
from .lightning import LightningBranch
from .loop import Batch, RunSummary, train
from .noise import min_snr_weight, noise_like
from .trainer import accelerator_for


class AdapterTask:
    """What the loop trains.

    Args:
        model: base, encoder and fresh adapter.
        config: of the run.
        examples: a batch for sample grids and the validation loss, or None.
        held_out: whether the people of `examples` are kept from training; only then their loss is a figure.
        metadata: for the header of the exported files.
        branch: makes the pictures of L_id and L_CLIP; None where these are off.
    """

    def __init__(
        self,
        model: AdapterModel,
        config: AdapterConfig,
        examples: Batch | None = None,
        metadata: Mapping[str, str] | None = None,
        held_out: bool = True,
        branch: LightningBranch | None = None,
    ) -> None:
        self.model, self.config, self.examples, self.metadata = model, config, examples, dict(metadata or {})
        self.held_out, self.branch = held_out, branch

    def place(self, device: torch.device) -> None:
        """Move everything; on a GPU the frozen base goes to bfloat16 unless the run asks for full precision."""
        half = device.type == "cuda" and self.config.loop.mixed_precision != "no"
        dtype = torch.bfloat16 if half else torch.float32
        self.model.place(device, dtype)
        if self.branch is not None:
            self.branch.place(device, dtype)
        if self.examples is not None:
            self.examples = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.examples.items()}

    def trainable(self) -> dict[str, nn.Module]:
        """Return the adapter."""
        return {"adapter": self.model.bundle}

    def compiled(self) -> list[nn.Module]:
        """Return the UNet: forward and backward through it are nearly all of a step."""
        return [self.model.pipe.unet]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return eq. 14: L_diff, and in some updates the terms that look at generated pictures.

        L_diff has uniform times, condition drop-out, and counts samples by their weights; pictures are generated under
        the whole conditions.
        """
        model = self.model
        latents = model.latents(batch)
        lost = dropped(torch.rand(len(latents), device=latents.device), self.config.drop)
        whole = model.conditions(batch)
        conditions = drop(whole, lost, model.no_text)
        times = torch.randint(len(model.alphas), (len(latents),), device=latents.device)
        noise = noise_like(latents, self.config.noise_offset)
        each = model.errors(batch, latents, conditions, times, noise)
        each = each * min_snr_weight(model.alphas[times], self.config.min_snr_gamma)
        diff = losses.weighted_mean(each, batch["loss_weight"])
        total, terms = diff, {"diff": diff.detach()}
        if self.branch is not None and self.branch.runs(step):
            for name, (weight, value) in self.branch.terms(batch, latents, whole).items():
                total = total + weight * value
                terms[name] = value.detach()
        return {"loss": total, **terms}

    def sample(self, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write the sample grid; return the validation loss with all conditions, without body, without both."""
        if self.examples is None:
            return None
        config = self.config
        with self._precision():
            conditions = self.model.conditions(self.examples)
            if self.model.pipe.vae is not None:  # else the cache stands for the encoders, and nothing can draw
                sheet = adapter_samples.comparison(
                    self.model,
                    {"face": conditions.face, "body": conditions.body},
                    config.sample_prompts,
                    (config.resolution, config.resolution),
                    config.sample_steps,
                    config.sample_seed,
                )
                with atomic.replacing(folder / f"step-{step:06d}.png") as temporary:
                    sheet.save(temporary, "PNG")
            return self.model.validation(self.examples, config.sample_seed) if self.held_out else None

    def export(self, folder: Path) -> None:
        """Write `face.safetensors` and `body.safetensors` in the IP-Adapter FaceID layout, and their card."""
        self.model.bundle.export(folder, self.metadata)
        model_card.write(folder, self.model.bundle.conditions, self.metadata)

    def fill_cache(self, data: CachedDataset) -> int:
        """Make what the cache does not have, on the device of the run; return for how many photos."""
        assert self.examples is not None
        self.place(accelerator_for(self.config.loop).device)
        with self._precision():
            return adapter_cache.fill(self.model, data, self.examples, self.config)

    def flush_cache(self) -> None:
        """Write the entries that were made on the way."""
        if self.model.encoders.cache is not None:
            self.model.encoders.cache.flush()

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        dtype = self.model.pipe.unet.dtype
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype != torch.float32)


def shapes(config: AdapterConfig, latent: int) -> dict[str, ConditionShape]:
    """Return the branches that the run trains: face and body, or the face alone for the IP-Adapter baseline."""
    both = {"face": ConditionShape(FACE_DIM, config.face_tokens), "body": ConditionShape(latent, config.body_tokens)}
    return {"face": both["face"]} if config.baseline == "ip-adapter" else both


def fresh_model(config: AdapterConfig, body: Path, run: Path | None = None) -> AdapterModel:
    """Load base and encoder; the adapter is a function of the run's seed.

    Args:
        config: of the run.
        body: folder with the body encoder.
        run: folder of the run, which says where its cache is; None uses no cache.

    Raises:
        ModelError: the base or the encoder is missing or does not fit.
    """
    encoder = BodyEncoder.load(body)
    pipe = adapter_cache.load(config)
    cache = adapter_cache.opened(config, run, pipe, encoder) if run else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        bundle = AdapterBundle.for_unet(pipe.unet, shapes(config, encoder.config.latent), config.rank)
    return AdapterModel(pipe, encoder, bundle, config.caption_fallback, cache)


def described(config: AdapterConfig, body: Path) -> dict[str, str]:
    """Return what a reader of the exported weights must know, for their headers."""
    return {
        "tool": f"bolid {__version__}",
        "base": config.base,
        "baseline": config.baseline,
        "resolution": str(config.resolution),
        "steps": str(config.loop.steps),
        "rank": str(config.rank),
        "mask": config.mask,
        "body_encoder_sha256": file_sha256(body / ENCODER_FILE),
    }


def train_adapter(shards: Path, run: Path, config: AdapterConfig, body: Path, resume: bool = False) -> RunSummary:
    """Train an adapter on packed shards.

    Args:
        shards: folder of the dataset.
        run: folder of the run.
        config: of the run.
        body: folder with the body encoder (`encoder.safetensors`, `config.json`): a VAE run's export.
        resume: continue the run from its newest checkpoint.

    Raises:
        DataError: the shards are missing or hold no identity with two photos.
        ModelError: the base or the encoder is missing or does not fit.
        TrainingError: see `loop.train`.
    """
    task, data = opened_task(shards, run, config, body)
    about = task.metadata
    inputs = {"body_encoder_sha256": about["body_encoder_sha256"], "index_hash": index_hash(data.index)}
    if config.cache.mode == "first":
        task.fill_cache(data)
    try:
        return train(task, ShardBatches(data, config.loop, config.sizes()), run, config, resume, inputs)
    finally:
        task.flush_cache()


def opened_task(shards: Path, run: Path, config: AdapterConfig, body: Path) -> tuple[AdapterTask, CachedDataset]:
    """Return the task of a run and its training photos; see `train_adapter`."""
    model = fresh_model(config, body, run)
    sizes, cache = model.encoder.config, model.encoders.cache
    data = adapter_data.dataset(shards, "train", config, sizes, cache)
    examples, held_out = adapter_data.held_out_examples(shards, config, sizes, cache)
    branch = lightning.opened(model, config)
    return AdapterTask(model, config, examples, described(config, body), held_out, branch), data

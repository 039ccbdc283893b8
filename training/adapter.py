"""Training of the Body-Condition Module: projectors and branch matrices on a frozen SDXL (document 000, eq. 14)."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import __version__, atomic
from ..models.adapter import AdapterBundle, ConditionShape
from ..models.adapter_files import file_sha256
from ..models.body_encoder import ENCODER_FILE, BodyEncoder
from ..models.projectors import FACE_DIM
from ..models.sdxl import load_base
from ..shards.index import index_hash
from . import adapter_data, adapter_samples
from .adapter_conditions import drop, dropped
from .adapter_config import AdapterConfig
from .adapter_model import AdapterModel
from .batches import ShardBatches
from .loop import Batch, RunSummary, train


class AdapterTask:
    """What the loop trains.

    Args:
        model: base, encoder and fresh adapter.
        config: of the run.
        examples: a batch for sample grids and the validation loss, or None.
        held_out: whether the people of `examples` are kept from training; only then their loss is a figure.
        metadata: for the header of the exported files.
    """

    def __init__(
        self,
        model: AdapterModel,
        config: AdapterConfig,
        examples: Batch | None = None,
        metadata: Mapping[str, str] | None = None,
        held_out: bool = True,
    ) -> None:
        self.model, self.config, self.examples, self.metadata = model, config, examples, dict(metadata or {})
        self.held_out = held_out

    def place(self, device: torch.device) -> None:
        """Move everything; on a GPU the frozen base goes to bfloat16 unless the run asks for full precision."""
        half = device.type == "cuda" and self.config.loop.mixed_precision != "no"
        self.model.place(device, torch.bfloat16 if half else torch.float32)
        if self.examples is not None:
            self.examples = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.examples.items()}

    def trainable(self) -> dict[str, nn.Module]:
        """Return the adapter."""
        return {"adapter": self.model.bundle}

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return L_diff (eq. 14, first term): uniform times, condition drop-out, weighted by the samples' weights."""
        model = self.model
        latents = model.latents(batch["target"])
        lost = dropped(torch.rand(len(latents), device=latents.device), self.config.drop)
        conditions = drop(model.conditions(batch), lost, model.no_text)
        times = torch.randint(len(model.alphas), (len(latents),), device=latents.device)
        each = model.errors(batch, latents, conditions, times, torch.randn_like(latents))
        diff = weighted_mean(each, batch["loss_weight"])
        return {"loss": diff, "diff": diff.detach()}

    def sample(self, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write the sample grid; return the validation loss with all conditions, without body, without both."""
        if self.examples is None:
            return None
        config = self.config
        with self._precision():
            conditions = self.model.conditions(self.examples)
            sheet = adapter_samples.comparison(
                self.model,
                {"face": conditions.face, "body": conditions.body},
                config.sample_prompts,
                (config.resolution, config.resolution),
                config.sample_steps,
                config.sample_seed,
            )
            figures = self.model.validation(self.examples, config.sample_seed) if self.held_out else None
        with atomic.replacing(folder / f"step-{step:06d}.png") as temporary:
            sheet.save(temporary, "PNG")
        return figures

    def export(self, folder: Path) -> None:
        """Write `face.safetensors` and `body.safetensors` in the IP-Adapter FaceID layout."""
        self.model.bundle.export(folder, self.metadata)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        dtype = self.model.pipe.unet.dtype
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype != torch.float32)


def weighted_mean(each_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return the mean weighted by the samples' loss weights; 0 when all weights are 0."""
    return (each_B * weight_B).sum() / weight_B.sum().clamp(min=1e-8)


def shapes(config: AdapterConfig, latent: int) -> dict[str, ConditionShape]:
    """Return the branches that the run trains: face and body, or the face alone for the IP-Adapter baseline."""
    both = {"face": ConditionShape(FACE_DIM, config.face_tokens), "body": ConditionShape(latent, config.body_tokens)}
    return {"face": both["face"]} if config.baseline == "ip-adapter" else both


def fresh_model(config: AdapterConfig, body: Path) -> AdapterModel:
    """Load base and encoder; the adapter is a function of the run's seed.

    Raises:
        ModelError: the base or the encoder is missing or does not fit.
    """
    encoder = BodyEncoder.load(body)
    pipe = load_base(config.base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        bundle = AdapterBundle.for_unet(pipe.unet, shapes(config, encoder.config.latent))
    return AdapterModel(pipe, encoder, bundle, config.caption_fallback)


def described(config: AdapterConfig, body: Path) -> dict[str, str]:
    """Return what a reader of the exported weights must know, for their headers."""
    return {
        "tool": f"bolid {__version__}",
        "base": config.base,
        "baseline": config.baseline,
        "resolution": str(config.resolution),
        "steps": str(config.loop.steps),
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
    model = fresh_model(config, body)
    sizes = model.encoder.config
    data = adapter_data.dataset(shards, "train", config, sizes)
    examples, held_out = adapter_data.held_out_examples(shards, config, sizes)
    about = described(config, body)
    task = AdapterTask(model, config, examples, about, held_out)
    inputs = {"body_encoder_sha256": about["body_encoder_sha256"], "index_hash": index_hash(data.index)}
    return train(task, ShardBatches(data, config.loop), run, config, resume, inputs)

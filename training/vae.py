"""Training of the Body-ID Encoder (method.md, stage 1): leave-one-out reconstruction over the views of one person.

Shapes: B targets of as many identities, K references of each, d latent, H and W crop.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import atomic, progress
from ..errors import ModelError
from ..models import registry
from ..models.body_encoder import aggregate_views, random_init
from ..models.body_mask import body_mask
from ..models.perceptual import PerceptualDistance
from ..shards.dataset import IdentityDataset, collate
from ..shards.index import Runs, index_hash, read_index
from . import losses
from .batches import ShardBatches
from .cache import weights_digest
from .grids import write_grid
from .loop import RunSummary, train
from .posterior_figures import bone_ratio_r2, dimension_use
from .posteriors import active_dimensions, identity_bank, posteriors, retrieval, unit_pixels
from .task import Batch
from .vae_config import VaeConfig

GRID_PEOPLE = 6


@dataclass(frozen=True)
class VaeData:
    """What the encoder is trained and validated on; `held_out` is None where no other identity is packed.

    Attributes:
        training: targets with references.
        training_photos: the same photos one by one.
        held_out, held_out_photos: likewise, of identities that are not trained on.
        slugs: names of the training identities by number.
    """

    training: IdentityDataset
    training_photos: IdentityDataset
    held_out: IdentityDataset | None
    held_out_photos: IdentityDataset | None
    slugs: dict[int, str]

    @classmethod
    def open(cls, shards: Path, config: VaeConfig) -> "VaeData":
        """Open the splits.

        Raises:
            DataError: there is no finished dataset in `shards`, or its training split is empty.
        """

        def split(name: str, refs: int) -> IdentityDataset:
            return IdentityDataset(shards, name, refs=refs, size=config.body.size, crop="person", pixels="uint8")

        names = read_index(shards, "train", columns=["identity", "identity_slug"])
        slugs = dict(zip(names["identity"].to_pylist(), names["identity_slug"].to_pylist(), strict=True))
        training = split("train", config.refs), split("train", 0)
        if not read_index(shards, "val", columns=["identity"]).num_rows:
            progress.warn("the val split is empty: no validation figures; pack with --split 0.8,0.1,0.1 to have some")
            return cls(*training, None, None, slugs)
        return cls(*training, split("val", config.refs), split("val", 0), slugs)


class VaeTask:
    """What the loop trains: encoder and decoder.

    Args:
        config: of the run; the first weights are a function of its seed.
        data: for sample grids, validation and the identity bank; None leaves these out.
        perceptual: network of the perceptual term; None where its weight is 0.

    Raises:
        ModelError: the perceptual term is on and there is no network for it.
    """

    def __init__(
        self, config: VaeConfig, data: VaeData | None = None, perceptual: PerceptualDistance | None = None
    ) -> None:
        if config.weights.perceptual and perceptual is None:
            raise ModelError("weights.perceptual needs a network; set perceptual to a CLIP, or the weight to 0")
        self.config, self.data, self.perceptual = config, data, perceptual
        self.encoder, self.decoder = random_init(config.body, config.loop.seed)

    def place(self, device: torch.device) -> None:
        """Move all networks."""
        self.encoder.to(device)
        self.decoder.to(device)
        if self.perceptual is not None:
            self.perceptual.place(device)

    def trainable(self) -> dict[str, nn.Module]:
        """Return both networks."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the weighted sum and the terms that are on; the target is never among the inputs of its latent."""
        config, factor = self.config, self.config.weights
        weight = batch["reference_view_weight"]
        view_mu, view_logvar = self.encoder(unit_pixels(batch["references"]), batch["reference_keypoints"])
        mu, logvar = aggregate_views(view_mu, view_logvar, _dropped(weight, config.view_dropout))
        terms: dict[str, tuple[float, Tensor]] = {}
        if factor.reconstruction or factor.perceptual:
            latent = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            terms |= self._drawn_terms(self.decoder(latent, batch["keypoints"]), batch)
        if factor.kl:
            counted = batch["loss_weight"] > 0
            kl = losses.free_bits(losses.kl_to_prior(mu, logvar)[counted], config.free_bits)
            terms["kl"] = factor.kl * losses.annealed(step, config.kl_rise), kl
        if factor.ratios:
            terms["ratios"] = factor.ratios, self._ratios(batch, mu)
        if factor.info_nce and config.refs > 1:
            terms["info_nce"] = factor.info_nce, self._info_nce(batch, view_mu, view_logvar)
        total = torch.stack([scale * value for scale, value in terms.values()]).sum()
        return {"loss": total, **{name: value for name, (_, value) in terms.items()}}

    def _drawn_terms(self, drawn: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Compare the drawn crops with the targets, on the person (method.md, stage 1.5)."""
        factor, target, mask = self.config.weights, unit_pixels(batch["target"]), self._mask(batch)
        terms: dict[str, tuple[float, Tensor]] = {}
        if factor.reconstruction:
            error = losses.reconstruction(drawn, target, batch["loss_weight"], mask)
            terms["reconstruction"] = factor.reconstruction, error
        if factor.perceptual and self.perceptual is not None:
            each = self.perceptual(drawn, target, mask)
            terms["perceptual"] = factor.perceptual, losses.weighted_mean(each, batch["loss_weight"])
        return terms

    def _mask(self, batch: Batch) -> Tensor | None:
        """Return where the person is in each target, `[B, 1, H, W]`, or None where the whole crop counts."""
        size = self.config.body.size
        return body_mask(batch["keypoints"], size, size) if self.config.mask == "person" else None

    def _ratios(self, batch: Batch, mu: Tensor) -> Tensor:
        """Compare the head's answer with the mean ratios of all views in which a bone was measured."""
        keypoints = torch.cat([batch["keypoints"][:, None], batch["reference_keypoints"]], 1)
        ratios, measured = losses.log_bone_ratios(keypoints, self.config.keypoint_confidence)
        mean = ratios.sum(1) / measured.sum(1).clamp(min=1)
        counts = measured.any(1) & (batch["loss_weight"] > 0)[:, None]
        return losses.masked_l1(self.decoder.ratios(mu), mean, counts)

    def _info_nce(self, batch: Batch, mu: Tensor, logvar: Tensor) -> Tensor:
        """Compare the latents of every other reference with those of the rest, which are disjoint from them."""
        weight = batch["reference_view_weight"]
        first, second = (
            aggregate_views(mu[:, half], logvar[:, half], weight[:, half])[0]
            for half in (slice(0, None, 2), slice(1, None, 2))
        )
        both_seen = (weight[:, 0::2].sum(1) > 0) & (weight[:, 1::2].sum(1) > 0) & (batch["loss_weight"] > 0)
        return losses.info_nce(first, second, batch["identity"], both_seen, self.config.temperature)

    def sample(self, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write a grid (references, target, reconstruction); return the figures of held-out identities."""
        if self.data is None:
            return None
        people = self.data.held_out or self.data.training
        write_grid(folder / f"step-{step:06d}.png", self._rows(people))
        if self.data.held_out is None or self.data.held_out_photos is None:
            return {}
        known = posteriors(self.encoder, self.data.held_out_photos, self.config.loop.workers)
        use = dimension_use(known)
        device = self.encoder.posterior.weight.device
        bones = bone_ratio_r2(
            known,
            lambda mu: self.decoder.ratios(mu.to(device)).cpu(),
            self.config.retrieval_views,
            self.config.keypoint_confidence,
        )
        described = {"dimensions": [vars(each) for each in use], "bone_ratio_r2": bones}
        atomic.write_text(folder / f"step-{step:06d}-posterior.json", json.dumps(described, indent=1))
        return {
            **self._held_out_error(self.data.held_out),
            **retrieval(known, self.config.retrieval_views),
            **({"bone_ratio_r2": sum(bones.values()) / len(bones)} if bones else {}),
            "active_dimensions": active_dimensions(known),
            "kl_nats": sum(each.kl for each in use),
        }

    def export(self, folder: Path) -> None:
        """Write encoder, decoder, configuration, and the bank of the training identities."""
        self.encoder.save(folder)
        self.decoder.save(folder)
        if self.data is not None:
            known = posteriors(self.encoder, self.data.training_photos, self.config.loop.workers)
            identity_bank(known, self.data.slugs).save(folder)

    def drawn(self, batch: Batch) -> Tensor:
        """Return the reconstruction `[B, 3, H, W]` from the mean of the references' latent."""
        views = unit_pixels(batch["references"])
        mu, _ = self.encoder.encode(views, batch["reference_keypoints"], batch["reference_view_weight"])
        drawn: Tensor = self.decoder(mu, batch["keypoints"])
        return drawn

    def _on_device(self, people: IdentityDataset, rows: list[int]) -> Batch:
        device = self.encoder.posterior.weight.device
        batch = collate([people[row] for row in rows])
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}

    def _rows(self, people: IdentityDataset) -> Tensor:
        """Return the pictures of a grid: `[people, K + 2, 3, H, W]`."""
        firsts = Runs.of(people.index["identity"].to_numpy()).starts[:GRID_PEOPLE]
        batch = self._on_device(people, [int(row) for row in firsts])
        columns = [unit_pixels(batch["references"]), unit_pixels(batch["target"])[:, None], self.drawn(batch)[:, None]]
        return torch.cat(columns, 1)

    def _held_out_error(self, people: IdentityDataset) -> dict[str, float]:
        """Return the terms of fixed targets drawn from fixed references; nothing where nobody has two photos."""
        rows = _with_references(people)
        if not rows:
            return {}
        stride = -(-len(rows) // self.config.validation_items)
        batch = self._on_device(people, rows[::stride])
        terms = self._drawn_terms(self.drawn(batch), batch)
        return {name: float(value) for name, (_, value) in terms.items()}


def train_vae(shards: Path, run: Path, config: VaeConfig, resume: bool = False) -> RunSummary:
    """Train a body encoder on packed shards.

    Leaves in `run/export`: `encoder.safetensors`, `decoder.safetensors`, `config.json`, and the identity bank
    (`identities.safetensors`, `identities.parquet`).

    Args:
        shards: folder of the dataset.
        run: folder of the run.
        config: of the run.
        resume: continue the run from its newest checkpoint.

    Raises:
        DataError: the shards are missing or hold no identity with two photos.
        ModelError: the network of the perceptual term is missing (the message says what to pull) or damaged.
        TrainingError: see `loop.train`.
    """
    data = VaeData.open(shards, config)
    inputs = {"index_hash": index_hash(data.training.index)}
    perceptual = None
    if config.weights.perceptual:
        perceptual = PerceptualDistance(registry.resolve(config.perceptual).path)
        inputs["perceptual_sha256"] = weights_digest(perceptual.network)
    task = VaeTask(config, data, perceptual)
    return train(task, ShardBatches(data.training, config.loop), run, config, resume, inputs)


def _with_references(people: IdentityDataset) -> list[int]:
    """Return the rows of people with two photos or more."""
    runs = Runs.of(people.index["identity"].to_numpy())
    return [int(row) for run in np.flatnonzero(runs.counts > 1) for row in runs.of_identity(runs.identities[run])]


def _dropped(weight: Tensor, probability: float) -> Tensor:
    """Set each view's weight to zero with the given probability."""
    return weight * (torch.rand_like(weight) >= probability)

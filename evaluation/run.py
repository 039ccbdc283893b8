"""`bolid eval`: everything that can be measured on this machine, and rows for what cannot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import progress
from ..errors import ModelError
from ..models.adapter import CONDITIONS, AdapterBundle
from ..models.adapter_files import require_encoder
from ..models.body_encoder import DECODER_FILE, ENCODER_FILE, BodyDecoder, BodyEncoder
from ..models.download import file_sha256
from ..models.sdxl import load_base
from ..training import adapter_data, adapter_samples
from ..training.adapter_config import AdapterConfig
from ..training.adapter_model import AdapterModel
from .config import EvalConfig
from .features import Views, held_out
from .figure import Figure, absent, unmeasured
from .protocols import (
    BODY_DECODER,
    Generated,
    loss_figures,
    picture_figures,
    reconstruction_figures,
    retrieval_figures,
)
from .report import write_report

Sheet = tuple[str, Image.Image]

SHEET_TITLE = "Held-out people: adapter off, face, body, both"


def evaluate(shards: Path, vae: Path, adapter: Path | None, out: Path, config: EvalConfig) -> list[Figure]:
    """Measure, and write `figures.json` and `report.html` into `out`.

    Args:
        shards: folder of the dataset.
        vae: folder with the body encoder and decoder: a VAE run's export.
        adapter: folder with `face.safetensors`, `body.safetensors`: an adapter run's export; None measures the
            encoder alone.
        out: folder, created when missing.
        config: what and how much.

    Returns:
        The figures, those that need a network which is not here as rows without a value.

    Raises:
        DataError: there are no held-out people.
        ModelError: weights are missing or do not fit each other.
    """
    if adapter is not None:
        require_encoder(AdapterBundle.load(adapter).metadata, adapter, vae / ENCODER_FILE)
    encoder = BodyEncoder.load(vae)
    split, people = held_out(shards, encoder, config)
    progress.say(f"measuring on {len(people)} people of the split {split}")
    figures = [*retrieval_figures(people), *_reconstruction(people, vae)]
    sheets: list[Sheet] = []
    if adapter is not None:
        measured, sheets = _adapter(shards, split, people, encoder, adapter, config)
        figures += measured
    figures += unmeasured()
    write_report(out, figures, split, config, _hashes(vae, adapter), sheets)
    return figures


def _hashes(*folders: Path | None) -> dict[str, str]:
    """Return the sha256 of the files of weights that were measured."""
    names = [ENCODER_FILE, DECODER_FILE, *(f"{name}.safetensors" for name in CONDITIONS)]
    files = [folder / name for folder in folders if folder for name in names if (folder / name).exists()]
    return {file.name: file_sha256(file) for file in files}


def _reconstruction(people: Sequence[Views], vae: Path) -> list[Figure]:
    if not (vae / DECODER_FILE).exists():
        return [absent("Leave-one-out reconstruction L1", f"the run has no {DECODER_FILE}", BODY_DECODER)]
    return reconstruction_figures(people, BodyDecoder.load(vae))


def _adapter(
    shards: Path, split: str, people: Sequence[Views], encoder: BodyEncoder, adapter: Path, config: EvalConfig
) -> tuple[list[Figure], list[Sheet]]:
    """Measure the adapter's loss and its pictures on the base it was trained on."""
    bundle = AdapterBundle.load(adapter)
    trained = _training_config(bundle, adapter, config)
    model = AdapterModel(load_base(trained.base), encoder, bundle, trained.caption_fallback)
    data = adapter_data.dataset(shards, split, trained, encoder.config)
    batch = adapter_data.examples(data, len(people))
    network = f"{trained.base} with this adapter"
    losses = model.validation(batch, config.seed)
    figures = loss_figures(losses, len(batch["target"]), network)
    size = (trained.resolution, trained.resolution)
    embeddings = {
        "face": torch.stack([person.face() for person in people]),
        "body": torch.stack([person.body() for person in people]),
    }
    pixels = adapter_samples.pictures(model, embeddings, config.prompts, size, config.steps, config.seed)
    made = Generated(pixels, np.tile(np.arange(len(people)), len(config.prompts)))
    shown = {name: values[: config.grid_identities] for name, values in embeddings.items()}
    sheet = adapter_samples.comparison(model, shown, config.prompts, size, config.steps, config.seed)
    return [*figures, *picture_figures(made, people, encoder)], [(SHEET_TITLE, sheet)]


def _training_config(bundle: AdapterBundle, adapter: Path, config: EvalConfig) -> AdapterConfig:
    """Return what the adapter's header says about its training."""
    try:
        base, resolution = bundle.metadata["base"], int(bundle.metadata["resolution"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"the header of {adapter} does not name its base and resolution; export it again") from error
    return AdapterConfig(base=base, resolution=config.resolution or resolution)

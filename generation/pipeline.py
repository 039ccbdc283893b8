"""Pictures from a prompt, with the body and the face of someone or of nobody."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .. import progress
from ..errors import UsageError
from ..models.adapter import AdapterBundle, Scale
from ..models.adapter_files import require_encoder
from ..models.body_encoder import ENCODER_FILE
from ..models.download import file_sha256
from ..models.lightning import load_few_step_unet
from ..models.sampling import sample
from ..models.sdxl import SDXL, load_base, move
from .conditions import Person, body_of, face_of
from .config import GenerateConfig
from .provenance import Provenance, write_picture

SLUG_LENGTH = 40
DEFAULT_SIDE = 1024  # px, SDXL's own


def generate(
    prompt: str,
    out: Path,
    *,
    base: str | None = None,
    adapter: Path | None = None,
    person: Person = Person(),  # noqa: B008  (frozen)
    config: GenerateConfig = GenerateConfig(),  # noqa: B008  (frozen)
) -> list[Path]:
    """Make `config.count` pictures; picture i has the seed `config.seed + i` and depends on nothing but it.

    Args:
        prompt: what to show.
        out: folder for PNG files and their JSON records, created when missing.
        base: base pipeline, see `models.sdxl.load_base`; None takes the one that the adapter was trained on, SDXL
            without an adapter.
        adapter: folder with `face.safetensors`, `body.safetensors`, or None for the base alone.
        person: whose body and face; by default nobody's: the body is drawn from the prior, the face left open.
        config: how to sample.

    Returns:
        The pictures, in the order of their seeds.

    Raises:
        UsageError: a body or a face without an adapter that can use it.
        ModelError: weights are missing or do not fit each other.
        DataError: the identity is not in the bank, or a photo cannot be read.
    """
    bundle = None if adapter is None else _bundle(adapter, person)
    if bundle is None and (person.has_body or person.face):
        raise UsageError("a body or a face needs an adapter; give --run RUN, or leave out the person")
    seeds = range(config.seed, config.seed + config.count)
    embeddings = _embeddings(bundle, person, seeds) if bundle else []
    trained = bundle.metadata if bundle else {}
    base = base or trained.get("base", SDXL)
    pipe = load_base(base)
    if config.lightning is not None:
        pipe.unet = load_few_step_unet(config.lightning, pipe.unet, base, config.steps)
    move(pipe, *_device())
    sampling = _sampling(config, int(trained.get("resolution", DEFAULT_SIDE)))
    record = Provenance(base=base, prompt=prompt, **sampling, **_conditions(adapter, bundle, person, config))
    written = []
    with _installed(bundle, pipe.unet, config), progress.bar("generate", len(seeds), "pictures") as bar:
        for index, seed in enumerate(seeds):
            given = [embedding[index : index + 1] for embedding in embeddings]
            pixels = sample(pipe, [prompt], [seed], record.size, given, config.steps, config.guidance)
            made = replace(record, seed=seed)
            whose = b"".join(embedding.contiguous().numpy().tobytes() for embedding in given)
            written.append(out / f"{slug(prompt)}-{seed}-{made.fingerprint(whose)}.png")
            write_picture(written[-1], pixels[0], made)
            bar.advance()
    return written


def slug(prompt: str) -> str:
    """Return the beginning of a prompt as a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:SLUG_LENGTH].strip("-")
    return words or "picture"


def _bundle(adapter: Path, person: Person) -> AdapterBundle:
    """Load the adapter and check that it can use the person's body."""
    bundle = AdapterBundle.load(adapter)
    if person.has_body and "body" not in bundle.conditions:
        raise UsageError(f"{adapter} has no body branch (a baseline); leave out the identity and the photos")
    if person.has_body and person.run is not None:
        require_encoder(bundle.metadata, adapter, person.run / ENCODER_FILE)
    return bundle


def _embeddings(bundle: AdapterBundle, person: Person, seeds: Sequence[int]) -> list[Tensor]:
    """Return the embedding of each branch, `[N, d]`, in the bundle's order."""
    made = {"face": face_of(person, len(seeds))}
    if "body" in bundle.conditions:
        made["body"] = body_of(person, seeds, bundle.branch("body").image_proj.condition_dim)
    return [made[name] for name in bundle.conditions]


@contextlib.contextmanager
def _installed(bundle: AdapterBundle | None, unet: UNet2DConditionModel, config: GenerateConfig) -> Iterator[None]:
    if bundle is None:
        yield
        return
    lambdas: dict[str, Scale] = {"face": config.lambda_face, "body": config.lambda_body}
    bundle.to(*_device())
    bundle.set_scale(**{name: lambdas[name] for name in bundle.conditions})
    with bundle.installed(unet):
        yield


def _sampling(config: GenerateConfig, side: int) -> dict[str, Any]:
    size = (config.height or side, config.width or side)
    scheme = {"seed": config.seed, "steps": config.steps, "guidance": config.guidance, "size": size}
    return scheme | {"lightning": config.lightning}


def _conditions(
    adapter: Path | None, bundle: AdapterBundle | None, person: Person, config: GenerateConfig
) -> dict[str, Any]:
    """Return what the provenance says about adapter and person; nothing that names anybody."""
    if adapter is None or bundle is None:
        return {}
    files = {name: file_sha256(adapter / f"{name}.safetensors") for name in bundle.conditions}
    said: dict[str, Any] = {"adapter": files, "face": person.face_source, "lambda_face": config.lambda_face}
    if "body" in bundle.conditions:
        said |= {"body": person.body_source, "lambda_body": config.lambda_body}
    return said


def _device() -> tuple[torch.device, torch.dtype]:
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32

"""A tiny world for the whole room: an adapter, an encoder with a bank, no training."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from bolid.models.adapter import AdapterBundle, ConditionShape
from bolid.models.download import file_sha256
from bolid.models.sdxl import load_base

_spec = importlib.util.spec_from_file_location("tiny_world", Path(__file__).with_name("tiny_world.py"))
assert _spec is not None
assert _spec.loader is not None
tiny_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_world)


@dataclass(frozen=True)
class World:
    adapter: Path
    body: Path
    photo: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("generation")
    body = tiny_world.body_run(folder / "body")
    torch.manual_seed(0)
    shapes = {"face": ConditionShape(512), "body": ConditionShape(tiny_world.BODY.latent)}
    bundle = AdapterBundle.for_unet(load_base("random-tiny").unet, shapes)
    sha256 = file_sha256(body / "encoder.safetensors")
    bundle.export(folder / "adapter", {"base": "random-tiny", "resolution": "64", "body_encoder_sha256": sha256})
    photo = folder / "photo.png"
    photo.write_bytes(tiny_world.photo(3, 0))
    return World(folder / "adapter", body, photo)

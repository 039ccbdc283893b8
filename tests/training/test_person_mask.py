"""The person mask of the adapter's training: from photo to attention, through crops and cache."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from bolid.config import load_config
from bolid.errors import ConfigError
from bolid.models.adapter import AdapterBundle
from bolid.models.body_config import BodyConfig
from bolid.models.body_encoder import random_init
from bolid.models.body_mask import body_mask
from bolid.shards.geometry import Window
from bolid.shards.sampler import Draw
from bolid.training import adapter_data
from bolid.training.adapter import fresh_model, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.adapter_model import scales
from bolid.training.person_masks import of_box

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_of_masks", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vae_people = beside("vae_people")
BODY = BodyConfig(width=24, height=32, latent=16, channels=(8, 16))
BOX = [24.0, 32.0, 72.0, 96.0]  # of photos 96 × 128


def config(*overrides: str) -> AdapterConfig:
    small = ["base=random-tiny", "resolution=64", "refs=2", "sample_identities=1", "sample_steps=1"]
    loop = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=2", "loop.steps=2", "loop.warmup=1"]
    return load_config(AdapterConfig, overrides=[*small, *loop, "loop.sample_every=0", *overrides])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("masks")
    folder: Path = vae_people.pack_people(root, identities=5, photos=3, measured=True, box=BOX)
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("body")
    for network in random_init(BODY):
        network.save(folder)
    return folder


def test_a_box_covers_its_share_of_each_pixel() -> None:
    # Half of the photo's width and all of its height is seen, from x = 20 on: 40 px become 32, so 4 px a fifth more.
    window, size = Window(20.0, 0.0, 40.0, 40.0), (32, 32)
    mask = of_box(np.array([25.0, 10.0, 45.0, 40.0], np.float32), window, size)
    assert mask.shape == (1, 4, 4)
    columns, rows = [0.5, 1, 0.5, 0], [0, 1, 1, 1]
    torch.testing.assert_close(mask[0], torch.tensor(rows)[:, None] * torch.tensor(columns)[None, :])
    assert (of_box(np.zeros(4, np.float32), window, size) == 1).all(), "nobody was measured: everywhere"
    assert (of_box(np.array([0, 0, 99, 99], np.float32), window, size) == 1).all()


def test_the_mask_lies_where_the_person_lies_in_the_crop(shards: Path) -> None:
    """A 64 × 64 target shows the middle 96 × 96 px of a photo of 96 × 128, the box from (16, 10.7) to (48, 53.3)."""
    data = adapter_data.dataset(shards, "train", config("mask=box"), BODY)
    mask = data[0]["person_mask"]
    assert mask.shape == (1, 8, 8)
    columns = torch.tensor([0, 0, 1, 1, 1, 1, 0, 0])
    rows = torch.tensor([0, 2 / 3, 1, 1, 1, 1, 2 / 3, 0])
    torch.testing.assert_close(mask[0], rows[:, None] * columns[None, :], rtol=1e-4, atol=1e-4)
    wide = data[Draw(0, size=(128, 64))]["person_mask"]  # the middle 96 × 48 px: rows 40 to 88 of the photo
    assert wide.shape == (1, 8, 16)
    assert (wide[0, :, 4:12] == 1).all()
    assert wide.sum() == 8 * 8

    data = adapter_data.dataset(shards, "train", config("mask=person"), BODY)
    item = data[1]
    assert torch.equal(item["person_mask"], body_mask(item["keypoints"], (64, 64), (8, 8)))
    assert 0 < item["person_mask"].mean() < 1
    assert "person_mask" not in adapter_data.dataset(shards, "train", config(), BODY)[0]


def test_face_and_body_act_in_the_mask_only(shards: Path, body: Path) -> None:
    model = fresh_model(config(), body)
    batch: dict[str, Any] = adapter_data.examples(adapter_data.dataset(shards, "train", config(), BODY), 2)
    latents, conditions, times = model.latents(batch, draw=False), model.conditions(batch), torch.tensor([300, 600])

    def noise(mask: torch.Tensor | None) -> torch.Tensor:
        given = batch if mask is None else {**batch, "person_mask": mask}
        with torch.no_grad():
            return model.noise(given, latents, conditions, times)

    everywhere, nowhere = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    plain = noise(None)
    with scales(model.bundle, {"face": 0.0, "body": 0.0}):
        off = noise(None)
    assert not torch.allclose(plain, off)
    assert torch.equal(noise(nowhere), off)
    torch.testing.assert_close(noise(everywhere), plain, rtol=1e-4, atol=1e-5)
    first = noise(torch.stack([everywhere[0], nowhere[0]]))
    torch.testing.assert_close(first[0], plain[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[1], off[1], rtol=1e-4, atol=1e-5)
    half = everywhere.clone()
    half[..., 4:] = 0
    assert not torch.allclose(noise(half), plain)
    assert not torch.allclose(noise(half), off)


def test_a_masked_run_says_so_and_the_cache_does_not_change_it(shards: Path, body: Path, tmp_path: Path) -> None:
    def losses(run: Path) -> list[float]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    found = {}
    for name, options in (("plain", ()), ("box", ("mask=box",)), ("cached", ("mask=box", "cache.mode=first"))):
        summary = train_adapter(shards, tmp_path / "runs" / name, config(*options), body)
        found[name] = losses(summary.folder)
        assert AdapterBundle.load(summary.export).metadata["mask"] == ("box" if options else "none")
    assert found["box"] == found["cached"]
    assert found["box"] != found["plain"]


def test_shapes_under_a_mask_must_fit_every_layer() -> None:
    with pytest.raises(ConfigError, match="aspect_step 16 must be a multiple of 32 for mask = box"):
        config("mask=box", "aspects=true", "aspect_step=16")
    assert config("mask=person", "aspects=true", "aspect_step=32").mask == "person"
    assert config().mask == "none"

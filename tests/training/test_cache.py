"""The cache gives what was put in, never what other weights or crops made, and changes no loss."""

import importlib.util
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bolid.config import load_config
from bolid.errors import DataError, ModelError
from bolid.models.body_encoder import BodyEncoder
from bolid.models.sdxl import load_base
from bolid.shards import read_index
from bolid.training import adapter_cache, adapter_data
from bolid.training.adapter import opened_task, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.cache import Space, digest_of, weights_digest
from bolid.training.cache_run import fill_cache
from bolid.training.encoders import AdapterCache

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_PATH = Path(__file__).parents[1] / "generation" / "tiny_world.py"
_spec = importlib.util.spec_from_file_location("tiny_world_cache", _PATH)
assert _spec is not None
assert _spec.loader is not None
tiny_world: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_world)


def entry(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "mean": torch.randn(4, 3, 2, generator=generator).bfloat16(),
        "corner": torch.tensor([seed, -seed]),
    }


def files(space: Space) -> list[str]:
    return sorted(path.name for path in space.folder.glob("*"))


def test_entries_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    space = Space(tmp_path, "latents", weights="w")
    for seed in range(3):
        space.add(f"k{seed}", entry(seed))
    assert files(space) == []
    space.flush()
    for reader in (space, Space(tmp_path, "latents", weights="w"), pickle.loads(pickle.dumps(space))):
        found = reader.read(["k2", "k0"])
        assert torch.equal(found["mean"], torch.stack([entry(2)["mean"], entry(0)["mean"]]))
        assert found["corner"].tolist() == [[2, -2], [0, 0]]
        assert len(reader) == 3
        with pytest.raises(KeyError):
            reader.read(["k3"])


def test_two_writers_at_once_see_each_other(tmp_path: Path) -> None:
    one, two = (Space(tmp_path, "text", weights="w") for _ in range(2))
    one.add("a", entry(1))
    two.add("a", entry(1))
    two.add("b", entry(2))
    assert "b" not in one
    two.flush()
    one.flush()
    assert "b" in one
    assert len(one) == len(two) == len(Space(tmp_path, "text", weights="w")) == 2
    for space in (one, two):
        assert torch.equal(space.entry("a")["mean"], entry(1)["mean"])
        assert torch.equal(space.entry("b")["mean"], entry(2)["mean"])


def test_a_killed_writer_leaves_nothing_half(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys, torch\n"
        "from bolid.training import cache\n"
        "def half(tensors, path, header):\n"
        "    path.write_bytes(b'half of a file')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "space = cache.Space(pathlib.Path(sys.argv[1]), 'text', weights='w')\n"
        "space.add('a', {'mean': torch.zeros(2)})\n"
        "space.flush()\n"
        "cache.save_file = half\n"
        "space.add('b', {'mean': torch.zeros(2)})\n"
        "space.flush()\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -signal.SIGKILL
    space = Space(tmp_path, "text", weights="w")
    assert any(name.endswith(".tmp") for name in files(space)), "it was killed while it wrote"
    assert "a" in space
    assert "b" not in space
    space.add("b", {"mean": torch.ones(2)})
    space.flush()
    assert space.read(["a", "b"])["mean"].tolist() == [[0, 0], [1, 1]]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    space = Space(tmp_path, "text", weights="w")
    space.add("a", entry(1))
    space.flush()
    [file] = space.folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{file.name} is damaged"):
        Space(tmp_path, "text", weights="w").entry("a")


def test_parts_of_a_digest_do_not_run_together() -> None:
    assert len({digest_of("ab", "c"), digest_of("a", "bc"), digest_of("abc"), digest_of("ab", "c", "")}) == 4


def test_whatever_changes_an_entry_changes_its_place(tmp_path: Path) -> None:
    pipe, encoder = load_base("random-tiny"), BodyEncoder(tiny_world.BODY)

    def places() -> dict[str, Path]:
        cache = AdapterCache(tmp_path, pipe, encoder, "float32")
        return {"latents": cache.latents((64, 64)).folder, "text": cache.text.folder, "body": cache.posteriors.folder}

    first = places()
    assert places() == first
    changes: dict[str, torch.Tensor] = {
        "latents": pipe.vae.encoder.conv_in.bias,
        "text": pipe.text_encoder_2.text_projection.weight,
        "body": encoder.posterior.weight,
    }
    for name, weight in changes.items():
        with torch.no_grad():
            weight.view(-1)[0] += 1e-6
        changed = places()
        assert {other for other in first if changed[other] != first[other]} == {name}
        first = changed
    pipe.vae.register_to_config(norm_num_groups=4)
    assert places()["latents"] != first["latents"]
    cache = AdapterCache(tmp_path, pipe, encoder, "bfloat16")
    assert cache.text.folder != first["text"]
    assert cache.latents((64, 64)).folder != cache.latents((64, 72)).folder


def test_the_digest_of_weights_sees_names_types_and_values() -> None:
    network = torch.nn.Linear(3, 2)
    seen = {weights_digest(network)}
    seen.add(weights_digest(network.half()))
    network.weight.data[0, 0] += 1
    seen.add(weights_digest(network))
    seen.add(weights_digest(torch.nn.ModuleDict({"in": network})))
    assert len(seen) == 4


def config(*overrides: str) -> AdapterConfig:
    small = ["base=random-tiny", "resolution=64", "refs=5", "sample_identities=1", "sample_steps=1"]
    loop = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=2", "loop.steps=4", "loop.warmup=1"]
    return load_config(AdapterConfig, overrides=[*small, *loop, *overrides])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.shards(tmp_path_factory.mktemp("cache"), photos=4)  # fewer than refs: some fill up
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.body_run(tmp_path_factory.mktemp("body"))
    return folder


def losses(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row if "validation" in row else {k: row[k] for k in ("step", "loss", "grad_norm")} for row in rows]


def test_the_losses_are_those_without_a_cache_to_the_bit(shards: Path, body: Path, tmp_path: Path) -> None:
    """Filled on the way, read back by a second run, and read by a run that has no VAE and no text encoders."""
    runs = tmp_path / "runs"
    without = train_adapter(shards, runs / "off", config(), body)
    assert not (tmp_path / "cache").exists()
    for name, mode in (("writing", "on"), ("reading", "on"), ("first", "first"), ("only", "only")):
        summary = train_adapter(shards, runs / name, config(f"cache.mode={mode}"), body)
        assert losses(summary.folder) == losses(without.folder), name
        for file in ("face.safetensors", "body.safetensors"):
            assert (summary.export / file).read_bytes() == (without.export / file).read_bytes()
        assert bool(list((summary.folder / "samples").iterdir())) == (mode != "only"), "nothing can draw without a VAE"
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"bases", "latents", "posteriors", "text"}


def test_what_is_not_there_is_asked_for_where_the_encoders_are(shards: Path, body: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cache\.mode=first"):
        train_adapter(shards, tmp_path / "runs" / "a", config("cache.mode=only"), body)
    summary = fill_cache(shards, tmp_path / "runs", config(), body)
    assert summary.folder == tmp_path / "cache"
    assert summary.made == summary.photos == len(read_index(shards, "train", columns=["identity"]))
    # Of the one person of the sample grid also one target and its three references.
    assert summary.entries == {"latents": summary.photos + 1, "posteriors": summary.photos + 3, "text": 3}
    assert fill_cache(shards, tmp_path / "runs", config(), body).made == 0, "a second pass finds all"
    with pytest.raises(ModelError, match="VAE are not loaded"):
        train_adapter(shards, tmp_path / "runs" / "b", config("cache.mode=only", "resolution=72"), body)


def test_a_base_without_the_files_of_its_encoders_finds_the_entries(tmp_path: Path) -> None:
    base, encoder = tmp_path / "base", BodyEncoder(tiny_world.BODY)
    load_base("random-tiny").save_pretrained(base)
    whole = adapter_cache.load(config(f'base="{base}"'))
    known = AdapterCache(tmp_path / "cache", whole, encoder, "float32")
    for part in ("vae", "text_encoder", "text_encoder_2"):
        shutil.rmtree(base / part)
    alone = adapter_cache.load(config(f'base="{base}"', "cache.mode=only"))
    assert alone.vae is alone.text_encoder is alone.text_encoder_2 is None
    found = AdapterCache(tmp_path / "cache", alone, encoder, "float32")
    assert found.text.folder == known.text.folder
    assert found.latents((64, 48)).folder == known.latents((64, 48)).folder
    assert found.scaling_factor == whole.vae.config.scaling_factor
    with pytest.raises(ModelError, match=r"holds nothing of this base.*cache\.mode=first"):
        AdapterCache(tmp_path / "other", alone, encoder, "float32")


def test_a_batch_from_the_cache_holds_no_picture(shards: Path, body: Path, tmp_path: Path) -> None:
    task, data = opened_task(shards, tmp_path / "runs" / "a", config("cache.mode=first"), body)
    plain = adapter_data.examples(adapter_data.dataset(shards, "train", config(), tiny_world.BODY), 3)
    task.fill_cache(data)
    batch = adapter_data.examples(data, 3)
    assert {"latent_mean", "reference_mu", "text_states"} <= batch.keys()
    assert not {"target", "references"} & batch.keys()
    for name in ("key", "caption", "reference_keys"):
        assert batch[name] == plain[name]
    for name in ("keypoints", "reference_keypoints", "original_size", "crop_top_left", "reference_faces"):
        assert torch.equal(batch[name], plain[name]), name
    # Straight from the networks, one photo after the other.
    pipe, encoder = task.model.pipe, task.model.encoder
    with torch.no_grad():
        latents = pipe.vae.encode(plain["target"][1:2].float() / 127.5 - 1).latent_dist
        view = plain["references"][1:2, :1].float() / 127.5 - 1
        mu, _ = encoder(view, plain["reference_keypoints"][1:2, :1])
    assert torch.equal(batch["latent_mean"][1], latents.mean[0])
    assert torch.equal(batch["latent_std"][1], latents.std[0])
    assert torch.equal(batch["reference_mu"][1, 0], mu[0, 0])

"""The adapter's loss, its data and whole small runs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bolid.config import load_config
from bolid.errors import DataError, ModelError
from bolid.models.adapter import AdapterBundle
from bolid.models.body_encoder import BodyEncoder
from bolid.models.sdxl import networks
from bolid.training import adapter_data
from bolid.training.adapter import AdapterTask, fresh_model, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.adapter_model import AdapterModel
from bolid.training.losses import weighted_mean
from diffusers import DDPMScheduler
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_PATH = Path(__file__).parents[1] / "generation" / "tiny_world.py"
_spec = importlib.util.spec_from_file_location("tiny_world", _PATH)
assert _spec is not None
assert _spec.loader is not None
tiny_world: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_world)


def config(*overrides: str) -> AdapterConfig:
    small = ["base=random-tiny", "resolution=64", "refs=2", "sample_identities=1", "sample_steps=1"]
    loop = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=2", "loop.steps=4", "loop.warmup=1"]
    return load_config(AdapterConfig, overrides=[*small, *loop, *overrides])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.shards(tmp_path_factory.mktemp("adapter"))
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.body_run(tmp_path_factory.mktemp("body"))
    return folder


@pytest.fixture(scope="module")
def batch(shards: Path, body: Path) -> dict[str, Any]:
    data = adapter_data.dataset(shards, "train", config(), BodyEncoder.load(body).config)
    return adapter_data.examples(data, 3)


@pytest.fixture
def model(body: Path) -> AdapterModel:
    return fresh_model(config(), body)


def test_the_gradient_reaches_all_of_the_adapter_and_nothing_else(model: AdapterModel, batch: dict[str, Any]) -> None:
    task = AdapterTask(model, config("drop.text=0", "drop.face=0", "drop.body=0", "drop.all=0"))
    task.loss(batch, 0)["loss"].backward()
    missed = [name for name, p in model.bundle.named_parameters() if p.grad is None or not p.grad.any()]
    assert missed == []
    frozen = [p for network in (*networks(model.pipe), model.encoder) for p in network.parameters()]
    assert all(p.grad is None for p in frozen)


def test_the_target_is_never_among_its_references(shards: Path, body: Path) -> None:
    data = adapter_data.dataset(shards, "train", config("refs=5"), BodyEncoder.load(body).config)
    for row in range(len(data)):
        item = data[row]
        assert item["key"] not in item["reference_keys"]
        assert item["target"].shape == (3, 64, 64)
        assert item["references"].shape == (5, 3, 32, 24)


def test_face_and_body_do_not_see_the_target(model: AdapterModel, batch: dict[str, Any]) -> None:
    before = model.conditions(batch)
    other = {**batch, "target": 255 - batch["target"], "face": -batch["face"], "keypoints": batch["keypoints"] + 1}
    after = model.conditions(other)
    assert torch.equal(before.face, after.face)
    assert torch.equal(before.body, after.body)
    assert not torch.equal(before.body, model.conditions({**batch, "references": 255 - batch["references"]}).body)


def test_a_photo_without_caption_gets_the_fallback(model: AdapterModel, batch: dict[str, Any]) -> None:
    empty = model.conditions({**batch, "caption": ["", "  ", "a photo of a person"]}).text
    assert torch.equal(empty.states[0], empty.states[2])
    assert torch.equal(empty.pooled[1], empty.pooled[2])


def test_everything_dropped_is_the_unconditional_half_of_stock_guidance(model: AdapterModel) -> None:
    _, negative, _, negative_pooled = model.pipe.encode_prompt("a person", do_classifier_free_guidance=True)
    assert torch.equal(model.no_text.states, negative)
    assert torch.equal(model.no_text.pooled, negative_pooled)


def test_noise_and_size_conditions_are_those_of_the_reference(
    model: AdapterModel, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Answer:
        sample = torch.zeros(3, 4, 8, 8)

    def unet(noisy: Tensor, times: Tensor, states: Tensor, added_cond_kwargs: dict[str, Any]) -> Answer:
        seen.update(noisy=noisy, **added_cond_kwargs)
        return Answer()

    latents, noise, times = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 499, 999])
    monkeypatch.setattr(model.pipe.unet, "forward", unet)
    wide = {**batch, "original_size": torch.tensor([[64, 48]] * 3), "crop_top_left": torch.tensor([[11, 0]] * 3)}
    errors = model.errors(wide, latents, model.conditions(batch), times, noise)
    reference = DDPMScheduler.from_config(model.pipe.scheduler.config)
    torch.testing.assert_close(seen["noisy"], reference.add_noise(latents, noise, times))
    assert seen["time_ids"].tolist() == [[64, 48, 11, 0, 64, 64]] * 3
    torch.testing.assert_close(errors, noise.square().mean((1, 2, 3)))


def test_a_base_in_bfloat16_trains_an_adapter_in_float32(model: AdapterModel, batch: dict[str, Any]) -> None:
    """As on a GPU, where the loop runs the loss under autocast."""
    model.place(torch.device("cpu"), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = AdapterTask(model, config()).loss(batch, 0)["loss"]
    loss.backward()
    gradients = [p.grad for p in model.bundle.parameters() if p.grad is not None]
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradients
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_without_held_out_people_the_grid_shows_training_ones(
    body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tiny_world.shards(tmp_path, people=1, photos=3)
    shown, held_out = adapter_data.held_out_examples(alone, config(), BodyEncoder.load(body).config)
    assert not held_out, "what is trained on gives no validation figure"
    assert len(shown["key"]) == 1
    assert "people of the training split" in capsys.readouterr().err
    single = tiny_world.shards(tmp_path / "single", people=2, photos=1)
    with pytest.raises(DataError, match="two photos"):
        adapter_data.held_out_examples(single, config(), BodyEncoder.load(body).config)


def test_samples_that_only_fill_the_batch_do_not_count() -> None:
    assert weighted_mean(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([1.0, 0.0, 1.0])) == 2
    assert weighted_mean(torch.tensor([1.0]), torch.tensor([0.0])) == 0


def test_a_run_leaves_weights_grids_and_figures(shards: Path, body: Path, tmp_path: Path) -> None:
    summary = train_adapter(shards, tmp_path / "run", config("loop.sample_every=2"), body)
    assert summary.steps == 4
    assert set(summary.validation) == {"diff_on", "diff_body_off", "diff_off"}
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"step-000002.png", "step-000004.png"}
    bundle = AdapterBundle.load(summary.export)
    assert bundle.conditions == ("face", "body")
    assert bundle.metadata["base"] == "random-tiny"
    assert len(bundle.metadata["body_encoder_sha256"]) == 64
    fresh = fresh_model(config(), body).bundle.state_dict()
    assert all(not torch.equal(value, fresh[key]) for key, value in bundle.state_dict().items())


def test_the_baseline_trains_no_body(shards: Path, body: Path, tmp_path: Path) -> None:
    summary = train_adapter(shards, tmp_path / "run", config("baseline=ip-adapter", "loop.steps=2"), body)
    assert {path.name for path in summary.export.iterdir()} == {"face.safetensors", "README.md"}
    card = (summary.export / "README.md").read_text(encoding="utf-8")
    assert "weight_name=['face.safetensors'], image_encoder_folder=None" in card
    assert "| baseline | `ip-adapter` |" in card
    assert "body.safetensors" not in card
    assert set(summary.validation) == {"diff_on", "diff_off"}


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    shards: Path, body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def losses(run: Path) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return [{k: row[k] for k in ("step", "loss", "grad_norm")} for row in rows if "loss" in row]

    whole = train_adapter(shards, tmp_path / "whole", config(), body)
    train_adapter(shards, tmp_path / "parts", config("loop.steps=2"), body)
    resumed = train_adapter(shards, tmp_path / "parts", config(), body, resume=True)
    assert "at step 2" in capsys.readouterr().err, "a run that began anew would be equal too"
    assert losses(whole.folder) == losses(resumed.folder)
    assert (whole.export / "body.safetensors").read_bytes() == (resumed.export / "body.safetensors").read_bytes()


def test_the_tiny_base_brings_its_own_sizes_and_given_values_win() -> None:
    tiny = load_config(AdapterConfig, overrides=["base=random-tiny", "loop.lr=0.5"])
    assert (tiny.resolution, tiny.loop.steps, tiny.loop.lr) == (128, 100, 0.5)
    assert AdapterConfig().resolution == 1024


def test_an_encoder_of_another_width_is_refused(model: AdapterModel, body: Path) -> None:
    encoder = BodyEncoder(tiny_world.BODY.model_copy(update={"latent": 8}))
    with pytest.raises(ModelError, match="body latents of 16"):
        AdapterModel(model.pipe, encoder, model.bundle, "a person")

"""Shapes, noise and rank: what the options of the adapter's training do."""

import importlib.util
import io
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
from bolid.training import adapter_data
from bolid.training.adapter import AdapterTask, fresh_model, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.aspects import aspect_sizes
from bolid.training.batches import ShardBatches
from bolid.training.noise import min_snr_weight, noise_like
from PIL import Image
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_PATH = Path(__file__).parents[1] / "generation" / "tiny_world.py"
_spec = importlib.util.spec_from_file_location("tiny_world_options", _PATH)
assert _spec is not None
assert _spec.loader is not None
tiny_world: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_world)
_upright = tiny_world.photo


def _photo(person: int, number: int) -> bytes:
    """Of four photos of a person two stand, one lies on its side, and one is a square."""
    with Image.open(io.BytesIO(_upright(person, number))) as opened:
        turned = opened.transpose(Image.Transpose.ROTATE_90) if number % 2 else opened.copy()
    if number % 4 == 3:
        turned = turned.resize((60, 60))
    file = io.BytesIO()
    turned.save(file, "PNG")
    return file.getvalue()


tiny_world.photo = _photo


def config(*overrides: str) -> AdapterConfig:
    small = ["base=random-tiny", "resolution=64", "refs=2", "sample_identities=1", "sample_steps=1", "aspect_step=16"]
    loop = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=2", "loop.steps=4", "loop.warmup=1"]
    return load_config(AdapterConfig, overrides=[*small, *loop, *overrides])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.shards(tmp_path_factory.mktemp("shapes"))
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.body_run(tmp_path_factory.mktemp("body"))
    return folder


def test_shapes_are_the_largest_of_their_area() -> None:
    sizes = aspect_sizes(1024, 64)
    assert {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (832, 1216)} <= set(sizes)  # SDXL's own, appendix I
    assert sizes == sorted(sizes)
    for width, height in sizes:
        assert width % 64 == height % 64 == 0
        assert max(width, height) <= 2 * min(width, height)
        assert width * height <= 1024**2 < (max(width, height) + 64) * min(width, height)
        assert (height, width) in sizes


def test_shapes_need_a_side_of_whole_steps() -> None:
    with pytest.raises(ConfigError, match="resolution 72 must be a multiple of aspect_step 16"):
        config("aspects=true", "resolution=72")
    assert config().sizes() == []


def test_batches_have_one_shape_and_the_unet_is_told_crop_and_size(
    shards: Path, body: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("aspects=true")
    model = fresh_model(settings, body)
    data = adapter_data.dataset(shards, "train", settings, tiny_world.BODY)
    stream = ShardBatches(data, settings.loop, settings.sizes())(0, 0, 1)
    told: dict[str, Any] = {}

    class Answer:
        sample = torch.zeros(1)

    def unet(noisy: Tensor, times: Tensor, states: Tensor, added_cond_kwargs: dict[str, Any]) -> Answer:
        told.update(noisy=noisy, **added_cond_kwargs)
        answer = Answer()
        answer.sample = torch.zeros_like(noisy)
        return answer

    monkeypatch.setattr(model.pipe.unet, "forward", unet)
    shapes = set()
    for _ in range(10):
        batch = next(stream)
        height, width = batch["target"].shape[-2:]
        shapes.add((width, height))
        latents = model.latents(batch)
        model.errors(batch, latents, model.conditions(batch), torch.tensor([5, 5]), torch.randn_like(latents))
        for row in range(2):
            tall, wide = (int(side) for side in batch["original_size"][row])
            # Scaled until it covers the target, then cut in the middle.
            scale = max(width / wide, height / tall)
            corner = [(tall * scale - height) / 2, (wide * scale - width) / 2]
            ids = told["time_ids"][row].tolist()
            assert ids[:2] == [tall, wide]
            assert ids[2:4] == pytest.approx(corner, abs=scale)  # cut at whole pixels of the photo
            assert ids[4:] == [height, width]
            nearest = min(settings.sizes(), key=lambda size: abs(np.log(size[0] / size[1]) - np.log(wide / tall)))
            assert nearest == (width, height)
    assert len(shapes) == 3


def test_offset_noise_shifts_whole_channels() -> None:
    like = torch.empty(4000, 4, 2, 2)
    torch.manual_seed(0)
    noise = noise_like(like, 0.5)
    means = noise.mean((2, 3))
    assert means.var().item() == pytest.approx(0.5**2 + 1 / 4, rel=0.05)
    assert (noise - means[:, :, None, None]).var().item() == pytest.approx(3 / 4, rel=0.05)
    torch.manual_seed(0)
    plain = noise_like(like, 0.0)
    torch.manual_seed(0)
    assert torch.equal(plain, torch.randn(like.shape))


def test_min_snr_weights() -> None:
    alphas = torch.tensor([0.95, 0.5, 0.01])  # signal-to-noise 19, 1, 1/99
    assert min_snr_weight(alphas, 5.0).tolist() == pytest.approx([5 / 19, 1, 1])
    assert min_snr_weight(alphas, 0.0).tolist() == [1, 1, 1]


def test_the_loss_is_weighted_by_min_snr(shards: Path, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = AdapterTask(fresh_model(config(), body), config("min_snr_gamma=2"))
    data = adapter_data.dataset(shards, "train", config(), tiny_world.BODY)
    batch = adapter_data.examples(data, 3)
    seen: list[Tensor] = []

    def ones(batch: object, latents: Tensor, conditions: object, times: Tensor, noise: Tensor) -> Tensor:
        seen.append(times)
        return torch.ones(len(times), requires_grad=True)

    monkeypatch.setattr(task.model, "errors", ones)
    loss = float(task.loss(batch, 0)["diff"])
    alpha = task.model.alphas[seen[0]]
    snr = (alpha / (1 - alpha)).tolist()
    assert loss == pytest.approx(np.mean([min(value, 2) / value for value in snr]), rel=1e-5)


def test_a_run_with_all_options_continues_to_the_bit(
    shards: Path, body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("rank=2", "aspects=true", "noise_offset=0.05", "min_snr_gamma=5", "cache.mode=on")

    def losses(run: Path) -> list[Any]:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return [{k: row[k] for k in ("step", "loss", "grad_norm")} for row in rows if "loss" in row]

    whole = train_adapter(shards, tmp_path / "a/runs/whole", config(*options), body)
    train_adapter(shards, tmp_path / "b/runs/parts", config(*options, "loop.steps=2"), body)
    resumed = train_adapter(shards, tmp_path / "b/runs/parts", config(*options), body, resume=True)
    assert "at step 2" in capsys.readouterr().err, "a run that began anew would be equal too"
    assert losses(whole.folder) == losses(resumed.folder)
    assert (whole.export / "body.safetensors").read_bytes() == (resumed.export / "body.safetensors").read_bytes()
    bundle = AdapterBundle.load(whole.export)
    assert bundle.metadata["rank"] == "2"
    fresh = AdapterBundle.for_unet(fresh_model(config(), body).pipe.unet)
    for exported, text in zip(bundle.branch("face").key_values(), fresh.branch("face").key_values(), strict=True):
        change = exported.to_k_ip.weight - text.to_k_ip.weight
        assert torch.linalg.matrix_rank(change, rtol=1e-2) <= 2
        assert change.abs().max() > 0

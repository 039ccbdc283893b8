"""The Lightning branch: its sample, its gradient, its terms, and that it leaves everything else as it was."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bolid.config import load_config
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.errors import ConfigError, ModelError
from bolid.models.body_encoder import BodyEncoder
from bolid.models.clip import ClipScorer
from bolid.models.pose_gradient import DifferentiablePose
from bolid.models.sampling import few_step, stock_embedding
from bolid.models.sdxl import load_base, networks
from bolid.training import adapter_data
from bolid.training.adapter import AdapterTask, fresh_model, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.adapter_model import AdapterModel
from bolid.training.lightning import LightningBranch, few_step_sample, opened
from bolid.training.trainer import seed_step
from diffusers import DDPMScheduler
from torch import Tensor

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs bolid[pose]"),
]


def beside(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(__file__).parents[1] / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_world, tiny_clip = beside("generation/tiny_world.py"), beside("models/tiny_clip.py")
POSE = NETWORKS / "pose" / "pose.pt"
ALL_ON = ("weights.id=0.5", "weights.clip_text=0.25", "weights.clip_image=0.125", "lightning.every=1")
ALL_COUNT = ("losses.keypoint_confidence=0", "losses.person_score=0")  # a random base draws nobody


def config(*overrides: str) -> AdapterConfig:
    small = ["base=random-tiny", "resolution=64", "refs=2", "sample_identities=1", "sample_steps=1"]
    loop = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=2", "loop.steps=4", "loop.warmup=1"]
    return load_config(AdapterConfig, overrides=[*small, *loop, f"losses.pose={POSE}", *overrides])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_clip.make(tmp_path_factory.mktemp("clip"))
    return folder


@pytest.fixture(scope="module")
def few_step_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    load_base("random-tiny", seed=1).unet.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.shards(tmp_path_factory.mktemp("lightning"))
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_world.body_run(tmp_path_factory.mktemp("body"))
    return folder


@pytest.fixture(scope="module")
def pose() -> DifferentiablePose:
    return DifferentiablePose(POSE, image_size=64)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> ClipScorer:
    return ClipScorer(clip_folder)


@pytest.fixture(scope="module")
def plain_batch(shards: Path, body: Path) -> dict[str, Any]:
    data = adapter_data.dataset(shards, "train", config(), BodyEncoder.load(body).config)
    return adapter_data.examples(data, 2)


@pytest.fixture
def batch(plain_batch: dict[str, Any]) -> dict[str, Any]:
    """The shards have no keypoints: here every photo has those of a procedural person."""
    points = torch.from_numpy(people.take_photo(5, 1, 0, size=(64, 64), framing="full").truth.keypoints.copy()).float()
    points[:, 2] = 1
    references = plain_batch["reference_keypoints"].shape
    return {**plain_batch, "keypoints": points.repeat(2, 1, 1), "reference_keypoints": points.expand(references)}


@pytest.fixture
def model(body: Path) -> AdapterModel:
    return fresh_model(config(), body)


def inputs(model: AdapterModel, batch: dict[str, Any]) -> tuple[dict[str, Any], Tensor, Any]:
    return batch, model.latents(batch, draw=False), model.conditions(batch)


def gradients(model: AdapterModel) -> list[Tensor]:
    found = [p.grad.clone() for p in model.bundle.parameters() if p.grad is not None]
    model.bundle.zero_grad()
    return found


def test_the_sample_from_noise_is_the_stock_pipelines(model: AdapterModel, batch: dict[str, Any]) -> None:
    first = {key: value[:1] for key, value in batch.items() if key not in ("epoch", "step")}
    first |= {"original_size": torch.tensor([[64, 64]]), "crop_top_left": torch.tensor([[0, 0]])}
    conditions = model.conditions(first)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        made = few_step_sample(
            lambda noisy, times: model.noise(first, noisy, conditions, times), model.alphas, noise, noise, 4, 0, 1
        )
        with few_step(model.pipe):
            stock: Any = model.pipe(
                first["caption"][0] or config().caption_fallback,
                height=64,
                width=64,
                num_inference_steps=4,
                guidance_scale=0.0,
                latents=noise.clone(),
                ip_adapter_image_embeds=[stock_embedding(e[0], False) for e in (conditions.face, conditions.body)],
                output_type="latent",
            )
    torch.testing.assert_close(made, stock.images, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("start", "time"), [(1, 999), (2, 749), (3, 499), (4, 249)])
def test_a_start_is_the_latent_noised_to_its_time_and_right_predictions_lead_back(start: int, time: int) -> None:
    alphas = load_base("random-tiny").scheduler.alphas_cumprod
    latents, noise = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    seen: list[tuple[Tensor, Tensor]] = []

    def right(noisy: Tensor, times: Tensor) -> Tensor:
        seen.append((noisy, times))
        return noise

    found = few_step_sample(right, alphas, latents, noise, 4, start, 1)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    expected = DDPMScheduler(**schedule).add_noise(latents, noise, torch.tensor([time] * 2))
    assert seen[0][1].tolist() == [time, time]
    assert len(seen) == 5 - start
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, latents, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("term", ["id", "clip_text", "clip_image", "proportions"])
def test_each_term_reaches_all_of_the_adapter_and_nothing_frozen(
    term: str,
    model: AdapterModel,
    batch: dict[str, Any],
    pose: DifferentiablePose,
    clip: ClipScorer,
) -> None:
    """Through CLIP or the pose network, the VAE and a few-step UNet that is not the base's."""
    on = ("weights.id=1", "losses.id=proportions") if term == "proportions" else (f"weights.{term}=1",)
    unet = load_base("random-tiny", seed=1).unet
    branch = LightningBranch(model, config(*on, *ALL_COUNT), unet, pose, clip)
    terms = branch.terms(*inputs(model, batch))
    name = "id" if term == "proportions" else term
    assert set(terms) == ({"id", "id_share"} if name == "id" else {name})
    weight, value = terms[name]
    assert weight == 1
    if name == "id":
        assert terms["id_share"][1] > 0
    value.backward()
    missed = [n for n, p in model.bundle.named_parameters() if p.grad is None or not p.grad.any()]
    assert missed == []
    frozen = [*networks(model.pipe), model.encoder, unet, pose._network, clip._model]
    assert all(p.grad is None for network in frozen for p in network.parameters())


def test_the_few_step_unet_and_the_base_share_the_adapter_and_no_weight(
    model: AdapterModel, batch: dict[str, Any], few_step_folder: Path, clip: ClipScorer
) -> None:
    asked = config("weights.clip_text=1")
    unet = load_base("random-tiny", seed=1).unet
    before = len(list(model.bundle.parameters()))
    own, other = LightningBranch(model, asked, None, None, clip), LightningBranch(model, asked, unet, None, clip)
    torch.manual_seed(3)
    made = [branch.generate(*inputs(model, batch)).pictures.detach() for branch in (own, other)]
    assert not torch.allclose(made[0], made[1])
    with torch.no_grad():
        for parameter in model.bundle.parameters():
            parameter.add_(0.3)
    changed = [branch.generate(*inputs(model, batch)).pictures.detach() for branch in (own, other)]
    assert all(not torch.allclose(a, b) for a, b in zip(made, changed, strict=True))
    assert len(list(model.bundle.parameters())) == before
    assert not any("ip" in key for key in unet.state_dict())


def test_the_gradient_of_the_whole_way_is_that_of_finite_differences(
    model: AdapterModel, batch: dict[str, Any], clip: ClipScorer
) -> None:
    """Adapter, every step of the sampler, VAE and CLIP, along the gradient itself, where its slope is its norm."""
    asked = config("weights.clip_image=1", "lightning.steps=2", "lightning.grad_steps=2")
    branch, given = LightningBranch(model, asked, None, None, clip), inputs(model, batch)
    parameters = list(model.bundle.parameters())

    def value() -> Tensor:
        torch.manual_seed(8)
        return branch.terms(*given)["clip_image"][1]

    value().backward()
    found = gradients(model)
    norm = float(torch.stack([gradient.square().sum() for gradient in found]).sum().sqrt())
    distance, ends = 0.02, []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.add_(sign * distance * gradient / norm)
            ends.append(float(value()))
    assert (ends[0] - ends[1]) / (2 * distance) == pytest.approx(norm, rel=0.05)


def test_recomputing_changes_no_gradient_and_more_steps_do(
    model: AdapterModel, batch: dict[str, Any], clip: ClipScorer
) -> None:
    found = {}
    for checkpoint, steps in (("true", 1), ("false", 1), ("true", 3), ("false", 3)):
        asked = config("weights.clip_text=1", f"lightning.checkpoint={checkpoint}", f"lightning.grad_steps={steps}")
        model.pipe.vae.disable_gradient_checkpointing()
        branch = LightningBranch(model, asked, None, None, clip)
        torch.manual_seed(6)
        branch.terms(*inputs(model, batch))["clip_text"][1].backward()
        found[checkpoint, steps] = torch.cat([gradient.flatten() for gradient in gradients(model)])
    for steps in (1, 3):
        torch.testing.assert_close(found["true", steps], found["false", steps], rtol=1e-4, atol=1e-9)
    assert not torch.allclose(found["true", 1], found["true", 3], rtol=0.01)


def test_under_autocast_steps_without_gradient_do_not_take_that_of_the_others(
    model: AdapterModel, batch: dict[str, Any], clip: ClipScorer
) -> None:
    """As on a GPU: base in bfloat16, adapter in float32, and the first steps of the sampler have no gradient."""
    model.place(torch.device("cpu"), torch.bfloat16)
    branch = LightningBranch(model, config("weights.clip_text=1"), None, None, clip)
    with torch.autocast("cpu", torch.bfloat16):
        value = branch.terms(*inputs(model, batch))["clip_text"][1]
    value.backward()
    found = gradients(model)
    assert value.dtype == torch.float32
    assert len(found) == len(list(model.bundle.parameters()))
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in found)


def test_the_branch_changes_neither_the_diffusion_loss_nor_its_random_numbers(
    model: AdapterModel, batch: dict[str, Any], pose: DifferentiablePose, clip: ClipScorer
) -> None:
    """The same update twice, without the branch and with it; and its own noise depends on the update's seed."""
    asked = config(*ALL_ON, *ALL_COUNT)
    branch = LightningBranch(model, asked, None, pose, clip)
    terms, states = [], []
    for step, used in ((3, None), (3, branch), (3, branch), (4, branch)):
        seed_step(0, step, 0)
        terms.append(AdapterTask(model, asked, branch=used).loss(batch, step))
        states.append(torch.random.get_rng_state())
    assert set(terms[0]) == {"loss", "diff"}
    assert set(terms[1]) == {"loss", "diff", "id", "id_share", "clip_text", "clip_image"}
    assert torch.equal(terms[0]["diff"], terms[1]["diff"])
    assert torch.equal(terms[0]["loss"], terms[0]["diff"])
    assert torch.equal(states[0], states[1])
    assert all(torch.equal(terms[1][name], terms[2][name]) for name in terms[1])
    assert not torch.equal(terms[1]["clip_text"], terms[3]["clip_text"])
    weights = asked.weights
    total = sum(getattr(weights, name) * terms[1][name] for name in ("id", "clip_text", "clip_image"))
    torch.testing.assert_close(terms[1]["loss"], terms[1]["diff"] + total)


def test_a_target_that_is_generated_again_costs_nothing(
    model: AdapterModel, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos in place of generated pictures, and what the network itself finds there as the targets' keypoints."""
    images = [people.take_photo(41, person, 0, size=(64, 64), framing="full").image for person in (1, 2)]
    shown = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images]).float() / 255
    pose = DifferentiablePose(POSE)
    found = pose(shown).keypoints.detach()
    branch = LightningBranch(model, config("weights.id=1", "losses.keypoint_confidence=0"), None, pose, None)
    monkeypatch.setattr(branch, "decode", lambda latents: shown)
    error, share = (value for _, value in branch.terms(*inputs(model, {**batch, "keypoints": found})).values())
    assert share > 0.9
    assert float(error) == pytest.approx(0, abs=1e-8)
    swapped, _ = (value for _, value in branch.terms(*inputs(model, {**batch, "keypoints": found.flip(0)})).values())
    assert swapped > 1e-3


def test_a_part_is_decoded_and_keypoints_move_with_it(
    model: AdapterModel, batch: dict[str, Any], pose: DifferentiablePose
) -> None:
    points = torch.zeros(2, 17, 3)
    points[..., 2] = 1
    points[0, :, :2] = torch.tensor([56.0, 4.0])  # the upper right corner
    points[1, [5, 6, 11, 12], :2] = torch.tensor([[30.0, 20.0], [34.0, 20.0], [30.0, 44.0], [34.0, 44.0]])
    branch = LightningBranch(model, config("weights.id=1", "lightning.crop=32"), None, pose, None)
    made = branch.generate(*inputs(model, {**batch, "keypoints": points}))
    assert made.pictures.shape == (2, 3, 32, 32)
    assert made.keypoints[0, 0].tolist() == [56 - 32, 4, 1]
    assert made.keypoints[1, 5].tolist() == [30 - 16, 20 - 16, 1]
    assert made.keypoints[1, 0].tolist() == [-16, -16, 0]
    half = LightningBranch(model, config("weights.id=1", "lightning.scale=0.5"), None, pose, None)
    made = half.generate(*inputs(model, {**batch, "keypoints": points}))
    assert made.pictures.shape == (2, 3, 32, 32)
    assert made.keypoints[0, 0].tolist() == [28, 2, 1]


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    shards: Path,
    body: Path,
    clip_folder: Path,
    few_step_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on = ("weights.id=0.5", "weights.clip_text=1", *ALL_COUNT, "lightning.every=2", f"losses.clip={clip_folder}")
    on = (*on, f"lightning.model={few_step_folder}", "losses.id=proportions", 'sample_prompts=["a person"]')

    def rows(run: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = ("step", "loss", "diff", "id", "clip_text", "grad_norm")
        return [{name: line[name] for name in kept if name in line} for line in lines if "loss" in line]

    whole = train_adapter(shards, tmp_path / "whole", config(*on), body)
    train_adapter(shards, tmp_path / "parts", config(*on, "loop.steps=3"), body)
    resumed = train_adapter(shards, tmp_path / "parts", config(*on), body, resume=True)
    assert "at step 3" in capsys.readouterr().err, "a run that began anew would be equal too"
    assert rows(whole.folder) == rows(resumed.folder)
    assert [("clip_text" in row) for row in rows(whole.folder)] == [False, True, False, True]
    assert (whole.export / "body.safetensors").read_bytes() == (resumed.export / "body.safetensors").read_bytes()


def test_nothing_is_loaded_while_all_terms_are_off(model: AdapterModel, tmp_path: Path) -> None:
    missing = [f"{key}={tmp_path / 'none'}" for key in ("losses.pose", "losses.clip", "lightning.model")]
    assert opened(model, config(*missing)) is None
    with pytest.raises(ModelError, match="no few-step UNet"):
        opened(model, config(*missing[2:], "weights.id=1"))


def test_networks_that_are_not_here_say_what_to_pull(
    model: AdapterModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="run: bolid models pull clip-vit-large-patch14"):
        opened(model, config("weights.clip_image=1"))
    with pytest.raises(ModelError, match="run: bolid models pull yolo11x-pose"):
        opened(model, config("weights.id=1", "losses.pose=yolo11x-pose"))


def test_where_a_sample_starts() -> None:
    assert [config("weights.id=1", f"lightning.steps={steps}").start for steps in (1, 2, 4, 8)] == [1, 2, 3, 5]
    assert config("weights.id=1", "losses.id=proportions").start == 0
    assert config("weights.clip_text=1").start == 0
    assert config("weights.clip_text=1", "lightning.start=2").start == 2
    with pytest.raises(ConfigError, match=r"set lightning\.start to a step from 1 on, or losses\.id = proportions"):
        config("weights.id=1", "lightning.start=0")
    with pytest.raises(ConfigError, match="grad_steps = 5 is more than steps = 4"):
        config("lightning.grad_steps=5")

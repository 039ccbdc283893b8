"""The encoder's training looks at the person: the mask, the perceptual term, and batches that only fill up."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bolid.cli import app
from bolid.config import load_config
from bolid.errors import ModelError, TrainingError
from bolid.models.body_mask import body_mask
from bolid.models.perceptual import PerceptualDistance
from bolid.shards.dataset import IdentityDataset, collate
from bolid.training.posteriors import unit_pixels
from bolid.training.run_folder import opened
from bolid.training.task import Batch
from bolid.training.vae import VaeData, VaeTask, train_vae
from bolid.training.vae_config import VaeConfig
from typer.testing import CliRunner


def beside(path: str) -> ModuleType:
    found = Path(__file__).parents[1] / path
    spec = importlib.util.spec_from_file_location(f"{found.stem}_of_persons", found)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vae_people, tiny_clip = beside("training/vae_people.py"), beside("models/tiny_clip.py")
SMALL = ["size=demo", "body.width=24", "body.height=32", "body.latent=8", "body.channels=[16, 24, 32]"]
LOOP = ["loop.workers=0", "loop.device=cpu", "loop.identities_per_batch=3", "loop.sample_every=0", "loop.steps=4"]


def config(*overrides: str) -> VaeConfig:
    return load_config(VaeConfig, overrides=[*SMALL, *LOOP, *overrides])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = vae_people.pack_people(tmp_path_factory.mktemp("m"), identities=6, photos=4, measured=True)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny_clip.make(tmp_path_factory.mktemp("clip"))
    return folder


@pytest.fixture
def batch(shards: Path) -> Batch:
    data = IdentityDataset(shards, "train", refs=3, size=(24, 32), pixels="uint8")
    return collate([data[row] for row in range(0, len(data), 4)])


def losses(task: VaeTask, batch: Batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return task.loss(batch, 0)


def test_the_background_of_a_target_costs_nothing_unless_the_mask_is_off(batch: Batch, clip: Path) -> None:
    outside = body_mask(batch["keypoints"], (24, 32), (24, 32)) == 0
    assert outside.float().mean() > 0.1, "else there is no background in these crops"
    changed = {**batch, "target": torch.where(outside, 255 - batch["target"], batch["target"])}
    for mask, equal in (("person", True), ("none", False)):
        settings = config(f"mask={mask}", "weights.perceptual=1")
        task = VaeTask(settings, None, PerceptualDistance(clip))
        before, after = losses(task, batch), losses(task, changed)
        assert torch.equal(before["reconstruction"], after["reconstruction"]) == equal
        assert torch.equal(before["perceptual"], after["perceptual"]) == equal
    person = {**batch, "target": torch.where(outside, batch["target"], 255 - batch["target"])}
    task = VaeTask(config())
    assert not torch.allclose(losses(task, batch)["reconstruction"], losses(task, person)["reconstruction"])


def test_a_target_without_a_measured_pose_counts_whole(batch: Batch) -> None:
    batch["keypoints"] = torch.zeros_like(batch["keypoints"])
    found = [losses(VaeTask(config(f"mask={mask}")), batch)["reconstruction"] for mask in ("person", "none")]
    torch.testing.assert_close(*found)


def test_the_perceptual_term_is_off_by_default_weighted_when_on_and_reaches_both_networks(
    batch: Batch, clip: Path
) -> None:
    assert "perceptual" not in losses(VaeTask(config()), batch)
    with pytest.raises(ModelError, match=r"weights\.perceptual needs a network"):
        VaeTask(config("weights.perceptual=1"))
    distance = PerceptualDistance(clip)
    alone = [f"weights.{name}=0" for name in ("reconstruction", "kl", "ratios", "info_nce")]
    task = VaeTask(config("weights.perceptual=0.25", "view_dropout=0", *alone), None, distance)
    terms = losses(task, batch)
    assert terms.keys() == {"loss", "perceptual"}
    torch.testing.assert_close(terms["loss"], 0.25 * terms["perceptual"])
    terms["loss"].backward()
    for network in (task.encoder, task.decoder):
        assert any(p.grad is not None and p.grad.any() for p in network.parameters())
    assert all(p.grad is None for p in distance.network.parameters())
    batch["loss_weight"][1:] = 0
    with torch.no_grad():
        drawn, mask = task.drawn(batch), body_mask(batch["keypoints"], (24, 32), (24, 32))
        expected = distance(drawn[:1], unit_pixels(batch["target"][:1]), mask[:1])
        torch.testing.assert_close(task._drawn_terms(drawn, batch)["perceptual"][1], expected[0])


def test_a_run_with_the_perceptual_term_continues_to_the_bit_and_with_the_same_network_only(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny_clip.make(tmp_path / "clip")
    on = ("weights.perceptual=1", f"perceptual={clip}")
    whole = train_vae(shards, tmp_path / "whole", config(*on))
    train_vae(shards, tmp_path / "parts", config(*on, "loop.steps=2"))
    capsys.readouterr()
    resumed = train_vae(shards, tmp_path / "parts", config(*on), resume=True)
    assert "at step 2" in capsys.readouterr().err
    for name in ("encoder.safetensors", "decoder.safetensors"):
        assert (whole.export / name).read_bytes() == (resumed.export / name).read_bytes()
    assert whole.validation.keys() >= {"reconstruction", "perceptual"}
    model = tiny_clip.CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        model.vision_model.encoder.layers[0].mlp.fc1.weight.add_(0.1)
    model.save_pretrained(clip)
    with pytest.raises(TrainingError, match="perceptual_sha256"):
        train_vae(shards, tmp_path / "parts", config(*on, "loop.steps=6"), resume=True)


def test_a_network_that_is_not_here_says_what_to_pull(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="run: bolid models pull clip-vit-large-patch14"):
        train_vae(shards, tmp_path / "run", config("weights.perceptual=1"))
    assert not (tmp_path / "run").exists()


def test_a_process_that_got_only_samples_which_fill_up_has_a_finite_loss(batch: Batch, clip: Path) -> None:
    """The last batch of an epoch on several processes: without it, that update would be skipped on all of them."""
    batch["loss_weight"] = torch.zeros_like(batch["loss_weight"])
    task = VaeTask(config("weights.perceptual=1"), None, PerceptualDistance(clip))
    terms = task.loss(batch, 10**6)
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    gradients = [p.grad for p in (*task.encoder.parameters(), *task.decoder.parameters()) if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


def test_a_run_from_before_the_mask_is_not_continued_with_it(tmp_path: Path) -> None:
    with opened(tmp_path / "r", config("mask=none"), resume=False) as run:
        run.metrics.write_text('{"step": 1}\n')
    lines = run.config.read_text().splitlines(keepends=True)
    run.config.write_text("".join(line for line in lines if not line.startswith(("mask", "perceptual"))))
    with pytest.raises(TrainingError, match="mask: 'none' -> 'person'"), opened(tmp_path / "r", config(), resume=True):
        pass
    with opened(tmp_path / "r", config("mask=none"), resume=True):
        pass


def test_keep_is_an_option_of_the_command(shards: Path, tmp_path: Path) -> None:
    words = ["train", "vae", "--shards", str(shards), "-w", str(tmp_path), "--keep", "2"]
    sets: list[Any] = [word for item in (*SMALL, *LOOP, "loop.save_every=1") for word in ("--set", item)]
    done = CliRunner().invoke(app, [*words, *sets], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "runs/vae/checkpoints").iterdir()) == ["step-3", "step-4"]
    assert "keep = 2" in (tmp_path / "runs/vae/config.toml").read_text()
    assert CliRunner().invoke(app, [*words[:-1], "0"]).exit_code == 2
    assert "--keep" in CliRunner().invoke(app, ["train", "adapter", "--help"], env={"COLUMNS": "200"}).output


def test_held_out_people_are_measured_as_the_loss_measures(shards: Path, tmp_path: Path) -> None:
    settings = config()
    task = VaeTask(settings, VaeData.open(shards, settings))
    people = task.data.held_out if task.data else None
    assert people is not None
    with torch.no_grad():
        found = task._held_out_error(people)["reconstruction"]
        items = collate([people[row] for row in range(len(people))])
        mask = body_mask(items["keypoints"], (24, 32), (24, 32)).double()
        error = ((task.drawn(items) - unit_pixels(items["target"])).abs().double() * mask).sum((1, 2, 3))
    assert found == pytest.approx(float((error / (3 * mask.sum((1, 2, 3)))).mean()), rel=1e-5)

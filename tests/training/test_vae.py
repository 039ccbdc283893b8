import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bolid.config import load_config
from bolid.errors import ConfigError, DataError
from bolid.models.body_encoder import BodyDecoder, BodyEncoder
from bolid.models.identity_bank import IdentityBank
from bolid.shards.dataset import IdentityDataset, collate
from bolid.training.grids import grid
from bolid.training.posterior_figures import bone_ratio_r2, dimension_use
from bolid.training.posteriors import Posteriors, active_dimensions, identity_bank, posteriors, retrieval, unit_pixels
from bolid.training.task import Batch
from bolid.training.vae import VaeData, VaeTask, train_vae
from bolid.training.vae_config import VaeConfig
from PIL import Image

PEOPLE = Path(__file__).with_name("vae_people.py")
_spec = importlib.util.spec_from_file_location("vae_people", PEOPLE)
assert _spec is not None
assert _spec.loader is not None
vae_people = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vae_people)

TINY = {
    "size": "demo",
    "body": {"width": 24, "height": 32, "latent": 8, "channels": (16, 24, 32)},
    "loop": {"workers": 0, "device": "cpu", "identities_per_batch": 6, "sample_every": 0, "log_every": 1},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards as they are before the pose stage: no keypoints."""
    shards: Path = vae_people.pack_people(tmp_path_factory.mktemp("plain"), identities=12, photos=6)
    return shards


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with keypoints."""
    shards: Path = vae_people.pack_people(tmp_path_factory.mktemp("m"), identities=12, photos=6, measured=True)
    return shards


def config(**loop: Any) -> VaeConfig:
    return VaeConfig.model_validate(TINY | {"loop": TINY["loop"] | loop})


def batch_of(shards: Path, refs: int = 4) -> Batch:
    dataset = IdentityDataset(shards, "train", refs=refs, size=(24, 32), pixels="uint8")
    return collate([dataset[row] for row in range(0, len(dataset), 6)])


def test_the_loss_goes_down_and_everything_is_exported(plain: Path, tmp_path: Path) -> None:
    summary = train_vae(plain, tmp_path / "vae", config(steps=60, sample_every=30))
    assert summary.last["loss"] < 0.8 * summary.first["loss"]
    assert summary.last["reconstruction"] < summary.first["reconstruction"]
    assert summary.last["info_nce"] < summary.first["info_nce"]
    assert summary.last["ratios"] == 0  # nothing was measured
    assert summary.validation.keys() == {
        *("reconstruction", "rank1", "map", "retrieval_identities", "active_dimensions", "kl_nats"),
    }
    assert {p.name for p in summary.export.iterdir()} == {
        *("encoder.safetensors", "decoder.safetensors", "config.json"),
        *("identities.safetensors", "identities.parquet"),
    }
    steps = [f"step-{step:06d}{end}" for step in (30, 60) for end in ("-posterior.json", ".png")]
    assert sorted(p.name for p in (tmp_path / "vae/samples").iterdir()) == steps
    told = json.loads((tmp_path / "vae/samples" / steps[2]).read_text())
    assert sum(each["kl"] for each in told["dimensions"]) == pytest.approx(summary.validation["kl_nats"])
    assert len(told["dimensions"]) == 8
    assert told["bone_ratio_r2"] == {}  # nothing was measured
    with Image.open(tmp_path / "vae/samples/step-000060.png") as picture:
        people = round(picture.height / 34)
        assert picture.size == ((4 + 2) * 26, people * 34)
    BodyDecoder.load(summary.export)


def test_the_bank_is_the_product_of_all_training_views(plain: Path, tmp_path: Path) -> None:
    summary = train_vae(plain, tmp_path / "vae", config(steps=2))
    bank, encoder = IdentityBank.load(summary.export), BodyEncoder.load(summary.export)
    photos = IdentityDataset(plain, "train", refs=0, size=(24, 32))
    held_out = IdentityDataset(plain, "val", refs=0, size=(24, 32))
    assert set(bank.identities) == set(photos.index["identity"].to_pylist())
    assert not set(bank.identities) & set(held_out.index["identity"].to_pylist())
    assert list(bank.views) == [6] * len(bank.identities)
    views = torch.stack([photos[row]["target"] for row in range(6)])[None]
    with torch.no_grad():
        mu, logvar = encoder.encode(views, torch.zeros(1, 6, 17, 3), torch.ones(1, 6))
    torch.testing.assert_close(bank.latent(bank.slugs[0]), mu, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bank.logvar[:1], logvar, rtol=1e-4, atol=1e-5)


def test_a_killed_run_on_shards_continues_to_the_bit(plain: Path, tmp_path: Path) -> None:
    """More steps than an epoch has, two reading processes, and a kill between two checkpoints."""
    script = (
        "import json, os, signal, sys, pathlib, torch\n"
        "from bolid.training import vae, vae_config\n"
        "torch.set_num_threads(1)\n"
        "shards, run, die_at, values, resume = sys.argv[1:]\n"
        "loss = vae.VaeTask.loss\n"
        "def dying(self, batch, step):\n"
        "    if step == int(die_at): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return loss(self, batch, step)\n"
        "vae.VaeTask.loss = dying\n"
        "config = vae_config.VaeConfig.model_validate(json.loads(values))\n"
        "vae.train_vae(pathlib.Path(shards), pathlib.Path(run), config, resume == 'resume')\n"
    )
    values = config(steps=14, save_every=4, workers=2).model_dump_json()
    for run, die_at, resume in (("whole", -1, ""), ("broken", 10, ""), ("broken", -1, "resume")):
        arguments = [str(plain), str(tmp_path / run), str(die_at), values, resume]
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert (done.returncode == 0) == (die_at == -1), done.stderr
        assert ("at step 8" in done.stderr) == (resume != ""), "a run that began anew would be equal too"
    rows = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("samples_per_s", "data_wait", "memory_mb")}
            for line in lines
        ]
        for lines in ((tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "broken"))
    ]
    assert len(rows[0]) == 15
    assert rows[0] == rows[1]
    for name in ("encoder.safetensors", "decoder.safetensors", "identities.safetensors"):
        assert (tmp_path / "whole/export" / name).read_bytes() == (tmp_path / "broken/export" / name).read_bytes()


def test_the_ratio_head_learns_only_where_bones_were_measured(plain: Path, measured: Path) -> None:
    for shards, learns in ((plain, False), (measured, True)):
        task = VaeTask(config())
        terms = task.loss(batch_of(shards), step=0)
        terms["loss"].backward()
        gradient = task.decoder.ratio_head[0].weight.grad
        assert gradient is not None
        assert (bool(terms["ratios"] > 0), bool(gradient.abs().sum() > 0)) == (learns, learns)


def test_each_term_can_be_turned_off(measured: Path) -> None:
    batch = batch_of(measured)
    names = ("reconstruction", "kl", "ratios", "info_nce")
    for off in names:
        task = VaeTask(config().model_copy(update={"weights": config().weights.model_copy(update={off: 0.0})}))
        assert task.loss(batch, 100).keys() == {"loss", *names} - {off}


def test_the_total_is_the_weighted_sum_with_kl_rising(measured: Path) -> None:
    settings = config()
    task, batch, factor = VaeTask(settings), batch_of(measured), settings.weights
    for step, rise in ((0, 0.0), (settings.kl_rise // 2, 0.5), (10**6, 1.0)):
        torch.manual_seed(0)
        terms = task.loss(batch, step)
        expected = factor.reconstruction * terms["reconstruction"] + factor.kl * rise * terms["kl"]
        expected = expected + factor.ratios * terms["ratios"] + factor.info_nce * terms["info_nce"]
        torch.testing.assert_close(terms["loss"], expected)


def test_the_target_does_not_reach_its_own_latent(measured: Path) -> None:
    task, batch = VaeTask(config()), batch_of(measured)
    for keys, target in zip(batch["reference_keys"], batch["key"], strict=True):
        assert target not in keys
    drawn = task.drawn(batch)
    torch.testing.assert_close(drawn, task.drawn(batch | {"target": 255 - batch["target"]}))
    assert not torch.equal(drawn, task.drawn(batch | {"references": 255 - batch["references"]}))
    assert not torch.equal(drawn, task.drawn(batch | {"keypoints": batch["keypoints"] * 0.9}))


def test_references_of_weight_zero_and_fill_items_change_nothing(measured: Path) -> None:
    task = VaeTask(config().model_copy(update={"view_dropout": 0.0}))
    batch = batch_of(measured)
    batch["reference_view_weight"][:, 3] = 0
    batch["loss_weight"][-1] = 0
    batch["kept"] = batch["target"].clone()
    torch.manual_seed(0)
    before = task.loss(batch, 0)
    batch["references"][:, 3] = 0
    batch["target"][-1] = 0
    batch["references"][-1] = 0
    batch["reference_keypoints"][-1] = 0
    torch.manual_seed(0)
    after = task.loss(batch, 0)
    for name in ("reconstruction", "kl", "info_nce"):
        assert torch.equal(before[name], after[name])


def test_without_held_out_people_the_run_still_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = vae_people.pack_people(tmp_path / "work", identities=2, photos=4)
    data = VaeData.open(shards, config())
    if data.held_out is not None:  # the deal of two people may hold one out
        data = VaeData(data.training, data.training_photos, None, None, data.slugs)
    task = VaeTask(config(), data)
    assert task.sample(1, tmp_path) == {}
    assert (tmp_path / "step-000001.png").exists()


def test_missing_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bolid pack"):
        train_vae(tmp_path, tmp_path / "run", config())


def test_a_size_gives_defaults_that_given_values_replace() -> None:
    demo = load_config(VaeConfig, None, ["size=demo", "loop.steps=7", "body.latent=16"])
    assert (demo.loop.steps, demo.loop.lr, demo.body.latent, demo.body.width) == (7, 1e-3, 16, 48)
    assert VaeConfig().body.size == (192, 256)
    assert VaeConfig.model_validate(demo.model_dump(mode="json")) == demo
    with pytest.raises(ConfigError, match="latent"):
        load_config(VaeConfig, None, ["size=demo", "body.latnt=16"])
    with pytest.raises(ConfigError, match="multiples of 16"):
        load_config(VaeConfig, None, ["size=demo", "body.width=50"])


def test_the_configuration_imports_no_torch() -> None:
    code = "import sys, bolid.training.vae_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def separate(people: int, views: int) -> Posteriors:
    """Posteriors in which each person has a direction of their own."""
    identity = torch.arange(people).repeat_interleave(views)
    mu = torch.eye(people)[identity] + 0.01 * torch.randn(people * views, people)
    return Posteriors(identity, mu, torch.zeros_like(mu), torch.ones(people * views))


def test_retrieval_of_separate_and_of_mixed_people() -> None:
    known = separate(people=5, views=6)
    assert retrieval(known, 3) == {"rank1": 1.0, "map": 1.0, "retrieval_identities": 5.0}
    alike = Posteriors(known.identity, torch.ones_like(known.mu), known.logvar, known.weight)
    assert retrieval(alike, 3) == pytest.approx(
        {"rank1": 0, "map": 0.2, "retrieval_identities": 5}
    )  # ties count against
    assert retrieval(separate(people=1, views=6), 3) == {}
    assert retrieval(separate(people=3, views=1), 3) == {}


def measured_people(people: int, views: int) -> tuple[Posteriors, torch.Tensor]:
    """People of other thighs than each other's, latents that hold the log ratio, and the ratios `[people]`."""
    thigh = torch.linspace(60, 140, people)
    points = torch.zeros(people, views, 17, 3)
    points[..., 2] = 0.9
    torso = 100.0
    for side, x in ((0, 10.0), (1, -10.0)):
        points[..., 5 + side, 0] = points[..., 11 + side, 0] = points[..., 13 + side, 0] = x
        points[..., 11 + side, 1] = torso
        points[..., 13 + side, 1] = torso + thigh[:, None]
        points[..., 15 + side, 2] = 0.0  # ankles are never seen
    ratio = (thigh / torso).log()
    mu = ratio[:, None, None].expand(people, views, 1).reshape(-1, 1).clone()
    identity = torch.arange(people).repeat_interleave(views)
    # As sure as can be, so that the prior does not pull the mean.
    known = Posteriors(identity, mu, torch.full_like(mu, -20.0), torch.ones(len(mu)), points.flatten(0, 1))
    return known, ratio


def test_r2_of_bone_ratios_is_one_for_the_truth_and_zero_for_the_mean() -> None:
    known, ratio = measured_people(people=5, views=4)

    def at_thigh(value: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(value), 6).index_copy(1, torch.tensor([4]), value)

    exact = bone_ratio_r2(known, at_thigh, 2, 0.5)
    assert exact == pytest.approx({"thigh": 1.0}, abs=1e-5)  # the other bones are alike in all, or not seen
    mean = bone_ratio_r2(known, lambda mu: at_thigh(torch.full_like(mu, ratio.mean())), 2, 0.5)
    assert mean == pytest.approx({"thigh": 0.0}, abs=1e-5)
    worse = bone_ratio_r2(known, lambda mu: at_thigh(2 * ratio.mean() - mu), 2, 0.5)
    assert worse == pytest.approx({"thigh": -3.0}, abs=1e-4)
    assert bone_ratio_r2(measured_people(people=2, views=4)[0], at_thigh, 2, 0.5) == {}
    assert bone_ratio_r2(separate(people=5, views=4), at_thigh, 2, 0.5) == {}


def test_use_of_each_dimension() -> None:
    mu = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    logvar = torch.zeros(2, 2)
    known = Posteriors(torch.arange(2), mu, logvar, torch.ones(2))
    assert [vars(use) for use in dimension_use(known)] == [{"variance": 1.0, "kl": 0.5}, {"variance": 0.0, "kl": 0.0}]
    assert active_dimensions(known) == 1


def test_measured_people_have_a_figure_for_their_bones(measured: Path, tmp_path: Path) -> None:
    settings = config()
    with torch.no_grad():
        figures = VaeTask(settings, VaeData.open(measured, settings)).sample(1, tmp_path)
    assert figures is not None
    assert figures["bone_ratio_r2"] < 1
    told = json.loads((tmp_path / "step-000001-posterior.json").read_text())["bone_ratio_r2"]
    assert set(told) == {"shoulders", "hips", "upper arm", "forearm", "thigh", "shin"}


def test_the_bank_of_separate_people() -> None:
    known = separate(people=3, views=4)
    bank = identity_bank(known, {0: "a", 1: "b", 2: "c"})
    torch.testing.assert_close(bank.logvar, torch.full((3, 3), -torch.tensor(5.0).log().item()))
    torch.testing.assert_close(bank.mu, torch.eye(3) * 4 / 5, atol=0.02, rtol=0)
    assert active_dimensions(known) == 3


def test_every_photo_is_encoded_by_itself(plain: Path) -> None:
    task = VaeTask(config())
    photos = IdentityDataset(plain, "train", refs=0, size=(24, 32), pixels="uint8")
    known = posteriors(task.encoder, photos, workers=0)
    assert len(known.mu) == len(photos)
    item = photos[5]
    with torch.no_grad():
        mu, _ = task.encoder(unit_pixels(item["target"])[None, None], item["keypoints"][None, None])
    torch.testing.assert_close(known.mu[5], mu[0, 0], rtol=1e-4, atol=1e-5)
    assert int(known.identity[5]) == item["identity"]


def test_a_grid_lays_pictures_out_by_row() -> None:
    pictures = torch.linspace(-1, 1, 6).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 5)
    laid = grid(pictures)
    assert laid.shape == (2 * 6, 3 * 7, 3)
    assert [int(laid[6 * row, 7 * column, 0]) for row in (0, 1) for column in (0, 1, 2)] == [0, 51, 102, 153, 204, 255]

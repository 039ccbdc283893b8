"""`make method`: its probes against closed forms, and the whole command at a tiny size; no figure is asserted."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.demo import method, method_body, method_data, method_pictures, people
from bolid.demo import method_probes as probes
from bolid.demo.judges import ShapeJudge
from bolid.demo.method_report import Measured
from bolid.demo.train.corpus import TRAINING
from bolid.models.body_encoder import aggregate_views
from bolid.models.lightning import load_few_step_unet
from bolid.models.sampling import sample
from bolid.models.sdxl import load_base
from bolid.shards.dataset import IdentityDataset
from bolid.shards.index import read_index
from bolid.training.posteriors import Posteriors
from bolid.workspace import Workspace

# The installed diffusers does not know NumPy 2's copy keyword; its pipelines warn whenever they sample.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(people.__file__).parents[2]
PEOPLE, ROWS = 80, 4
WHO = np.repeat(np.arange(PEOPLE), ROWS)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_latent_that_is_the_shape_tells_all_of_it_and_noise_nothing():
    shape = rng().standard_normal((PEOPLE, 5))[WHO]
    mixed = 7 + 100 * shape @ rng(1).standard_normal((5, 8))
    assert probes.r2(mixed, shape, WHO) == pytest.approx(1, abs=1e-4)
    assert probes.r2(rng(2).standard_normal((len(WHO), 64)), shape, WHO) == pytest.approx(0, abs=0.05)


def test_r2_of_a_latent_with_as_much_noise_as_signal_is_a_half():
    signal = rng(3).standard_normal((4000, 1))
    noisy = signal + rng(4).standard_normal((4000, 1))
    assert probes.r2(noisy, signal, np.arange(4000)) == pytest.approx(0.5, abs=0.04)


def test_a_latent_that_only_names_the_person_tells_nothing_of_people_that_were_left_out():
    named, shape = np.eye(PEOPLE)[WHO], rng(5).standard_normal((PEOPLE, 3))[WHO]
    assert (probes.r2(named, shape, WHO) < 0.05).all()
    assert (probes.r2(named, shape, np.arange(len(WHO))) > 0.5).all()  # if rows were dealt instead of people


def test_a_target_that_does_not_vary_has_no_r2():
    targets = np.stack([np.full(len(WHO), 3.7), rng(6).standard_normal(PEOPLE)[WHO]], 1)
    assert np.isnan(probes.r2(targets, targets, WHO)).tolist() == [True, False]


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_ridge_is_the_closed_form(strength):
    [answers] = probes.ridge(
        np.array([[-2.0], [2.0]]), np.array([[1.0], [5.0]]), np.array([[2.0]]), np.array([strength])
    )
    assert answers == pytest.approx(np.array([[3 + 2 / (1 + strength)]]))  # x has variance 1, y = 3 + 2 x
    x, y, asked = (rng(7 + i).standard_normal(size) for i, size in enumerate([(30, 4), (30, 2), (5, 4)]))
    scaled, wanted = (x - x.mean(0)) / x.std(0), (asked - x.mean(0)) / x.std(0)
    weights = np.linalg.solve(scaled.T @ scaled + 30 * strength * np.eye(4), scaled.T @ (y - y.mean(0)))
    [answers] = probes.ridge(x, y, asked, np.array([strength]))
    assert answers == pytest.approx(wanted @ weights + y.mean(0))


def test_all_rows_of_a_person_are_in_one_fold_and_folds_are_alike():
    dealt = probes.folds(WHO, 10)
    assert all(len(set(dealt[person == WHO])) == 1 for person in range(PEOPLE))
    assert np.bincount(dealt).tolist() == [PEOPLE * ROWS // 10] * 10
    assert sorted(probes.folds(np.array([4, 4, 9]), 10).tolist()) in ([0, 0, 1], [0, 1, 1])


def test_classes_are_read_where_they_are_and_shuffled_ones_at_chance():
    classes = rng(8).permuted(np.repeat(np.arange(5), len(WHO) // 5))
    assert probes.accuracy(np.eye(5)[classes] @ rng(9).standard_normal((5, 12)), classes, WHO) == 1
    assert 0.1 < probes.permuted_accuracy(np.eye(5)[classes], classes, WHO) < 0.2 + 3 * (0.2 * 0.8 / len(WHO)) ** 0.5


def test_the_commonest_class_is_chance_for_who_always_names_it():
    classes = rng(10).permuted(["sitting"] * 192 + ["standing"] * 64 + ["lying"] * 64)
    assert probes.commonest(classes) == 0.6
    assert probes.accuracy(np.ones((len(WHO), 1)), classes, WHO) == 0.6  # so does a probe of nothing


def test_the_interval_of_a_mean_is_that_of_its_distribution():
    values = 5 + 2 * rng(11).standard_normal(400)
    mean, low, high = probes.bootstrap(values)
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 20, rel=0.12)
    holding = [probes.bootstrap(draw, 500) for draw in rng(12).exponential(1, (300, 60))]
    assert sum(low < 1 < high for _, low, high in holding) / 300 == pytest.approx(0.94, abs=0.04)
    assert probes.bootstrap([2.0, 2.0]) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="one value a person"):
        probes.bootstrap([])


def test_an_interval_reaches_an_aim_by_its_worse_end():
    lower = Measured("difference", -0.2, 10, low=-0.4, high=0.01, aim=0.0, better="lower")
    assert (lower.reached, replace(lower, high=-0.01).reached, replace(lower, aim=None).reached) == (False, True, None)
    assert Measured("rank-1", 0.9, 50, aim=0.9).reached
    assert not Measured("rank-1", 0.89, 50, aim=0.9).reached


def posed(keypoints, identity):
    count = len(keypoints)
    mu, logvar = torch.randn(2, count, 6, generator=torch.Generator().manual_seed(0))
    return Posteriors(torch.tensor(identity), mu, logvar, torch.rand(count), torch.tensor(keypoints))


def test_pose_does_not_depend_on_where_and_how_large_the_person_is():
    points = rng(13).uniform(10, 50, (1, 17, 3)).astype(np.float32)
    moved, unseen = points * 1.7 + 4, points.copy()
    unseen[0, 9, 2] = 0
    targets, seen = method_body.pose_targets(posed(np.concatenate([points, moved, unseen]), [0, 0, 0]))
    assert targets[0] == pytest.approx(targets[1], abs=1e-5)
    assert seen.tolist() == [True, True, False]
    assert targets[0].reshape(12, 2)[[6, 7]].mean(0) == pytest.approx(0, abs=1e-6)  # hips
    assert np.ptp(targets[0].reshape(12, 2)[:, 1]) == pytest.approx(1)


def test_c_body_of_a_photo_is_that_of_the_set_of_views_it_is_in():
    known = posed(np.zeros((18, 17, 3), np.float32), [0] * 9 + [1] * 9)
    latents, rows = method_body.halves(known)
    assert sorted(set(rows.tolist())) == sorted(rows.tolist())
    assert len(rows) == 16
    for start in range(0, 16, 4):
        together = torch.from_numpy(rows[start : start + 4])
        assert len(set((together // 9).tolist())) == 1
        mu, _ = aggregate_views(known.mu[together][None], known.logvar[together][None], known.weight[together][None])
        assert latents[start : start + 4] == pytest.approx(mu.double().numpy().repeat(4, 0), abs=1e-6)


def test_shape_errors_are_in_spreads_of_the_visible_measures_and_pairs_are_of_one_person():
    shown = method_body.visible()
    truth, unit = rng(14).uniform(0.2, 1.8, (20, 22)), rng(15).uniform(0.01, 0.1, 22)
    far = truth + unit * np.where(shown, 2, 50)
    near = truth + unit * np.where(shown, -0.5, 50)
    assert method_pictures.error(far, truth, unit) == pytest.approx(2)
    rows = method_pictures.compared({"off": far, "face only": far, "body on": near}, truth, truth, unit, 8)
    value = {row.name: (row.value, row.low, row.high, row.reached) for row in rows}
    assert value["shape error, off"][:3] == pytest.approx((2, 2, 2))
    assert value["shape error, body on minus face only"][:3] == pytest.approx((-1.5, -1.5, -1.5))
    assert value["shape error, body on minus face only"][3]
    assert not value["shape error, face only minus off"][3]
    assert value["shape error, photos"][0] == 0
    assert value["shape error, body on, of other people"][0] > 0.5


def test_nobody_else_uses_the_two_worlds():
    mine = {method_data.TRAINING, method_data.HELD_OUT}
    assert len(mine) == 2
    assert not mine & set(TRAINING.values())
    for file in ROOT.glob("demo/**/*.py"):
        if file.name != "method_data.py":
            assert not mine & {int(n) for n in re.findall(r"\b\d{3}_?\d{3}\b", file.read_text())}, file


def test_faces_stand_for_the_person_and_not_for_the_photo():
    same, other = method_data.face_embedding(77_401, 3), method_data.face_embedding(77_401, 4)
    assert np.linalg.norm(same) == pytest.approx(1, abs=1e-5)
    assert same == pytest.approx(method_data.face_embedding(77_401, 3))
    assert abs(same @ other) < 0.9


TINY = {
    "training_world": 77_401,
    "held_out_world": 77_402,
    "training_people": 6,
    "training_photos": 3,
    "held_out_people": 4,
    "vae_steps": 4,
    "adapter_steps": 2,
    "picture_people": 2,
    "picture_seeds": 1,
    "readers": 0,
}
PROBED = ("one view", "c_body of 4 views")
NAMES = {
    "rank-1 among 4",
    "mAP among 4",
    *(
        f"R² of shape in {unit}, {of}"
        for unit in ("metres", "shares of stature")
        for of in ("one view", "c_body of 8 views")
    ),
    *(f"{what}, {of}" for what in ("R² of keypoints", "accuracy of pose", "accuracy of top's colour") for of in PROBED),
    *(f"shape error, {s}" for s in ("off", "face only", "body on", "photos", "body on, of other people")),
    "shape error, body on minus face only",
    "shape error, face only minus off",
}


def words(out):
    return ["--out", str(out), "--workers", "1", *(w for k, v in TINY.items() for w in ("--set", f"{k}={v}"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("method")
    command = [sys.executable, "-m", "bolid.demo.method", *words(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]
    return out, run


def written(out):
    return json.loads((out / "figures.json").read_text("utf-8"))


def test_one_command_prints_and_writes_every_row(made):
    out, run = made
    rows = {row["name"]: row for row in written(out)["figures"]}
    assert set(rows) == NAMES
    assert all(np.isfinite(row["value"]) and row["n"] > 0 for row in rows.values())
    assert rows["rank-1 among 4"]["aim"] == 0.9
    assert rows["R² of shape in metres, c_body of 8 views"]["aim"] == 0.6
    page = (out / "README.md").read_text("utf-8")
    for name in NAMES:
        assert f"| {name} |" in page
        assert name in run.stdout
    for part in ("render", "pack", "train vae", "probe", "train adapter", "pictures"):
        assert f"{part} …" in run.stderr
    assert written(out)["settings"]["held_out_world"] == 77_402
    assert (out / "pictures.png").stat().st_size > 10_000


def test_the_two_worlds_are_the_two_splits_with_what_is_true_of_each_photo(made):
    shards = Workspace(made[0] / "data").shards
    index = read_index(shards).to_pandas()
    assert index.groupby("split")["identity"].nunique().to_dict() == {"train": 6, "val": 4}
    assert index.groupby("split").size().to_dict() == {"train": 18, "val": 32}
    data = IdentityDataset(shards, "val", refs=0, size=128, crop="image")
    found = [data[row] for row in range(len(data))]
    for n in (1, 3):
        truth = people.take_photo(77_402, 0, n, size=(128, 128), framing="full").truth
        [item] = [item for item in found if item["caption"] == truth.caption]
        shown = truth.keypoints[:, 2] > 0
        assert item["keypoints"][shown, :2].numpy() == pytest.approx(truth.keypoints[shown, :2], abs=1e-3)
        confidence = [(0.0, 0.6, 0.95)[int(seen)] for seen in truth.keypoints[:, 2]]
        assert item["keypoints"][:, 2].tolist() == pytest.approx(confidence)
        assert bool(item["face"].any()) == (truth.face_visible >= 0.5)


def test_adapter_off_is_the_base_alone_and_the_judge_is_asked_as_the_figure_says(made):
    [file] = (made[0] / "pictures").glob("*/off-nobody.npy")
    pipe = load_base("demo-base")
    pipe.unet = load_few_step_unet("demo-base-lightning", pipe.unet, "demo-base", 4)
    alone = sample(pipe, method_pictures.PROMPTS, [0] * len(method_pictures.PROMPTS), (128, 128))
    assert np.array_equal(alone, np.load(file))
    judge = ShapeJudge()
    spread = np.stack([people.make_person(77_402, 1_000_000 + i).shape for i in range(1000)]).std(0)
    bodies = sorted(file.parent.glob("body-on-*.npy"))
    numbers = [int(body.stem.rsplit("-", 1)[1]) for body in bodies]
    assert len(set(numbers)) == 2
    for name, shown in (("off", [file, file]), ("body on", bodies)):
        errors = []
        for number, pictures in zip(numbers, shown, strict=True):
            off = (judge.together(np.load(pictures)) - people.make_person(77_402, number).shape) / spread
            errors.append(np.mean([x * x for x, valid in zip(off, judge.valid, strict=True) if valid]) ** 0.5)
        [row] = [row for row in written(made[0])["figures"] if row["name"] == f"shape error, {name}"]
        assert row["value"] == pytest.approx(np.mean(errors), rel=1e-3)


def test_run_again_it_goes_on_where_it_was_and_comes_to_the_same(made):
    out, first = made[0], written(made[0])["figures"]
    runs = Workspace(out / "data")
    encoder = runs.export("vae") / "encoder.safetensors"
    before, adapter = encoder.read_bytes(), (runs.export("adapter") / "body.safetensors").stat().st_mtime_ns
    encoder.rename(out / "aside")
    for lost in [*encoder.parent.iterdir(), next(out.glob("pictures/*/body-on-*.npy")), out / "figures.json"]:
        lost.unlink()
    encoder.parent.rmdir()
    assert method.main(words(out)) == 0
    assert encoder.read_bytes() == before
    assert (runs.export("adapter") / "body.safetensors").stat().st_mtime_ns == adapter
    assert written(out)["figures"] == first


def test_other_settings_in_the_same_folder_are_refused(made, capsys):
    assert method.main([*words(made[0]), "--set", "vae_steps=5"]) == 2
    assert "vae_steps: 4 -> 5" in capsys.readouterr().err
    assert method.main(["--out", str(made[0]), "--set", "vae_step=5"]) == 3

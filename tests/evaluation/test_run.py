"""`evaluate` on the tiny world, and the figures' own rules."""

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from bolid.errors import DataError, ModelError
from bolid.evaluation.config import EvalConfig
from bolid.evaluation.features import Views, as_views, centred, held_out, picture_features
from bolid.evaluation.figure import Figure, absent
from bolid.evaluation.protocols import Generated, picture_figures, reconstruction_figures, retrieval_figures
from bolid.evaluation.run import evaluate
from bolid.models.adapter import AdapterBundle, ConditionShape
from bolid.models.body_encoder import BodyDecoder, BodyEncoder, aggregate_views, fitted
from bolid.models.sdxl import load_base

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CONFIG = EvalConfig(prompts=("a person", "someone walking"), steps=1, grid_identities=1, views=3)


def adapter(folder: Path, latent: int, *names: str) -> Path:
    shapes = {"face": ConditionShape(512), "body": ConditionShape(latent)}
    torch.manual_seed(0)
    bundle = AdapterBundle.for_unet(load_base("random-tiny").unet, {name: shapes[name] for name in names})
    bundle.export(folder, {"base": "random-tiny", "resolution": "64"})
    return folder


def views(mu: torch.Tensor) -> Views:
    count = len(mu)
    zeros = torch.zeros(count, 17, 3)
    blank = torch.zeros(count, 3, 32, 24)
    return Views(
        tuple(range(count)), blank, zeros, torch.ones(count), torch.zeros(count, 512), mu, torch.zeros_like(mu)
    )


def test_all_figures_of_a_whole_run(tiny_world: ModuleType, tiny_shards: Path, tiny_body: Path, tmp_path: Path) -> None:
    weights = adapter(tmp_path / "adapter", tiny_world.BODY.latent, "face", "body")
    figures = {figure.name: figure for figure in evaluate(tiny_shards, tiny_body, weights, tmp_path / "out", CONFIG)}
    people = len(held_out(tiny_shards, BodyEncoder.load(tiny_body), CONFIG)[1])
    assert people >= 2
    assert figures["Body retrieval rank-1"].n == people
    assert figures["Leave-one-out reconstruction L1"].n == people * 3
    assert figures["L_diff"].n == figures["L_diff, body off"].n == figures["L_diff, adapter off"].n == people
    assert figures["FD (body encoder)"].n == figures["Body Sim."].n == people * 2
    assert all(figure.network for figure in figures.values())
    for name in ("FID", "IS", "CLIP-T", "CLIP-I", "ID", "ID(P)"):
        assert figures[name].value is None
        assert figures[name].note.startswith("needs ")

    stored = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    files = {"encoder.safetensors", "decoder.safetensors", "face.safetensors", "body.safetensors"}
    assert set(stored["weights_sha256"]) == files
    assert [row["name"] for row in stored["figures"]] == list(figures)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 1
    assert not re.search(r"\b(src|href)\s*=\s*(?![\"']?data:)", html), "self-contained"
    assert all(name in html for name in figures)


def test_another_body_encoder_than_the_adapters_is_refused(
    tiny_world: ModuleType, tiny_shards: Path, tiny_body: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    weights = adapter(folder, tiny_world.BODY.latent, "face", "body")
    bundle = AdapterBundle.load(weights)
    bundle.export(weights, {**bundle.metadata, "body_encoder_sha256": "0" * 64})
    with pytest.raises(ModelError, match="not the body encoder that"):
        evaluate(tiny_shards, tiny_body, weights, tmp_path / "out", CONFIG)


def test_a_circle_stays_a_circle_on_its_way_to_the_encoder() -> None:
    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    disc = ((rows - 99.5) ** 2 + (columns - 99.5) ** 2 < 60**2).float().expand(1, 3, -1, -1)
    seen = fitted(centred(disc, (48, 64)), (48, 64))[0, 0] > 0.5
    wide, high = int(seen.any(0).sum()), int(seen.any(1).sum())
    assert abs(wide - high) <= 1
    assert abs(high - 120 * 64 / 200) <= 1


def test_figures_repeat(tiny_world: ModuleType, tiny_shards: Path, tiny_body: Path, tmp_path: Path) -> None:
    weights = adapter(tmp_path / "adapter", tiny_world.BODY.latent, "face", "body")
    first = evaluate(tiny_shards, tiny_body, weights, tmp_path / "a", CONFIG)
    assert evaluate(tiny_shards, tiny_body, weights, tmp_path / "b", CONFIG) == first


def test_the_encoder_alone_and_the_baseline(
    tiny_world: ModuleType, tiny_shards: Path, tiny_body: Path, tmp_path: Path
) -> None:
    alone = {figure.name for figure in evaluate(tiny_shards, tiny_body, None, tmp_path / "alone", CONFIG)}
    assert "L_diff" not in alone
    weights = adapter(tmp_path / "adapter", tiny_world.BODY.latent, "face")
    baseline = {figure.name for figure in evaluate(tiny_shards, tiny_body, weights, tmp_path / "base", CONFIG)}
    assert "L_diff" in baseline
    assert "L_diff, body off" not in baseline


def test_nobody_held_out_and_weights_that_do_not_fit(
    tiny_world: ModuleType, tiny_shards: Path, tiny_body: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="body latents of 8"):
        evaluate(tiny_shards, tiny_body, adapter(tmp_path / "adapter", 8, "face", "body"), tmp_path, CONFIG)
    single = tiny_world.shards(tmp_path, people=4, photos=1)
    with pytest.raises(DataError, match="no held-out person"):
        evaluate(single, tiny_body, None, tmp_path / "out", CONFIG)
    with pytest.raises(DataError, match="nowhere"):
        evaluate(tmp_path / "nowhere", tiny_body, None, tmp_path / "out", CONFIG)


def test_retrieval_of_people_that_are_far_apart_and_of_one_alone() -> None:
    people = [views(torch.eye(4)[i].expand(4, -1) + 0.01 * torch.randn(4, 4)) for i in range(4)]
    rank1, average = retrieval_figures(people)
    assert rank1.value == average.value == 1.0
    assert all(figure.value is None for figure in retrieval_figures(people[:1]))


def test_reconstruction_leaves_the_view_itself_out(tiny_body: Path) -> None:
    decoder = BodyDecoder.load(tiny_body)
    width = decoder.config.latent
    mu = torch.randn(3, width)
    people = [views(mu), views(torch.randn(3, width))]
    (own, _) = reconstruction_figures(people, decoder)
    expected = []
    for person in people:
        for j in range(3):
            kept = [k for k in range(3) if k != j]
            body, _ = aggregate_views(person.mu[None, kept], person.logvar[None, kept], torch.ones(1, 2))
            with torch.no_grad():
                expected.append(float(decoder(body, torch.zeros(1, 17, 3)).abs().mean()))
    assert own.value == pytest.approx(np.mean(expected), rel=1e-5)
    assert own.n == 6


def test_body_similarity_separates_own_from_others(tiny_body: Path) -> None:
    encoder = BodyEncoder.load(tiny_body)
    pixels = np.stack([np.full((32, 24, 3), value, np.uint8) for value in (0, 250)])
    features = torch.from_numpy(picture_features(encoder, as_views(pixels))).float()
    people = [views(feature.expand(2, -1)) for feature in features]
    figures = {f.name: f for f in picture_figures(Generated(pixels, np.array([0, 1])), people, encoder)}
    assert figures["Body Sim."].value == pytest.approx(1, abs=1e-5)
    other = figures["Body Sim., other people"].value
    assert other is not None
    assert other < 1


def test_a_figure_is_finite_and_of_something() -> None:
    with pytest.raises(ValueError, match="nan"):
        Figure("x", float("nan"), n=3)
    with pytest.raises(ValueError, match="no items"):
        Figure("x", 1.0)
    assert absent("x", "why").value is None

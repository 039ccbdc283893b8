"""Who must not be in the data: people who may be under age, and what suppress.txt names."""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from bolid.config import load_config
from bolid.crawler.suppress import Suppression
from bolid.curation.config import CurateConfig
from bolid.curation.networks import Network
from bolid.curation.pixels import PhotoReader
from bolid.curation.run import curate
from bolid.curation.stages import exclusions
from bolid.curation.stages.face import FaceStage
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.errors import ConfigError
from bolid.workspace import Workspace
from PIL import Image

from .conftest import photo

Crawled = Callable[[Sequence[tuple[str, bytes]]], Workspace]
PLAIN = CurateConfig(min_res=60, min_photos=1, pose_model="none", face_model="none")
with_faces = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("insightface", "onnxruntime", "onnx")),
    reason="needs the extra face",
)


def reasons(workspace: Workspace) -> list[str]:
    table = pd.read_parquet(workspace.curated_table)
    return ["kept" if k else f"{s}:{r}" for k, s, r in table[["keep", "reject_stage", "reject_reason"]].to_numpy()]


def scored(workspace: Workspace) -> set[str]:
    """The photos that the ledger holds scores of."""
    parts = (workspace.curation / "decode").rglob("part-*.parquet")
    return {sha256 for part in parts for sha256 in pd.read_parquet(part)["sha256"]}


# --- suppress.txt ---------------------------------------------------------------------------------------------------


def test_what_suppress_txt_names_is_rejected_and_never_scored(crawled: Crawled) -> None:
    workspace = crawled([(name, photo(seed)) for seed, name in enumerate(["ann", "ann", "ann", "bob", "cy"])])
    table = pd.read_parquet(workspace.images_table)
    table.loc[4, "page_url"] = "http://x/cy's page"
    table.to_parquet(workspace.images_table)
    shas = table["sha256"].tolist()
    entries = [shas[0].upper(), "HTTP://x:80/2#top", "bob", "http://x/cy's page"]  # a sum, an address, a slug, a page
    (workspace.root / "suppress.txt").write_text("# they asked\n\n" + "\n".join(entries), encoding="utf-8")
    summary = curate(workspace, PLAIN, workers=1)
    gone = "exclusions:suppressed"
    assert reasons(workspace) == [gone, "kept", gone, gone, gone]
    assert (summary.offered, summary.kept, summary.failed, summary.computed) == (5, 1, 0, 1)
    assert summary.rejected == {gone: 4}
    assert scored(workspace) == {shas[1]}


def test_scores_of_an_earlier_run_are_not_told_and_come_back_with_the_photo(crawled: Crawled) -> None:
    workspace = crawled([("ann", photo(seed)) for seed in range(3)])
    curate(workspace, PLAIN, workers=1)
    listed = workspace.root / "suppress.txt"
    listed.write_text("http://x/1\n")
    assert curate(workspace, PLAIN, workers=1).rejected == {"exclusions:suppressed": 1}
    row = pd.read_parquet(workspace.curated_table).iloc[1]
    assert row[["decoded_width", "sharpness", "phash", "reject_value", "reject_threshold"]].isna().all()
    listed.unlink()
    again = curate(workspace, PLAIN, workers=1)
    assert (again.kept, again.computed) == (3, 0)


def test_the_same_bytes_of_another_identity_stay_unless_the_sum_is_listed(crawled: Crawled) -> None:
    both = photo(1)
    workspace = crawled([("ann", both), ("bob", both), ("bob", photo(2))])
    (workspace.root / "suppress.txt").write_text("ann\n")
    summary = curate(workspace, PLAIN, workers=1)
    assert reasons(workspace) == ["exclusions:suppressed", "kept", "kept"]
    assert pd.isna(pd.read_parquet(workspace.curated_table)["sharpness"][0])
    assert summary.offered == summary.kept + 1
    (workspace.root / "suppress.txt").write_text(pd.read_parquet(workspace.images_table)["sha256"][0])
    curate(workspace, PLAIN, workers=1)
    assert reasons(workspace) == ["exclusions:suppressed"] * 2 + ["kept"]


def test_a_photo_that_is_suppressed_and_gone_is_counted_once(crawled: Crawled) -> None:
    workspace = crawled([("ann", photo(1)), ("bob", photo(1)), ("bob", photo(2))])
    workspace.photo(pd.read_parquet(workspace.images_table)["sha256"][0], "JPEG").unlink()
    (workspace.root / "suppress.txt").write_text("ann\n")
    summary = curate(workspace, PLAIN, workers=1)
    assert (summary.kept, summary.failed, summary.rejected) == (1, 1, {"exclusions:suppressed": 1})


def test_a_malformed_list_stops_before_anything_is_scored(crawled: Crawled) -> None:
    workspace = crawled([("ann", photo(1))])
    (workspace.root / "suppress.txt").write_text("http://user@x/\n")
    with pytest.raises(ConfigError, match=r"suppress\.txt, line 1"):
        curate(workspace, PLAIN, workers=1)
    assert not (workspace.curation / "decode").exists()


def test_rows_without_addresses_are_judged_by_what_they_have() -> None:
    rows = [{"sha256": "a" * 64, "identity": name, "url": None, "page_url": None} for name in ("ann", "bob")]
    found = exclusions.suppressed(rows, Suppression(slugs=frozenset({"bob"})))
    assert list(found) == [1]
    assert exclusions.suppressed(rows, Suppression()) == {}


# --- age ------------------------------------------------------------------------------------------------------------


def face_model(folder: Path, age: int) -> Path:
    """The demo's face networks, and one that takes everybody for `age` years old."""
    from ..models.test_face import ages

    shutil.copytree(NETWORKS / "face", folder)
    ages(folder / "genderage.onnx", age)
    return folder


def config(model: Path | str, **exclusion: int) -> CurateConfig:
    values = {"min_res": 60, "min_photos": 1, "pose_model": "none", "face_model": str(model), "caption": "none"}
    return CurateConfig.model_validate({**values, "near_duplicate": 0, "exclusions": exclusion})


@pytest.fixture(scope="module")
def portraits() -> list[tuple[str, bytes]]:
    """Faces, and a room without one."""
    taken = [
        people.take_photo(6_113, 2, n, size=(288, 320), framing="portrait", pose="standing", yaw=8.0) for n in range(2)
    ]
    pictures = [*(each.image for each in taken), people.empty_room(6_113, 0, size=(288, 320))]
    return [("ann", people.encode_jpeg(picture)) for picture in pictures]


def face_rows(workspace: Workspace) -> list[dict[str, object]]:
    tables = [pa.parquet.read_table(part) for part in (workspace.curation / "face").rglob("part-*.parquet")]
    return [row for table in tables for row in table.to_pylist()]


@with_faces
def test_under_the_limit_nothing_of_the_face_is_stored(
    crawled: Crawled, portraits: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    workspace = crawled(portraits)
    summary = curate(workspace, config(face_model(tmp_path / "young", 17)), workers=1)
    excluded = "exclusions:age_under_limit"
    assert reasons(workspace) == [excluded, excluded, "kept"]
    assert summary.rejected == {excluded: 2}
    stored = face_rows(workspace)
    assert sorted(row["minor"] for row in stored) == [False, True, True]
    for row in stored:
        rest = {name: value for name, value in row.items() if name not in ("sha256", "minor")}
        assert all(value is None for value in rest.values()) if row["minor"] else rest["face_boxes"] == []
    table = pd.read_parquet(workspace.curated_table)
    assert table["reject_threshold"].tolist()[:2] == [18, 18]
    assert table["reject_value"].isna().all()
    told = [name for name in table.columns if name.startswith("face")]
    assert len(told) >= 8
    assert table.loc[:1, told].isna().all(axis=None)


@with_faces
def test_at_the_limit_photos_stay_and_a_higher_limit_is_scored_anew(
    crawled: Crawled, portraits: list[tuple[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, model = crawled(portraits[:2]), face_model(tmp_path / "grown", 18)
    first = curate(workspace, config(model), workers=1)
    assert (first.kept, first.computed) == (2, 2)
    assert all(row["minor"] is False and len(row["face_embeddings"]) == 512 for row in face_rows(workspace))
    assert curate(workspace, config(model), workers=1).computed == 0
    raised = curate(workspace, config(model, min_age=21), workers=1)
    assert (raised.computed, raised.rejected) == (2, {"exclusions:age_under_limit": 2})
    assert "no network for age" not in capsys.readouterr().err


@with_faces
def test_a_model_without_age_says_so_and_excludes_nobody(
    crawled: Crawled, portraits: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = crawled(portraits[:1])
    assert curate(workspace, config("demo-face"), workers=1).kept == 1
    assert [row["minor"] for row in face_rows(workspace)] == [None]
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("demo-face has no network for age: nobody is excluded for age") == 1


@with_faces
def test_any_face_under_the_limit_excludes_the_photo(tmp_path: Path) -> None:
    from ..models.test_face import ages, detector, picture, recogniser

    detector(tmp_path / "a.onnx")
    recogniser(tmp_path / "b.onnx")
    # About 30 + 20 (-0.3) = 24 years before grey, and 30 + 20 (-1) and a little for the spot = 11 before black.
    ages(tmp_path / "c.onnx", 30, redness=20)
    one = picture((640, 640), [(96, 96, 8)])
    two = picture((640, 640), [(96, 96, 8), (480, 480, 8)])
    two[420:560, 420:480] = two[420:480, 420:560] = two[488:560, 420:560] = two[420:560, 488:560] = 0
    paths = []
    for name, pixels in (("one", one), ("two", two)):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(pixels).save(paths[-1])
    stage = FaceStage(Network("by hand", str(tmp_path), "0"))
    stage.setup(PhotoReader())
    rows = stage(pa.RecordBatch.from_pydict({"sha256": ["1", "2"], "path": paths})).to_pylist()
    assert [row["minor"] for row in rows] == [False, True]
    assert (len(rows[0]["face_scores"]), rows[1]["face_scores"]) == (1, None)


@pytest.mark.parametrize("years", [17, 0, -1])
def test_the_limit_can_only_be_raised(years: int) -> None:
    said = f"'exclusions.min_age' = {years}: the age limit can only be raised; give 18 or more"
    with pytest.raises(ConfigError, match=said):
        load_config(CurateConfig, None, [f"exclusions.min_age={years}"])
    assert load_config(CurateConfig, None, ["exclusions.min_age=21"]).exclusions.min_age == 21


def test_the_estimate_is_not_in_the_verdict() -> None:
    verdict = exclusions.decide(True, 21)
    assert verdict is not None
    assert (verdict.stage, verdict.reason, verdict.value, verdict.threshold) == (
        "exclusions",
        "age_under_limit",
        None,
        21,
    )
    assert exclusions.decide(False, 21) is None
    assert exclusions.decide(None, 21) is None

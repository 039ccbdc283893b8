import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from bolid.config import load_config
from bolid.curation.config import CurateConfig
from bolid.curation.run import curate
from bolid.curation.what_if import what_if
from bolid.errors import ConfigError, WorkspaceError
from bolid.workspace import Workspace

from .conftest import photo, shelve

CONFIG = CurateConfig(min_res=60, min_photos=2, pose_model="none", face_model="none", caption="none")
SIDES = {"ann": (60, 64, 70, 80, 90), "bob": (60, 62, 64, 50)}
"""Short sides of the photos; all else about them is fine."""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    photos = [
        (name, photo(place * 10 + n, (side, 96)))
        for place, (name, sides) in enumerate(SIDES.items())
        for n, side in enumerate(sides)
    ]
    workspace = shelve(tmp_path_factory.mktemp("curated"), photos)
    curate(workspace, CONFIG, workers=1)
    return workspace


@pytest.fixture
def curated(once: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(once.root, tmp_path / "data")
    return Workspace(tmp_path / "data")


def verdicts(workspace: Workspace) -> list[str]:
    table = pd.read_parquet(workspace.curated_table)
    pairs = zip(table["keep"], table["reject_stage"], table["reject_reason"], strict=True)
    return ["kept" if keep else f"{stage}:{reason}" for keep, stage, reason in pairs]


def traces(workspace: Workspace) -> dict[str, tuple[int, int]]:
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [*files, workspace.root]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # ann keeps 70, 80 and 90; nothing of bob is large enough
        (["min_res=66"], {("kept", "decode:too_small"): 5}),
        # ann keeps 64 and more; bob is left with 62 and 64, which are too few
        (
            ["min_res=61", "min_photos=3"],
            {("kept", "decode:too_small"): 2, ("kept", "coverage:too_few_photos"): 2},
        ),
        (["min_res=50"], {("decode:too_small", "kept"): 1}),
        # 96 / 70 is 1.37, 96 / 64 is 1.5: three of ann pass, bob is left with nothing
        (["max_aspect=1.4"], {("kept", "decode:aspect"): 5}),
        (["min_res=60"], {}),
    ],
)
def test_what_is_predicted_is_what_a_run_then_does(
    curated: Workspace, changes: list[str], expected: dict[tuple[str, str], int]
):
    before = verdicts(curated)
    found = what_if(curated, [], changes)
    assert found.moves == expected
    values = [item for key, value in CONFIG.model_dump(exclude_none=True, exclude_defaults=True).items()
              for item in [f"{key}={value}"]]  # fmt: skip
    summary = curate(curated, load_config(CurateConfig, None, [*values, *changes]), workers=1)
    after = verdicts(curated)
    assert Counter((b, a) for b, a in zip(before, after, strict=True) if a != b) == expected
    assert found.kept == (before.count("kept"), summary.kept)
    assert found.identities == (2, summary.identities)
    assert summary.computed == 0


def test_nothing_is_written(curated: Workspace):
    before = traces(curated)
    what_if(curated, ["min_photos=1"], ["min_res=66", "near_duplicate=20"])
    assert traces(curated) == before


def test_examples_name_photo_value_and_threshold(curated: Workspace):
    table = pd.read_parquet(curated.curated_table)
    found = what_if(curated, [], ["min_res=66"])
    told = [(each.identity, each.before, each.after, each.value, each.threshold) for each in found.examples]
    sides = [("ann", 60), ("ann", 64), ("bob", 60), ("bob", 62), ("bob", 64)]
    assert told == [(name, "kept", "decode:too_small", side, 66) for name, side in sides]
    assert [each.sha256 for each in found.examples] == table["sha256"][[0, 1, 5, 6, 7]].tolist()


def test_the_last_run_is_where_it_starts_from_and_options_count(curated: Workspace):
    # min_photos=2 is that of the last run, not the usual 20, which would leave nobody
    found = what_if(curated, ["min_res=66"], ["max_aspect=5"])
    assert found.changes == {"min_res": (60, 66), "max_aspect": (3.0, 5)}
    assert found.kept == (8, 3)
    for option in ("min_res=66", "max_aspect=5.0", "min_photos=2", "pose_model=none"):
        assert f" --set {option}" in found.command


def test_new_photos_are_told_and_count_on_neither_side(curated: Workspace):
    table = pd.read_parquet(curated.images_table)
    new = table.iloc[[0]].assign(sha256="0" * 64)
    pd.concat([new, table, new]).to_parquet(curated.images_table)
    found = what_if(curated, [], ["min_photos=4"])  # bob has 60, 62 and 64
    assert (found.unscored, found.kept, found.moves) == (2, (8, 5), {("kept", "coverage:too_few_photos"): 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("identity.kep=0.4", "unknown key 'identity.kep'; did you mean 'keep'"),
        ("min_res", "write it as KEY=VALUE"),
        ("min_res=0", "'min_res' = 0"),
        ("pose_model=yolo11x-pose", "run it: bolid curate -w .* --set pose_model=yolo11x-pose"),
        ("device=cuda", "changes what is computed"),
        ("caption=attributes", "changes what is computed"),
    ],
)
def test_what_cannot_be_tried_is_a_message(curated: Workspace, change: str, message: str):
    with pytest.raises(ConfigError, match=message):
        what_if(curated, [], [change])


def test_before_the_first_run_there_is_nothing_to_compare(tmp_path: Path):
    workspace = shelve(tmp_path, [("ann", photo(1))])
    with pytest.raises(WorkspaceError, match="run first: bolid curate"):
        what_if(workspace, [], ["min_res=60"])


def test_without_scores_there_is_nothing_to_decide(curated: Workspace):
    for part in curated.curation.rglob("part-*.parquet"):
        part.unlink()
    with pytest.raises(WorkspaceError, match="holds no scores"):
        what_if(curated, [], ["min_res=61"])

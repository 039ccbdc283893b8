import importlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from bolid.curation import engine
from bolid.curation.config import CurateConfig
from bolid.curation.decisions import Decisions
from bolid.curation.run import curate
from bolid.errors import AccountingError, DataError, WorkspaceError
from bolid.workspace import Workspace

from .conftest import photo

CONFIG = CurateConfig(min_res=60, min_photos=2)
Crawled = Callable[[Sequence[tuple[str, bytes]]], Workspace]


def verdicts(workspace: Workspace) -> list[str]:
    table = pd.read_parquet(workspace.curated_table)
    return ["kept" if keep else reason for keep, reason in zip(table["keep"], table["reject_reason"], strict=True)]


def test_every_photo_has_a_row_with_its_reason(crawled: Crawled):
    whole = photo(1)
    workspace = crawled(
        [
            ("ann", whole),
            ("ann", photo(2)),
            ("ann", whole),
            ("ann", photo(3, (59, 80))),
            ("ann", photo(4)[:900]),
            ("ann", b"no image"),
            ("ann", photo(5, (64, 193))),
            ("bob", photo(6)),
        ]
    )
    summary = curate(workspace, CONFIG, workers=1)
    expected = ["kept", "kept", "exact_duplicate", "too_small", "corrupt", "not_an_image", "aspect", "too_few_photos"]
    assert verdicts(workspace) == expected
    assert (summary.offered, summary.kept, summary.failed, summary.identities) == (8, 2, 0, 1)
    assert sum(summary.rejected.values()) == 6


def test_the_same_bytes_in_two_galleries_are_flagged_and_kept(crawled: Crawled):
    both = photo(1)
    workspace = crawled([("ann", both), ("ann", photo(2)), ("bob", both), ("bob", photo(3))])
    curate(workspace, CONFIG, workers=1)
    table = pd.read_parquet(workspace.curated_table)
    assert table["keep"].all()
    assert [list(x) for x in table["shared_with"]] == [["bob"], [], ["ann"], []]


def test_a_second_run_and_a_new_threshold_compute_nothing(crawled: Crawled):
    workspace = crawled([("ann", photo(seed)) for seed in range(5)])
    assert curate(workspace, CONFIG, workers=1).computed == 5
    again = curate(workspace, CONFIG, workers=1)
    assert (again.computed, again.kept) == (0, 5)
    stricter = curate(workspace, CurateConfig(min_res=65, min_photos=2), workers=1)
    assert (stricter.computed, stricter.rejected) == (0, {"decode:too_small": 5})


def test_new_photos_alone_are_computed(crawled: Crawled):
    curate(crawled([("ann", photo(seed)) for seed in range(3)]), CONFIG, workers=1)
    workspace = crawled([("ann", photo(seed)) for seed in range(5)])
    assert curate(workspace, CONFIG, workers=1).computed == 2


def test_the_result_does_not_depend_on_the_number_of_workers(crawled: Crawled, tmp_path: Path):
    photos = [(f"person{seed % 3}", photo(seed)) for seed in range(40)]
    workspace = crawled(photos)
    curate(workspace, CONFIG, workers=1)
    one = pd.read_parquet(workspace.curated_table)
    subprocess.run(["rm", "-r", str(workspace.curation)], check=True)
    curate(workspace, CONFIG, workers=3)
    pd.testing.assert_frame_equal(one, pd.read_parquet(workspace.curated_table))


def test_a_killed_run_loses_only_the_batches_in_flight(crawled: Crawled):
    workspace = crawled([("ann", photo(seed)) for seed in range(3 * engine.BATCH)])
    code = (
        "import sys, os, signal; from pathlib import Path; from bolid.curation import config, engine_local, run\n"
        "from bolid.workspace import Workspace\n"
        "write, parts = engine_local.write_part, []\n"
        "def dying(*args):\n"
        "    write(*args); parts.append(1)\n"
        "    if len(parts) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "engine_local.write_part, engine_local.SETTLE = dying, 0\n"
        "if __name__ == '__main__':\n"
        "    run.curate(Workspace(Path(sys.argv[1])), config.CurateConfig(min_res=60, min_photos=2), 1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(workspace.root)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not workspace.curated_table.exists()
    summary = curate(workspace, CONFIG, workers=1)
    # The second batch may have been done in time to be written with the first; the third was not begun by then.
    assert summary.computed in (engine.BATCH, 2 * engine.BATCH)
    assert summary.kept == 3 * engine.BATCH


POISONED_STAGE = '''
"""Dies or fails on photos whose bytes say so, as a decoder with a bug would."""
import os, signal
import pyarrow as pa
from bolid.curation.stage import StageKey, paths_of, score_batch

class PoisonedStage:
    key = StageKey("poisoned", version=1)
    schema = pa.schema([("sha256", pa.string()), ("length", pa.int64())])
    needs = ()

    def setup(self, reader):
        pass

    def __call__(self, batch):
        rows = []
        for sha256, path in paths_of(batch):
            data = path.read_bytes()
            if data == b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if data == b"raise":
                raise RuntimeError("broken codec")
            rows.append({"sha256": sha256, "length": len(data)})
        return score_batch(self.schema, rows)
'''


def test_a_poison_photo_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done_sizes: list[int]):
    (tmp_path / "poisoned_stage.py").write_text(POISONED_STAGE)  # a module that the spawned workers can import
    monkeypatch.syspath_prepend(tmp_path)
    stage = importlib.import_module("poisoned_stage").PoisonedStage()
    contents = [b"kill", b"raise", *(b"x" * n for n in range(9 * engine.BATCH))]
    items = []
    for number, data in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(data)
        items.append(engine.Item(f"sha{number}", str(tmp_path / f"{number}")))
    scores = engine.run_stages([stage], items, tmp_path / "ledger", workers=2)
    assert scores.failed == {"sha0": "the worker process died", "sha1": "RuntimeError: broken codec"}
    assert scores.table["length"].to_pylist() == list(range(9 * engine.BATCH))
    # Only what was in flight beside the poison is tried photo by photo; the other batches stay whole.
    assert done_sizes.count(engine.BATCH) >= 9 - 2 * 2


def test_a_photo_whose_file_is_gone_fails_and_the_report_is_written(crawled: Crawled):
    workspace = crawled([("ann", photo(seed)) for seed in range(4)])
    curate(workspace, CONFIG, workers=1)
    lost = pd.read_parquet(workspace.images_table)["sha256"][2]
    workspace.photo(lost, "JPEG").unlink()
    summary = curate(workspace, CONFIG, workers=1)
    assert (summary.kept, summary.failed, summary.computed) == (3, 1, 0)
    assert pd.read_parquet(workspace.curated_table)["error"].fillna("").tolist() == ["", "", "the file is missing", ""]


def test_when_no_photo_can_be_scored_every_row_says_so(crawled: Crawled):
    workspace = crawled([("ann", photo(seed)) for seed in range(3)])
    subprocess.run(["rm", "-r", str(workspace.images)], check=True)
    summary = curate(workspace, CONFIG, workers=1)
    assert (summary.kept, summary.failed) == (0, 3)
    assert set(pd.read_parquet(workspace.curated_table)["error"]) == {"the file is missing"}


def test_an_empty_or_missing_input_is_a_message(crawled: Crawled, tmp_path: Path):
    with pytest.raises(WorkspaceError, match="run first: bolid crawl"):
        curate(Workspace(tmp_path / "none"), CONFIG)
    workspace = crawled([("ann", photo(1))])
    pd.read_parquet(workspace.images_table).iloc[:0].to_parquet(workspace.images_table)
    with pytest.raises(DataError, match="holds no photo"):
        curate(workspace, CONFIG)
    pd.DataFrame({"sha256": ["a"]}).to_parquet(workspace.images_table)
    with pytest.raises(DataError, match="lacks the columns identity"):
        curate(workspace, CONFIG)


def test_a_lost_photo_is_an_error_and_nothing_is_written(crawled: Crawled, monkeypatch: pytest.MonkeyPatch):
    workspace = crawled([("ann", photo(seed)) for seed in range(3)])
    monkeypatch.setattr("bolid.curation.run.decide", lambda *args: Decisions([]))
    with pytest.raises(AccountingError):
        curate(workspace, CONFIG, workers=1)
    assert not workspace.curated_table.exists()


def test_the_report_is_self_contained_and_names_reasons(crawled: Crawled):
    workspace = crawled([("ann", photo(1)), ("ann", photo(2)), ("ann", photo(3, (40, 80))), ("<i>eve", photo(4))])
    curate(workspace, CONFIG, workers=1)
    page = workspace.report.read_text()
    assert "too_small · 40 against 60" in page
    assert "<i>eve" not in page.lower().replace("&lt;i&gt;", "")
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/jpeg;base64,") >= 4

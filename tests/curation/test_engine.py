"""Stages that build on each other, and what the ledger spares them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from bolid.curation import engine
from bolid.errors import ModelError

STAGES = '''
"""Stages that note every photo they score, in a file that the test reads."""
import pyarrow as pa
from bolid.curation.stage import StageKey, paths_of, score_batch
from bolid.errors import ModelError

class Noted:
    needs = ()

    def __init__(self, folder, version=1):
        self.folder, self.key = folder, StageKey(self.name, version, "", "weights")

    def setup(self, reader):
        self.note("setup")

    def note(self, text):
        with open(f"{self.folder}/{self.name}.log", "a") as log:
            log.write(text + "\\n")

class Length(Noted):
    name = "length"
    schema = pa.schema([("sha256", pa.string()), ("lengths", pa.list_(pa.float32()))])

    def __call__(self, batch):
        rows = []
        for sha256, path in paths_of(batch):
            self.note(sha256)
            rows.append({"sha256": sha256, "lengths": [float(len(path.read_bytes()))]})
        return score_batch(self.schema, rows)

class Double(Noted):
    name = "double"
    needs = ("lengths",)
    schema = pa.schema([("sha256", pa.string()), ("doubled", pa.float32())])

    def __call__(self, batch):
        rows = []
        for sha256, lengths in zip(batch["sha256"].to_pylist(), batch["lengths"].to_pylist()):
            self.note(sha256)
            rows.append({"sha256": sha256, "doubled": 2 * lengths[0]})
        return score_batch(self.schema, rows)

class Broken(Length):
    name = "broken"

    def setup(self, reader):
        raise ModelError("the weights are those of another network")
'''


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "noted_stages.py").write_text(STAGES)  # a module that the spawned workers can import
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "noted_stages", raising=False)
    return importlib.import_module("noted_stages")


def photos(folder: Path, count: int) -> list[engine.Item]:
    for number in range(count):
        (folder / f"{number}").write_bytes(b"x" * number)
    return [engine.Item(f"sha{number:03d}", str(folder / f"{number}")) for number in range(count)]


def scored(folder: Path, name: str) -> list[str]:
    log = folder / f"{name}.log"
    return sorted(line for line in log.read_text().splitlines() if line != "setup") if log.exists() else []


def test_a_stage_reads_what_an_earlier_one_measured_now_or_in_an_earlier_run(tmp_path: Path, stages: ModuleType):
    length, double = stages.Length(str(tmp_path)), stages.Double(str(tmp_path))
    items = photos(tmp_path, 2 * engine.BATCH + 3)
    engine.run_stages([length], items[:20], tmp_path / "ledger", workers=1)
    table = engine.run_stages([length, double], items, tmp_path / "ledger", workers=2).table
    assert table["doubled"].to_pylist() == [2.0 * number for number in range(len(items))]
    assert scored(tmp_path, "length") == scored(tmp_path, "double") == [item.sha256 for item in items]


def test_a_new_version_recomputes_that_stage_alone(tmp_path: Path, stages: ModuleType):
    items = photos(tmp_path, 5)
    engine.run_stages([stages.Length(str(tmp_path)), stages.Double(str(tmp_path))], items, tmp_path / "ledger", 1)
    new = [stages.Length(str(tmp_path)), stages.Double(str(tmp_path), version=2)]
    assert engine.run_stages(new, items, tmp_path / "ledger", 1).computed == 5
    assert len(scored(tmp_path, "length")) == 5
    assert len(scored(tmp_path, "double")) == 10


def test_networks_are_loaded_only_where_a_photo_needs_them(tmp_path: Path, stages: ModuleType):
    items = photos(tmp_path, 4)
    engine.run_stages([stages.Length(str(tmp_path))], items, tmp_path / "ledger", 1)
    engine.run_stages([stages.Length(str(tmp_path)), stages.Double(str(tmp_path))], items, tmp_path / "ledger", 1)
    assert (tmp_path / "length.log").read_text().count("setup") == 1


def test_weights_that_do_not_fit_end_the_run_and_blame_no_photo(tmp_path: Path, stages: ModuleType):
    with pytest.raises(ModelError, match="the stage broken cannot start: the weights are those of another network"):
        engine.run_stages([stages.Broken(str(tmp_path))], photos(tmp_path, 3), tmp_path / "ledger", 1)
    assert not list((tmp_path / "ledger").rglob("*.parquet"))

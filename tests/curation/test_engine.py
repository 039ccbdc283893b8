"""Stages that build on each other, and what the ledger spares them."""

import importlib
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import engine, engine_local, pixels, work
from bolid.curation.stage import StageKey, paths_of, score_batch
from bolid.curation.stages.decode import DecodeStage
from bolid.curation.stages.duplicates import PerceptualHashStage
from bolid.errors import BolidError, ModelError, UsageError, WorkspaceError
from PIL import Image

STAGES = '''
"""Stages that note every photo they score, in a file that the test reads."""
import os, signal, time
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.curation.stage import StageKey, paths_of, score_batch
from bolid.curation.work import BATCH
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

class Mortal(Length):
    name = "mortal"

    def __call__(self, batch):
        for _, path in paths_of(batch):
            data = path.read_bytes()
            if data == b"segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            if data == b"killed":  # as by a kernel that is out of memory
                os.kill(os.getpid(), signal.SIGKILL)
            if data == b"memory":
                bytearray(1 << 60)
        return super().__call__(batch)

class Patient(Length):
    name = "patient"

    def __call__(self, batch):
        if any(path.read_bytes() == b"wait" for _, path in paths_of(batch)):
            end = time.monotonic() + 60
            while self.written() < 2 * BATCH:
                assert time.monotonic() < end, "what is done is not written while a batch is scored"
                time.sleep(0.02)
        return super().__call__(batch)

    def written(self):
        parts = Path(self.folder, "ledger", "patient").rglob("part-*.parquet")
        return sum(pq.read_metadata(part).num_rows for part in parts)

class Unloadable(Length):
    name = "unloadable"

    def __setstate__(self, state):
        raise RuntimeError("not in this process")
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


def test_an_engine_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path):
    with pytest.raises(UsageError, match="no engine 'spark'; engines: local, ray"):
        engine.run_stages([], [], tmp_path, kind="spark")


def test_a_crash_costs_one_row_and_only_the_batch_of_the_dead_worker_is_taken_apart(
    tmp_path: Path, stages: ModuleType, done_sizes: list[int]
):
    items = photos(tmp_path, 5 * engine.BATCH)
    Path(items[20].path).write_bytes(b"segfault")
    Path(items[23].path).write_bytes(b"memory")
    Path(items[25].path).write_bytes(b"killed")
    found = engine.run_stages([stages.Mortal(str(tmp_path))], items, tmp_path / "ledger", workers=2)
    assert found.failed == {
        "sha020": "the worker process died",
        "sha023": "MemoryError: ",
        "sha025": "the worker process died",
    }
    expected = [number for number in range(len(items)) if number not in (20, 23, 25)]
    assert found.table["sha256"].to_pylist() == [f"sha{number:03d}" for number in expected]
    assert sorted(done_sizes) == [1] * (engine.BATCH - 3) + [engine.BATCH] * 4


def test_finished_batches_are_in_the_ledger_while_others_are_still_scored(tmp_path: Path, stages: ModuleType):
    items = photos(tmp_path, 3 * engine.BATCH)
    Path(items[-1].path).write_bytes(b"wait")
    found = engine.run_stages([stages.Patient(str(tmp_path))], items, tmp_path / "ledger", workers=1)
    assert found.failed == {}
    parts = [pq.read_metadata(part).num_rows for part in (tmp_path / "ledger").rglob("part-*.parquet")]
    assert sum(parts) == len(items)
    assert len(parts) < 3 * engine.BATCH


def test_a_disk_that_refuses_ends_the_run(tmp_path: Path, stages: ModuleType, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise WorkspaceError("the disk is full")

    monkeypatch.setattr(engine_local, "write_part", full)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        engine.run_stages([stages.Length(str(tmp_path))], photos(tmp_path, 3), tmp_path / "ledger", workers=1)


def test_a_worker_that_cannot_start_ends_the_run(tmp_path: Path, stages: ModuleType):
    with pytest.raises(BolidError, match="died 3 times before its first photo"):
        engine.run_stages([stages.Unloadable(str(tmp_path))], photos(tmp_path, 1), tmp_path / "ledger", workers=1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the photos that were decoded in this process, in order."""
    names: list[str] = []
    decode = pixels._decode_file

    def noting(path: Path) -> pixels.DecodedPhoto:
        photo = decode(path)
        names.append(path.name)
        return photo

    monkeypatch.setattr(pixels, "_decode_file", noting)
    return names


class Sizes:
    """Notes how many photos it sees at once; calls `before` at each."""

    key = StageKey("sizes", 1)
    schema = pa.schema([("sha256", pa.string()), ("width", pa.int64())])
    needs = ()

    def __init__(self, before=lambda: None):
        self.seen, self.before = [], before

    def setup(self, reader):
        self.reader = reader

    def __call__(self, batch):
        self.seen.append(batch.num_rows)
        self.before()
        rows = []
        for sha256, path in paths_of(batch):
            rows.append({"sha256": sha256, "width": self.reader.read(path).picture.width})
        return score_batch(self.schema, rows)


def squares(folder: Path, sides: list[int]) -> work.Task:
    for number, side in enumerate(sides):
        Image.new("RGB", (side, side)).save(folder / f"{number:03d}.png")
    items = tuple(work.Item(f"sha{number}", str(folder / f"{number:03d}.png")) for number in range(len(sides)))
    return work.Task(items, (0, 1))


def test_photos_are_seen_in_portions_that_fit_and_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
):
    monkeypatch.setattr(work, "PIXELS", 1000)
    sides = [20, 20, 20, 50, 10, 10, 10] + [1] * 20  # 400 px each, 2500, 100 each, 1 each
    first, second = Sizes(), Sizes()
    one, other = work.Worker([first, second], threads=1).score(squares(tmp_path, sides))
    assert one["width"].to_pylist() == other["width"].to_pylist() == sides
    assert first.seen == second.seen == [2, 1, 1, 16, 7]
    assert decoded == [f"{number:03d}.png" for number in range(len(sides))]


def test_decoders_work_ahead_of_the_stages(tmp_path: Path, decoded: list[str]):
    def wait_for_the_next_portion():
        wanted = min(len(decoded_by_now) + 2 * engine.BATCH, 40)
        decoded_by_now.extend([""] * engine.BATCH)
        end = time.monotonic() + 60
        while len(decoded) < wanted:
            assert time.monotonic() < end, "nothing is decoded while a stage is at work"
            time.sleep(0.01)

    decoded_by_now: list[str] = []
    stages = [Sizes(wait_for_the_next_portion), Sizes()]
    one, other = work.Worker(stages, threads=1, decoders=2).score(squares(tmp_path, [*range(1, 41)]))
    assert one["width"].to_pylist() == other["width"].to_pylist() == [*range(1, 41)]
    assert sorted(decoded) == [f"{number:03d}.png" for number in range(40)]
    assert len(stages[0].reader._photos) == len(stages[0].reader._ahead) == 0


def test_a_worker_that_owns_a_device_gives_the_same_scores(tmp_path: Path):
    task = squares(tmp_path, [*range(1, 41)])
    scored_by = [DecodeStage(), PerceptualHashStage()]
    shared = engine.run_stages(scored_by, task.items, tmp_path / "one", workers=1)
    owned = engine.run_stages(scored_by, task.items, tmp_path / "other", owner="cpu")
    assert shared.table.equals(owned.table)
    assert owned.table["decoded_width"].to_pylist() == [*range(1, 41)]


LARGE = '''
"""Scores two photos of 100 megapixels in one worker and prints by how many bytes they made it grow."""
import json, resource, sys
from pathlib import Path
import pyarrow as pa
from bolid.curation import engine
from bolid.curation.stage import StageKey, score_batch
from bolid.curation.stages.decode import DecodeStage
from bolid.curation.stages.duplicates import PerceptualHashStage

class Memory:
    needs = ()

    def __init__(self, name):
        self.key = StageKey(name, 1)
        self.schema = pa.schema([("sha256", pa.string()), (name, pa.int64())])

    def setup(self, reader):
        pass

    def __call__(self, batch):
        bytes_ = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return score_batch(self.schema, [{"sha256": s, self.key.name: bytes_} for s in batch["sha256"].to_pylist()])

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    small, *large = [engine.Item(name, str(folder / name)) for name in ("small", "a", "b")]
    stages = [DecodeStage(), PerceptualHashStage(), Memory("after")]
    run = lambda items: engine.run_stages(stages, items, folder / "ledger", workers=1).table.to_pylist()
    before, after = run([small]), run([small, *large])
    assert [row["decoded_width"] for row in after] == [64, 10_000, 10_000], after
    print(json.dumps(max(row["after"] for row in after) - before[0]["after"]))
'''


def test_of_photos_of_100_megapixels_one_is_held_at_a_time(tmp_path: Path):
    (tmp_path / "large.py").write_text(LARGE)
    Image.new("RGB", (64, 64)).save(tmp_path / "small", "JPEG")
    Image.new("RGB", (10_000, 10_000), (90, 120, 40)).save(tmp_path / "a", "JPEG")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    script = [sys.executable, str(tmp_path / "large.py"), str(tmp_path)]
    grown = int(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    # Pillow holds RGB in 4 bytes a pixel, and the luminance that both stages take of it in 1. Two photos would be 8.
    assert 4.5e8 < grown < 6e8

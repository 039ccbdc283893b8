"""The same stages on a Ray cluster of two workers on this machine: same files, nothing lost whoever is killed."""

import importlib
import importlib.util
import os
import pickle
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import engine, engine_ray
from bolid.curation.stages.decode import DecodeStage
from bolid.curation.stages.duplicates import PerceptualHashStage
from bolid.errors import BolidError, MissingExtraError, ModelError

from .conftest import photo

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")

STAGES = '''
"""Stages that note who scores which photo, in a file that the test reads."""
import os, signal, time
import pyarrow as pa
from bolid.curation.stage import StageKey, paths_of, score_batch
from bolid.errors import ModelError

class Noted:
    name, needs = "noted", ()
    schema = pa.schema([("sha256", pa.string()), ("length", pa.int64())])

    def __init__(self, folder, seconds=0.0):
        self.folder, self.seconds, self.key = folder, seconds, StageKey(self.name, 1)

    def setup(self, reader):
        pass

    def __call__(self, batch):
        rows = []
        for sha256, path in paths_of(batch):
            with open(f"{self.folder}/noted.log", "a") as log:
                log.write(f"{os.getpid()} {sha256}\\n")
            time.sleep(self.seconds)
            data = path.read_bytes()
            if data == b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if data == b"raise":
                raise RuntimeError("broken codec")
            rows.append({"sha256": sha256, "length": len(data)})
        return score_batch(self.schema, rows)

class Twice(Noted):
    name, needs = "twice", ("length",)
    schema = pa.schema([("sha256", pa.string()), ("twice", pa.int64())])

    def __call__(self, batch):
        rows = zip(batch["sha256"].to_pylist(), batch["length"].to_pylist())
        return score_batch(self.schema, [{"sha256": sha256, "twice": 2 * length} for sha256, length in rows])

class Broken(Noted):
    name = "broken"

    def setup(self, reader):
        raise ModelError("the weights are those of another network")
'''


CLUSTER = """
from bolid.curation import engine_ray
if __name__ == "__main__":
    with engine_ray.cluster(workers=2) as ray:
        print(ray.get_runtime_context().gcs_address, flush=True)
        input()
"""

ASK = """
import pickle, sys
from pathlib import Path
from bolid.curation import engine
from bolid.errors import BolidError

stages, items, ledger = pickle.loads(Path(sys.argv[1]).read_bytes())
try:
    answer = engine.run_stages(stages, items, ledger, workers=2, kind="ray")
except BolidError as error:
    answer = error
Path(sys.argv[2]).write_bytes(pickle.dumps(answer))
"""


@dataclass
class Cluster:
    """A Ray cluster of two cores at loopback. Drivers are processes: Ray reads its settings when it is imported."""

    folder: Path
    stages: ModuleType
    environment: dict[str, str]

    def begin(self, stages: list[object], items: list[engine.Item], ledger: Path) -> "subprocess.Popen[bytes]":
        (self.folder / "question").write_bytes(pickle.dumps((stages, items, ledger)))
        (self.folder / "answer").unlink(missing_ok=True)
        script = [sys.executable, "-c", ASK, str(self.folder / "question"), str(self.folder / "answer")]
        return subprocess.Popen(script, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, stages: list[object], items: list[engine.Item], ledger: Path) -> engine.Scores:
        with self.begin(stages, items, ledger) as driver:
            printed, complaints = driver.communicate()
        assert driver.returncode == 0, complaints.decode()
        assert printed == b""  # what Ray says goes to stderr: stdout is the command's
        answer = pickle.loads((self.folder / "answer").read_bytes())
        if isinstance(answer, BolidError):
            raise answer
        return answer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "ray_stages.py").write_text(STAGES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # drivers are at loopback, as the cluster
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CLUSTER], env=environment, stdin=pipe, stdout=pipe, text=True) as head:
        assert head.stdout is not None
        environment[engine_ray.ADDRESS] = head.stdout.readline().strip()
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            yield Cluster(folder, importlib.import_module("ray_stages"), environment)
        head.communicate("end\n")
    assert head.returncode == 0


def photos(folder: Path, count: int) -> list[engine.Item]:
    for number in range(count):
        (folder / f"{number}").write_bytes(b"x" * number)
    return [engine.Item(f"sha{number:03d}", str(folder / f"{number}")) for number in range(count)]


def noted(folder: Path) -> list[tuple[int, str]]:
    """(process, sha256) of every photo that a stage began."""
    log = folder / "noted.log"
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(process), sha256) for process, sha256 in lines]


def until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def parts(ledger: Path) -> list[Path]:
    return list(ledger.rglob("part-*.parquet"))


def scores_in(ledger: Path) -> dict[str, pa.Table]:
    """The scores of each folder of the ledger, however they are cut into parts."""
    folders: dict[str, list[pa.Table]] = {}
    for part in parts(ledger):
        folders.setdefault(str(part.parent.relative_to(ledger)), []).append(pq.read_table(part))
    return {folder: pa.concat_tables(tables).sort_by("sha256") for folder, tables in folders.items()}


def test_both_engines_write_the_same_scores(tmp_path: Path, cluster: Cluster):
    items = []
    for number in range(2 * engine.BATCH + 3):
        (tmp_path / f"{number}").write_bytes(photo(number) if number % 7 else b"no photo")
        items.append(engine.Item(f"sha{number:03d}", str(tmp_path / f"{number}")))
    every = [
        DecodeStage(),
        PerceptualHashStage(),
        cluster.stages.Noted(str(tmp_path)),
        cluster.stages.Twice(str(tmp_path)),
    ]
    # What one run measured is given to a stage of the next one, and a file that is gone fails.
    gone = engine.Item("gone", str(tmp_path / "gone"))
    engine.run_stages(every[:3], items[:5], tmp_path / "local", workers=2)
    shutil.copytree(tmp_path / "local", tmp_path / "ray")
    local = engine.run_stages(every, [*items, gone], tmp_path / "local", workers=2)
    ray = cluster.run(every, [*items, gone], tmp_path / "ray")
    assert ray.table.equals(local.table)
    assert ray.table["twice"].to_pylist() == [2 * Path(item.path).stat().st_size for item in items]
    assert local.failed == ray.failed == {"gone": "the file is missing"}
    assert scores_in(tmp_path / "local") == scores_in(tmp_path / "ray")
    begun = len(noted(tmp_path))
    assert engine.run_stages(every, items, tmp_path / "ray", kind="ray").computed == 0
    assert len(noted(tmp_path)) == begun


def test_the_death_of_an_actor_loses_nothing(tmp_path: Path, cluster: Cluster):
    items = photos(tmp_path, 4 * engine.BATCH)
    killed: list[int] = []

    def kill_one() -> None:
        until(lambda: len(noted(tmp_path)) > engine.BATCH)
        killed.append(noted(tmp_path)[-1][0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    scores = cluster.run([cluster.stages.Noted(str(tmp_path), 0.1)], items, tmp_path / "ledger")
    killer.join()
    assert scores.failed == {}
    assert scores.table["length"].to_pylist() == list(range(len(items)))
    assert killed[0] in {process for process, _ in noted(tmp_path)}
    assert len({process for process, _ in noted(tmp_path)}) > 2  # somebody took the dead one's place


def test_a_poison_photo_costs_one_row(tmp_path: Path, cluster: Cluster):
    items = photos(tmp_path, 2 * engine.BATCH)
    Path(items[3].path).write_bytes(b"kill")
    Path(items[4].path).write_bytes(b"raise")
    scores = cluster.run([cluster.stages.Noted(str(tmp_path))], items, tmp_path / "ledger")
    assert scores.failed == {"sha003": "the worker process died", "sha004": "RuntimeError: broken codec"}
    assert scores.table["length"].to_pylist() == [n for n in range(len(items)) if n not in (3, 4)]
    assert scores.computed == len(items) - 2


def test_a_killed_driver_keeps_the_parts_that_are_done(tmp_path: Path, cluster: Cluster):
    items = photos(tmp_path, 8 * engine.BATCH)
    ledger = tmp_path / "ledger"
    with cluster.begin([cluster.stages.Noted(str(tmp_path), 0.1)], items, ledger) as driver:
        until(lambda: len(parts(ledger)) >= 2 or driver.poll() is not None)
        driver.kill()
        _, complaints = driver.communicate()
        assert driver.returncode == -signal.SIGKILL, complaints.decode()
    workers = {process for process, _ in noted(tmp_path)}
    until(lambda: not any(_lives(process) for process in workers))  # the actors end with their driver
    kept = len(parts(ledger))
    assert 2 <= kept < 8
    scores = engine.run_stages(
        [cluster.stages.Noted(str(tmp_path))], items, ledger, workers=1
    )  # and the other engine goes on
    assert scores.computed == len(items) - kept * engine.BATCH
    assert scores.table["length"].to_pylist() == list(range(len(items)))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_weights_that_do_not_fit_end_the_run_and_blame_no_photo(tmp_path: Path, cluster: Cluster):
    with pytest.raises(ModelError, match="the stage broken cannot start: the weights are those of another network"):
        cluster.run([cluster.stages.Broken(str(tmp_path))], photos(tmp_path, 3), tmp_path / "ledger")
    assert not list((tmp_path / "ledger").rglob("*.parquet"))


def test_without_ray_the_message_is_the_line_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bolid\[ray\]'"):
        engine.run_stages([DecodeStage()], photos(tmp_path, 1), tmp_path / "ledger", 1, "ray")

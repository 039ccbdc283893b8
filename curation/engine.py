"""Maps stages over photos in worker processes, and keeps every result: the ledger.

The ledger of a stage is the folder `curation/<stage>/<fingerprint>/` of Parquet parts, each written whole or not at
all as soon as its batch is done; a killed run therefore loses at most the batches in flight, and the next run
computes only what no part holds. A photo whose scoring fails is not in the ledger: it is tried again next time.
"""

import collections
import concurrent.futures
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .. import atomic, progress
from ..errors import BolidError, ModelError
from ..processes import WorkerPool
from .pixels import PhotoReader
from .stage import Stage

BATCH = 16
"""Photos a batch: what a crash costs, and how many decoded photos a worker holds at most."""


@dataclass(frozen=True)
class Item:
    """A photo to score: the bytes at `path` hash to `sha256`."""

    sha256: str
    path: str


@dataclass
class Scores:
    """Scores of all stages: `table` has the column `sha256` and the columns of every stage, a row a scored photo."""

    table: pa.Table
    failed: dict[str, str] = field(default_factory=dict)
    """sha256 -> error, for photos whose scoring failed; they have no row in `table`."""
    computed: int = 0
    """Photos for which at least one stage was computed now (not read from the ledger)."""


@dataclass(frozen=True)
class _Task:
    items: tuple[Item, ...]
    stages: tuple[int, ...]
    given: tuple[tuple[str, pa.Array], ...] = ()
    """Columns that the stages need and that the ledger holds already, a value an item."""

    def alone(self) -> "Iterator[_Task]":
        """Yield a task for each of its items."""
        for row, item in enumerate(self.items):
            yield _Task((item,), self.stages, tuple((name, values.slice(row, 1)) for name, values in self.given))


class _SetupError(Exception):
    """A stage could not be set up: no photo is to blame, so the run ends. Carries text alone, which always pickles."""


def run_stages(stages: Sequence[Stage], items: Sequence[Item], ledger: Path, workers: int | None = None) -> Scores:
    """Score `items` (unique by sha256) with all `stages`, reading from the ledger what it holds.

    Args:
        stages: picklable, not set up; one that needs columns of another comes after it.
        items: photos.
        ledger: folder of all stages' results.
        workers: processes; None = the machine's cores.

    Raises:
        ModelError: a stage cannot be set up, because its weights do not fit.
    """
    tables = [_read_ledger(ledger, stage) for stage in stages]
    failed = {item.sha256: "the file is missing" for item in items if not Path(item.path).is_file()}
    present = [item for item in items if item.sha256 not in failed]
    tasks = _missing(present, stages, tables)
    fresh: list[list[pa.RecordBatch]] = [[] for _ in stages]
    missing = sum(len(task.items) for task in tasks)
    with progress.bar("curate", total=missing, unit="photos") as bar:
        for task, results in _execute(stages, tasks, workers or os.cpu_count() or 1, failed):
            for index, batch in zip(task.stages, results, strict=True):
                _write_part(ledger, stages[index], batch)
                fresh[index].append(batch)
            bar.advance(len(task.items))
    merged = [
        pa.concat_tables([old, pa.Table.from_batches(new, old.schema)]) for old, new in zip(tables, fresh, strict=True)
    ]
    return Scores(_join(merged, items, failed), failed, missing - sum(item.sha256 in failed for item in present))


def read_stages(stages: Sequence[Stage], items: Sequence[Item], ledger: Path) -> Scores:
    """Read what the ledger holds of `items` and compute nothing; a photo that lacks a stage is in `failed`."""
    tables = [_read_ledger(ledger, stage) for stage in stages]
    known = [set(table["sha256"].to_pylist()) for table in tables]
    failed = {i.sha256: "not scored yet" for i in items if not all(i.sha256 in shas for shas in known)}
    return Scores(_join(tables, items, failed), failed)


def _missing(items: Sequence[Item], stages: Sequence[Stage], tables: Sequence[pa.Table]) -> list[_Task]:
    rows = [{sha256: row for row, sha256 in enumerate(table["sha256"].to_pylist())} for table in tables]
    by_need: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item in items:
        need = tuple(index for index, known in enumerate(rows) if item.sha256 not in known)
        if need:
            by_need[need].append(item)
    tasks = []
    for need, group in by_need.items():
        wanted = {column for index in need for column in stages[index].needs}
        known = [(index, [c for c in tables[index].column_names if c in wanted]) for index in range(len(stages))]
        for start in range(0, len(group), BATCH):
            batch = tuple(group[start : start + BATCH])
            given = []
            for index, columns in known:
                if columns and index not in need:
                    taken = tables[index].take(pa.array([rows[index][item.sha256] for item in batch]))
                    given += [(column, taken[column].combine_chunks()) for column in columns]
            tasks.append(_Task(batch, need, tuple(given)))
    return tasks


def _execute(
    stages: Sequence[Stage], tasks: Sequence[_Task], workers: int, failed: dict[str, str]
) -> Iterator[tuple[_Task, list[pa.RecordBatch]]]:
    """Yield finished tasks; what was in flight when a worker failed or died is tried again, a photo at a time."""
    suspects: list[_Task] = []
    for task, results, _ in _pooled(stages, tasks, min(workers, len(tasks)), ahead=2):
        if results is not None:
            yield task, results
        else:
            suspects += task.alone()
    for task, results, error in _pooled(stages, suspects, 1, ahead=1):
        if results is not None:
            yield task, results
        else:
            died = isinstance(error, BrokenProcessPool)
            failed[task.items[0].sha256] = "the worker process died" if died else f"{type(error).__name__}: {error}"


def _pooled(
    stages: Sequence[Stage], tasks: Sequence[_Task], workers: int, ahead: int
) -> Iterator[tuple[_Task, list[pa.RecordBatch] | None, BaseException | None]]:
    """Yield every task with its results or its error.

    At most `ahead` tasks a worker are handed out, so that a dying worker takes few with it; the others go on in a
    new pool.
    """
    waiting = collections.deque(tasks)
    while waiting:
        with WorkerPool(workers, initializer=_start_worker, initargs=(list(stages), _threads(workers))) as pool:
            in_flight: dict[Future[list[pa.RecordBatch]], _Task] = {}
            broken = False
            while in_flight or (waiting and not broken):
                while waiting and not broken and len(in_flight) < ahead * workers:
                    task = waiting.popleft()
                    try:
                        in_flight[pool.submit(_score, task)] = task
                    except BrokenProcessPool:
                        waiting.appendleft(task)
                        broken = True
                done, _ = concurrent.futures.wait(in_flight, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if isinstance(error, _SetupError):
                        raise ModelError(str(error))
                    broken = broken or isinstance(error, BrokenProcessPool)
                    yield in_flight.pop(future), None if error else future.result(), error


def _threads(workers: int) -> int:
    """Threads for the networks of a worker: the cores are shared out."""
    return max(1, (os.cpu_count() or 1) // workers)


@dataclass
class _Worker:
    """What a worker process holds: stages are set up when the first photo needs them, networks are large."""

    stages: list[Stage]
    reader: PhotoReader
    ready: set[int] = field(default_factory=set)

    def stage(self, index: int) -> Stage:
        stage = self.stages[index]
        if index not in self.ready:
            try:
                stage.setup(self.reader)
            except BolidError as error:
                raise _SetupError(f"the stage {stage.key.name} cannot start: {error}") from None
            self.ready.add(index)
        return stage


_worker: list[_Worker] = []


def _start_worker(stages: list[Stage], threads: int) -> None:
    # Read by OpenMP, and so by torch, when it is loaded: each worker would take all cores otherwise.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _worker[:] = [_Worker(stages, PhotoReader(remembered=BATCH))]


def _score(task: _Task) -> list[pa.RecordBatch]:
    columns: dict[str, pa.Array] = {
        "sha256": pa.array([item.sha256 for item in task.items]),
        "path": pa.array([item.path for item in task.items]),
        **dict(task.given),
    }
    results = []
    for index in task.stages:
        stage = _worker[0].stage(index)
        names = ["sha256", "path", *stage.needs]
        result = stage(pa.RecordBatch.from_arrays([columns[name] for name in names], names))
        columns |= {name: result[name] for name in result.schema.names[1:]}
        results.append(result)
    return results


def _folder(ledger: Path, stage: Stage) -> Path:
    return ledger / stage.key.name / stage.key.fingerprint


def _read_ledger(ledger: Path, stage: Stage) -> pa.Table:
    parts = sorted(_folder(ledger, stage).glob("part-*.parquet"))
    tables = [pq.read_table(part, schema=stage.schema) for part in parts]
    return pa.concat_tables([stage.schema.empty_table(), *tables])


def _write_part(ledger: Path, stage: Stage, batch: pa.RecordBatch) -> None:
    members = "".join(sorted(batch["sha256"].to_pylist()))
    name = f"part-{hashlib.sha256(members.encode()).hexdigest()[:16]}.parquet"
    with atomic.replacing(_folder(ledger, stage) / name) as temporary:
        pq.write_table(pa.Table.from_batches([batch]), temporary)


def _join(tables: Sequence[pa.Table], items: Sequence[Item], failed: dict[str, str]) -> pa.Table:
    """Put the stages' columns side by side, one row for each scored item, in the order of `items`."""
    order = [item.sha256 for item in items if item.sha256 not in failed]
    joined = pa.table({"sha256": pa.array(order, pa.string())})
    for table in tables:
        row_of = {sha256: row for row, sha256 in enumerate(table["sha256"].to_pylist())}
        taken = table.take(pa.array([row_of[sha256] for sha256 in order], pa.int64()))
        for name in table.column_names[1:]:
            joined = joined.append_column(name, taken[name])
    return joined

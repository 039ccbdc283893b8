"""The unit of work, whatever the engine: some photos, the stages that they lack, and the worker that scores them."""

import ctypes
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..errors import BolidError
from .pixels import PhotoReader, pixels_of
from .scores import Scores
from .stage import Stage

BATCH = 16
"""Photos a batch: what a crash costs."""
OWNED_BATCHES = 8
"""Batches that a worker with a device of its own gets at once: only within them can it decode ahead."""
PIXELS = 64_000_000
"""Decoded pixels that stages see at once, or one photo that has more; Pillow holds a pixel in 4 bytes."""
DIED = "the worker process died"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@dataclass(frozen=True, slots=True)
class Item:
    """A photo to score: the bytes at `path` hash to `sha256`."""

    sha256: str
    path: str


@dataclass(frozen=True)
class Task:
    """Photos that lack the same stages.

    Attributes:
        items: the photos.
        stages: what they lack, by index.
        given: columns that these stages need and that the ledger holds already, a value an item.
    """

    items: tuple[Item, ...]
    stages: tuple[int, ...]
    given: tuple[tuple[str, pa.Array], ...] = ()

    def alone(self) -> "Iterator[Task]":
        """Yield a task for each of its items."""
        for row in range(len(self.items)):
            yield self.between(row, row + 1)

    def between(self, begin: int, end: int) -> "Task":
        """Return the task of the items from row `begin` to before row `end`."""
        given = tuple((name, values.slice(begin, end - begin)) for name, values in self.given)
        return Task(self.items[begin:end], self.stages, given)


class SetupError(Exception):
    """A stage could not be set up: no photo is to blame, so the run ends. Carries text alone, which always pickles."""


def plan(items: Sequence[Item], stages: Sequence[Stage], known: Scores, size: int = BATCH) -> list[Task]:
    """Return what is to be computed, at most `size` photos a task; `known` is what the ledger holds of the items."""
    by_need: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item in items:
        need = known.lacking(item.sha256)
        if need:
            by_need[need].append(item)
    tasks = []
    for need, group in by_need.items():
        wanted = {column for index in need for column in stages[index].needs}
        given = [
            name
            for index, stage in enumerate(stages)
            for name in stage.schema.names
            if index not in need and name in wanted
        ]
        for start in range(0, len(group), size):
            batch = tuple(group[start : start + size])
            taken = known.take([item.sha256 for item in batch], given) if given else pa.table({})
            tasks.append(Task(batch, need, tuple((name, taken[name].combine_chunks()) for name in given)))
    return tasks


def keep_freed_memory() -> None:
    """Let this process keep the memory of photos that it let go of for the next ones; does nothing without glibc.

    The C library gives such amounts back at once, and then the system clears each page of the next portion's photos
    again: about 2000 pages a photo.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that it accepts, and more than Pillow asks for at once
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


class Worker:
    """Scores tasks in a process of its own: stages are set up when the first photo needs them, networks are large.

    Photos are decoded once for all stages of a task, and no more of them at a time than `PIXELS` allows.

    Args:
        stages: not set up.
        threads: that a network may use.
        decoders: threads that decode the next portion while the stages see this one; 0 decodes when it is needed.
            Then two portions are in memory.
    """

    def __init__(self, stages: Sequence[Stage], threads: int, decoders: int = 0) -> None:
        # Read by OpenMP, and so by torch, when it is loaded: each worker would take all cores otherwise.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._stages = stages
        self._reader = PhotoReader(remembered=2 * BATCH, decoders=decoders)
        self._ready: set[int] = set()

    def score(self, task: Task) -> list[pa.Table]:
        """Return the scores of each of the task's stages, a row an item.

        Raises:
            SetupError: a stage cannot be set up.
            Exception: whatever a stage raises for a photo that it cannot score.
        """
        portions = list(_portions(task))
        batches: list[list[pa.RecordBatch]] = []
        for portion, following in zip(portions, [*portions[1:], None], strict=True):
            self._reader.ahead([Path(item.path) for item in portion.items])
            if following is not None:
                self._reader.ahead([Path(item.path) for item in following.items])
            try:
                batches.append(self._score(portion))
            finally:
                self._reader.forget([Path(item.path) for item in portion.items])
        return [pa.Table.from_batches(parts).combine_chunks() for parts in zip(*batches, strict=True)]

    def _score(self, task: Task) -> list[pa.RecordBatch]:
        columns: dict[str, pa.Array] = {
            "sha256": pa.array([item.sha256 for item in task.items]),
            "path": pa.array([item.path for item in task.items]),
            **dict(task.given),
        }
        results = []
        for index in task.stages:
            stage = self._stage(index)
            names = ["sha256", "path", *stage.needs]
            result = stage(pa.RecordBatch.from_arrays([columns[name] for name in names], names))
            columns |= {name: result[name] for name in result.schema.names[1:]}
            results.append(result)
        return results

    def _stage(self, index: int) -> Stage:
        stage = self._stages[index]
        if index not in self._ready:
            try:
                stage.setup(self._reader)
            except BolidError as error:
                raise SetupError(f"the stage {stage.key.name} cannot start: {error}") from None
            self._ready.add(index)
        return stage


def _portions(task: Task) -> Iterator[Task]:
    """Cut a task into runs of at most `BATCH` photos and `PIXELS` pixels; a larger photo is alone."""
    begin, held = 0, 0
    for row, item in enumerate(task.items):
        pixels = pixels_of(Path(item.path))
        if row > begin and (row - begin == BATCH or held + pixels > PIXELS):
            yield task.between(begin, row)
            begin, held = row, 0
        held += pixels
    yield task.between(begin, len(task.items))

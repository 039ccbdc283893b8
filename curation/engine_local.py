"""The engine for one machine: spawned processes, each with its own queue, so that one that dies takes no other along.

Scores are written by a thread of their own, so that no worker waits for a disk, and those of `SETTLE` seconds together,
so that a long run does not leave a file for each batch.

A worker is handed two tasks at a time: the one it works on and the next. When it dies, the first is the suspect and
the second is given to somebody else. Suspects are tried again at the end, alone and a photo at a time: what kills its
worker twice, or raises twice, has failed.
"""

import concurrent.futures
import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..errors import BolidError, ModelError
from ..processes import WorkerPool
from .ledger import write_part
from .stage import Stage
from .work import DIED, SetupError, Task, Worker, keep_freed_memory

SETTLE = 0.5
"""Seconds for which scores wait for others to be written with them: what a kill costs besides the tasks in flight."""
_BEHIND = 256
"""Tasks that wait to be written before the engine waits, too."""
_STARTS = 3
"""A worker that dies so often in a row before its first photo will not start at all."""


@dataclass(frozen=True)
class _Done:
    task: Task
    results: list[pa.Table] | None
    error: str = ""


def run(
    stages: Sequence[Stage],
    tasks: Sequence[Task],
    ledger: Path,
    workers: int,
    owner: str | None,
    advance: Callable[[int], None],
) -> dict[str, str]:
    """Score `tasks` and write the results into the ledger.

    Args:
        stages: of all tasks.
        tasks: see `plan`.
        ledger: folder of the results.
        workers: processes.
        owner: see `run_stages`.
        advance: told how many more photos are done.

    Returns:
        sha256 -> error, of photos that failed.
    """
    suspects: list[Task] = []
    failed: dict[str, str] = {}
    with contextlib.closing(_Writer(ledger, stages)) as writer:
        for done in _lanes(stages, tasks, min(workers, len(tasks)), owner, ahead=2):
            if done.results is None:
                suspects += done.task.alone()
            else:
                writer.keep(done)
                advance(len(done.task.items))
        for done in _lanes(stages, suspects, 1, owner, ahead=1):
            if done.results is None:
                failed[done.task.items[0].sha256] = done.error
            else:
                writer.keep(done)
            advance(1)
    return failed


class _Writer:
    """Writes what is done into the ledger, in a thread; an error of the disk comes out of the next call."""

    def __init__(self, ledger: Path, stages: Sequence[Stage]) -> None:
        self._ledger, self._stages = ledger, stages
        self._waiting: list[_Done] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def keep(self, done: _Done) -> None:
        """Take what is done; waits where the disk is far behind.

        Raises:
            WorkspaceError: the disk refused what was taken before.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < _BEHIND or self._error)
            self._raise()
            self._waiting.append(done)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is left.

        Raises:
            WorkspaceError: the disk refuses.
        """
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                    if not self._waiting:
                        return
                self._closing.wait(SETTLE)
                with self._changed:
                    taken, self._waiting = self._waiting, []
                    self._changed.notify_all()
                self._write(taken)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _write(self, taken: Sequence[_Done]) -> None:
        found: dict[int, list[pa.Table]] = {}
        for done in taken:
            for index, result in zip(done.task.stages, done.results or [], strict=True):
                found.setdefault(index, []).append(result)
        for index, results in sorted(found.items()):
            write_part(self._ledger, self._stages[index], pa.concat_tables(results))


def _lanes(
    stages: Sequence[Stage], tasks: Sequence[Task], workers: int, owner: str | None, ahead: int
) -> Iterator[_Done]:
    """Yield every task, done or not; `ahead` tasks are handed to a worker at a time."""
    if not tasks:
        return
    waiting = deque(tasks)
    cores = os.cpu_count() or 1
    threads = max(1, cores // workers)
    with contextlib.ExitStack() as stack:
        lanes = [_Lane(stages, threads, threads if owner else 0) for _ in range(workers)]
        for lane in lanes:
            stack.callback(lane.close)
        while True:
            for _ in range(ahead):  # in turn, so that the last tasks are not two for one worker and none for another
                for lane in lanes:
                    if waiting and len(lane) < ahead:
                        lane.hand(waiting.popleft())
            futures = {future: lane for lane in lanes for future in lane.handed}
            if not futures:
                return
            finished, _ = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
            for lane in {futures[future] for future in finished}:
                done, returned = lane.take()
                waiting.extendleft(reversed(returned))
                yield from done


class _Lane:
    """A worker process and the tasks in its hands, in order; the process is replaced when it has died."""

    def __init__(self, stages: Sequence[Stage], threads: int, decoders: int) -> None:
        self._stages, self._threads, self._decoders = list(stages), threads, decoders
        self._pool: WorkerPool | None = None
        self._up: Future[int] | None = None
        self._false_starts = 0
        self.handed: OrderedDict[Future[list[pa.Table]], Task] = OrderedDict()

    def __len__(self) -> int:
        return len(self.handed)

    def hand(self, task: Task) -> None:
        try:
            future = self._started().submit(_score, task)
        except BrokenProcessPool:  # it died while it had nothing to do
            if self.handed:
                future = Future()
                future.set_exception(BrokenProcessPool())
            else:
                self.close()
                future = self._started().submit(_score, task)
        self.handed[future] = task

    def take(self) -> tuple[list[_Done], list[Task]]:
        """Return what is done, and what a dead worker had not begun yet.

        Raises:
            ModelError: a stage cannot be set up.
            BolidError: the process does not start.
        """
        done: list[_Done] = []
        while self.handed and next(iter(self.handed)).done():
            future, task = self.handed.popitem(last=False)
            error = future.exception()
            if error is None:
                done.append(_Done(task, future.result()))
            elif isinstance(error, SetupError):
                raise ModelError(str(error))
            elif isinstance(error, BrokenProcessPool):
                return self._bury(task, done)
            else:
                done.append(_Done(task, None, f"{type(error).__name__}: {error}"))
        return done, []

    def _bury(self, task: Task, done: list[_Done]) -> tuple[list[_Done], list[Task]]:
        had_started = self._up is not None and self._up.exception() is None
        self.close()
        returned = list(self.handed.values())
        self.handed.clear()
        if had_started:
            self._false_starts = 0
            return [*done, _Done(task, None, DIED)], returned
        self._false_starts += 1
        if self._false_starts == _STARTS:
            raise BolidError(
                f"a worker process died {_STARTS} times before its first photo; what it printed is above. "
                "Is there enough memory? Fewer processes take less: --workers 1"
            )
        return done, [task, *returned]

    def _started(self) -> WorkerPool:
        if self._pool is None:
            self._pool = WorkerPool(1, _start_worker, (self._stages, self._threads, self._decoders))
            self._up = self._pool.submit(os.getpid)
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_worker: list[Worker] = []


def _start_worker(stages: list[Stage], threads: int, decoders: int) -> None:
    keep_freed_memory()
    _worker[:] = [Worker(stages, threads, decoders)]


def _score(task: Task) -> list[pa.Table]:
    return _worker[0].score(task)

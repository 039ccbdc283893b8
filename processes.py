"""Worker processes that behave: spawned, deaf to Ctrl-C (their parent ends them), and gone when their parent is."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


class WorkerPool(ProcessPoolExecutor):
    """A pool of spawned processes; leaving its block early gives up what has not begun.

    A pool of the standard library leaves its workers waiting for ever when the parent is killed; these end with it.

    Args:
        workers: processes; None means one a core.
        initializer: called once in each worker with `initargs`.
        initargs: arguments of the initializer.
    """

    def __init__(
        self,
        workers: int | None = None,
        initializer: Callable[..., None] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(workers, context, initializer=_start, initargs=(initializer, initargs))

    def __exit__(self, *exception: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

"""The engine for clusters: Ray Data hands tasks to a pool of actors, which read photos and write scores by themselves.

What travels are paths, sha256 sums and the columns that stages need of earlier ones, never pixels. An actor writes the
scores of its task into the ledger before it says that the task is done, so the ledger alone tells what is left: a run
that is killed loses the tasks in flight, and so does a driver. Photos and ledger lie where every node sees them.

Ray runs a task again when its actor dies, without an end. Another actor therefore counts how often each task was
begun: one that was begun before is not begun again with all its photos, but photo by photo after all others; a photo
that kills its actor twice has failed. Ray's own counter cannot be asked (`max_task_retries` ends the whole run).
"""

import contextlib
import logging
import os
import pickle
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO, cast

from ..errors import MissingExtraError, ModelError, UsageError
from . import scores
from .ledger import write_part
from .stage import Stage
from .work import DIED, Item, SetupError, Task, Worker, plan

ADDRESS = "RAY_ADDRESS"
"""Environment variable of Ray: the cluster to use; without it one is started on this machine for the run."""
OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory of a cluster that is started here; what travels is small."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the next behaviour of Ray, which warns until it is chosen
}
_LOCAL_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what is listened on is loopback, on Linux too
    "RAY_AUTH_MODE": "token",
}


def run(
    stages: Sequence[Stage],
    tasks: Sequence[Task],
    ledger: Path,
    workers: int | None,
    owner: str | None,
    advance: Callable[[int], None],
) -> dict[str, str]:
    """Score `tasks` on a Ray cluster and write the results into the ledger; as `engine_local.run`.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: the cluster of `RAY_ADDRESS` does not answer.
        ModelError: a stage cannot be set up.
    """
    with cluster(workers) as ray:
        pool = _Pool(ray, stages, ledger, workers, owner)
        pool.score(tasks, 1, advance)
        left = _left(stages, tasks, ledger)
        errors = pool.score(left, 2, advance)
        return {task.items[0].sha256: errors.get(number, DIED) for number, task in enumerate(left) if number in errors}


def _left(stages: Sequence[Stage], tasks: Sequence[Task], ledger: Path) -> list[Task]:
    """Return what the ledger still lacks of `tasks`, a photo a task."""
    items: list[Item] = [item for task in tasks for item in task.items]
    return plan(items, stages, scores.read(stages, [item.sha256 for item in items], ledger), size=1)


class _Pool:
    """Actors that score tasks, as many as the cluster has cores, or devices where each owns one."""

    def __init__(
        self, ray: ModuleType, stages: Sequence[Stage], ledger: Path, workers: int | None, owner: str | None
    ) -> None:
        self._ray, self._stages, self._ledger, self._owner = ray, list(stages), ledger.absolute(), owner
        on_gpu = owner is not None and owner.startswith("cuda")
        resource = "GPU" if on_gpu else "CPU"
        self._most = workers or max(1, int(ray.cluster_resources().get(resource, 1)))
        self._needs = {"num_cpus": 1, "num_gpus": 1} if on_gpu else {"num_cpus": 1}

    def score(self, tasks: Sequence[Task], begins: int, advance: Callable[[int], None]) -> dict[int, str]:
        """Score tasks, each begun at most `begins` times; return the errors, by the task's number."""
        if not tasks:
            return {}
        ray, data = self._ray, self._ray.data
        begun = _on_this_node(ray, _Begun)
        rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
        least = min(self._most, len(tasks))
        done = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Scorer,
            fn_constructor_args=(self._stages, self._ledger, begun, begins, self._owner is not None),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=least, initial_size=least),
            **self._needs,
        )
        errors = {}
        for row in done.iter_rows():
            number, error = int(row["number"]), str(row["error"])
            if row["setup"]:
                raise ModelError(error)
            if error:
                errors[number] = error
            if not error or begins > 1:
                advance(len(tasks[number].items))
        ray.kill(begun)
        return errors


class _Begun:
    """Counts how often each task was begun, on the driver's node, so that it lives as long as the driver."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}

    def once_more(self, number: int) -> int:
        """Return how often the task was begun, this time included."""
        self._times[number] = self._times.get(number, 0) + 1
        return self._times[number]


class _Scorer:
    """Scores tasks in an actor; see `Worker`."""

    def __init__(self, stages: list[Stage], ledger: Path, begun: Any, begins: int, owns: bool) -> None:  # noqa: ANN401
        cores = (os.cpu_count() or 1) if owns else 0
        self._worker = Worker(stages, threads=max(1, cores), decoders=cores)
        self._stages, self._ledger, self._begun, self._begins = stages, ledger, begun, begins

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Score the task of a batch of one row; the row that comes out says what went wrong, Ray sees no error."""
        import ray

        number = int(batch["number"][0])
        error, setup = "", False
        if ray.get(self._begun.once_more.remote(number)) > self._begins:
            error = DIED
        else:
            try:
                self._score(pickle.loads(batch["task"][0]))
            except SetupError as failure:
                error, setup = str(failure), True
            except Exception as failure:  # whatever a stage raises is the photo's
                error = f"{type(failure).__name__}: {failure}"
        return {"number": [number], "error": [error], "setup": [setup]}

    def _score(self, task: Task) -> None:
        for index, found in zip(task.stages, self._worker.score(task), strict=True):
            write_part(self._ledger, self._stages[index], found)


def _on_this_node(ray: ModuleType, kind: type) -> Any:  # noqa: ANN401 - Ray's actor handle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here).remote()


@contextlib.contextmanager
def cluster(workers: int | None) -> Iterator[ModuleType]:
    """Give Ray, connected to the cluster of `RAY_ADDRESS`, or else to one on this machine that ends with the block.

    A connection that is there already is used as it is.
    """
    address = os.environ.get(ADDRESS)
    settings = _SETTINGS if address else {**_SETTINGS, **_LOCAL_SETTINGS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "ray") from error
    if ray.is_initialized():
        yield ray
        return
    here = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    own: dict[str, Any] = {} if address else here
    try:
        ray.init(address or "local", logging_level=logging.WARNING, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError) as error:
        if not address:
            raise
        raise UsageError(
            f"the Ray cluster of {ADDRESS}={address} cannot be used: {str(error).splitlines()[-1].strip()}; "
            f"start one with: ray start --head, or unset {ADDRESS}"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(cast(TextIO, _OneThread(sys.stdout, sys.stderr))):
        try:
            yield ray
        finally:
            with contextlib.redirect_stdout(sys.stderr):  # here Ray prints what it held back
                ray.shutdown()


class _OneThread:
    """Standard output of this thread; what others print goes to `other`: a thread of Ray prints which workers died."""

    def __init__(self, out: TextIO, other: TextIO) -> None:
        self._out, self._other, self._thread = out, other, threading.get_ident()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a stream
        return getattr(self._out if threading.get_ident() == self._thread else self._other, name)

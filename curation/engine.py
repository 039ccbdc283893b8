"""Maps stages over photos and keeps every result in the ledger, on the processes of this machine or on Ray.

What no part of the ledger holds is computed, in batches; a batch is in the ledger soon after it is done (half a second
with the local engine). A killed run therefore loses the batches in flight and those of the last moment.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import progress
from ..errors import UsageError
from . import engine_local, scores
from .ledger import compact
from .scores import Scores
from .stage import Stage
from .work import BATCH, OWNED_BATCHES, Item, plan

__all__ = ["BATCH", "KINDS", "Item", "Scores", "read_stages", "run_stages"]

KINDS = ("local", "ray")


def run_stages(
    stages: Sequence[Stage],
    items: Sequence[Item],
    ledger: Path,
    workers: int | None = None,
    kind: str = "local",
    owner: str | None = None,
) -> Scores:
    """Score `items` (unique by sha256) with all `stages`, reading from the ledger what it holds.

    Args:
        stages: picklable, not set up; one that needs columns of another comes after it.
        items: photos.
        ledger: folder of all stages' results.
        workers: processes; None = one a core, of this machine or of the cluster.
        kind: the engine, one of `KINDS`; both give the same scores.
        owner: name of the device that one worker has to itself, such as cuda, and whose threads decode ahead of the
            networks: one worker of the local engine, one for each device of the cluster under Ray, unless `workers`
            says how many. None: workers share the cores.

    Raises:
        ModelError: a stage cannot be set up, because its weights do not fit.
        UsageError: an unknown `kind`, or a Ray cluster that cannot be used.
        MissingExtraError: Ray is asked for and not installed.
        WorkspaceError: the ledger cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no engine {kind!r}; engines: {', '.join(KINDS)}")
    missing_file = "the file is missing"
    failed = {item.sha256: missing_file for item in items if not os.path.isfile(item.path)}  # noqa: PTH113 - very many
    scored = scores.read(stages, [item.sha256 for item in items], ledger)
    present = [item for item in items if item.sha256 not in failed]
    tasks = plan(present, stages, scored, BATCH if owner is None else BATCH * OWNED_BATCHES)
    missing = sum(len(task.items) for task in tasks)
    if tasks:
        with progress.bar("curate", total=missing, unit="photos") as bar:
            if kind == "ray":
                from . import engine_ray

                errors = engine_ray.run(stages, tasks, ledger, workers, owner, bar.advance)
            else:
                errors = engine_local.run(stages, tasks, ledger, workers or _local_workers(owner), owner, bar.advance)
        failed |= errors
        for stage in stages:
            compact(ledger, stage)
        scored = scores.read(stages, list(scored.places), ledger)
    computed = missing - sum(item.sha256 in failed for item in present)
    return replace(scored, failed=failed, computed=computed)


def read_stages(stages: Sequence[Stage], items: Sequence[Item], ledger: Path) -> Scores:
    """Read what the ledger holds of `items` and compute nothing; a photo that lacks a stage is in `failed`."""
    found = scores.read(stages, [item.sha256 for item in items], ledger)
    return replace(found, failed={sha256: "not scored yet" for sha256 in found.places if found.lacking(sha256)})


def _local_workers(owner: str | None) -> int:
    return (os.cpu_count() or 1) if owner is None else 1

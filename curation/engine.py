"""Maps stages over photos and keeps every result in the ledger, on the processes of this machine or on Ray.

What no part of the ledger holds is computed, in batches; a batch is in the ledger as soon as it is done. A killed run
therefore loses at most the batches in flight.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from .. import progress
from ..errors import UsageError
from . import engine_local
from .ledger import compact, read_parts
from .stage import Stage
from .work import BATCH, OWNED_BATCHES, Item, plan

__all__ = ["BATCH", "KINDS", "Item", "Scores", "read_stages", "run_stages"]

KINDS = ("local", "ray")


@dataclass
class Scores:
    """Scores of all stages: `table` has the column `sha256` and the columns of every stage, a row a scored photo."""

    table: pa.Table
    failed: dict[str, str] = field(default_factory=dict)
    """sha256 -> error, for photos whose scoring failed; they have no row in `table`."""
    computed: int = 0
    """Photos for which at least one stage was computed now (not read from the ledger)."""


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
        owner: name of the device that one worker has to itself, such as cuda: then there is one worker a device, and
            its threads decode ahead of the networks. None: workers share the cores.

    Raises:
        ModelError: a stage cannot be set up, because its weights do not fit.
        UsageError: an unknown `kind`, or a Ray cluster that cannot be used.
        MissingExtraError: Ray is asked for and not installed.
        WorkspaceError: the ledger cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no engine {kind!r}; engines: {', '.join(KINDS)}")
    tables = [read_parts(ledger, stage) for stage in stages]
    failed = {item.sha256: "the file is missing" for item in items if not Path(item.path).is_file()}
    present = [item for item in items if item.sha256 not in failed]
    tasks = plan(present, stages, tables, BATCH if owner is None else BATCH * OWNED_BATCHES)
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
        tables = [read_parts(ledger, stage) for stage in stages]
    return Scores(_join(tables, items, failed), failed, missing - sum(item.sha256 in failed for item in present))


def read_stages(stages: Sequence[Stage], items: Sequence[Item], ledger: Path) -> Scores:
    """Read what the ledger holds of `items` and compute nothing; a photo that lacks a stage is in `failed`."""
    tables = [read_parts(ledger, stage) for stage in stages]
    known = [set(table["sha256"].to_pylist()) for table in tables]
    failed = {i.sha256: "not scored yet" for i in items if not all(i.sha256 in shas for shas in known)}
    return Scores(_join(tables, items, failed), failed)


def _local_workers(owner: str | None) -> int:
    return (os.cpu_count() or 1) if owner is None else 1


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

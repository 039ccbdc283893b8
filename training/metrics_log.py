"""What a run tells while it trains: a line of `metrics.jsonl` an update, and TensorBoard events."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from .. import atomic
from .run_folder import RunFolder

Row = dict[str, float]


class MetricsLog:
    """Gathers the figures of each update on their device and writes them in groups, so that a GPU need not wait.

    Args:
        run: where to write.
        start: updates already done; lines and events after it, left by a run that was killed, are dropped.
        on: False on all processes but the first.
    """

    def __init__(self, run: RunFolder, start: int, on: bool = True) -> None:
        self._on = on
        self._pending: list[dict[str, Tensor | float]] = []
        if on:
            _truncate(run.metrics, start)
            self._file = run.metrics.open("a", encoding="utf-8", buffering=1)
            self._events = SummaryWriter(run.tensorboard, purge_step=start + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        if self._on:
            self._file.close()
            self._events.close()

    def add(self, row: dict[str, Tensor | float]) -> None:
        """Keep the figures of one update, `step` among them."""
        self._pending.append(row)

    def flush(self) -> Row:
        """Write what is kept; return the mean of each figure over it."""
        rows = [_numbers(row) for row in self._pending]
        self._pending.clear()
        if not rows or not self._on:
            return {}
        self._file.writelines(_line(row) for row in rows)
        means = mean(rows)
        for name, value in means.items():
            if name != "step":
                self._events.add_scalar(f"train/{name}", value, int(rows[-1]["step"]))
        return means

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures measured after update `step`, under `validation`."""
        if self._on and figures:
            self.flush()
            self._file.write(json.dumps({"step": step, "validation": dict(figures)}) + "\n")
            for name, value in figures.items():
                self._events.add_scalar(f"validation/{name}", value, step)


def read(path: Path) -> tuple[list[Row], dict[str, float]]:
    """Return the rows of `metrics.jsonl`, one an update, and the last validation figures."""
    rows: list[Row] = []
    validation: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if "validation" in row:
            validation = row["validation"]
        else:
            rows.append({name: value for name, value in row.items() if value is not None})
    return rows, validation


def validated(path: Path, step: int) -> bool:
    """Say whether `metrics.jsonl` holds figures measured after update `step`."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return any(f'{{"step": {step}, "validation"' in line for line in lines)


def mean(rows: Iterable[Row]) -> Row:
    """Return the mean of each figure over the rows that have it and were not skipped."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        if not row.get("skipped"):
            for name, value in row.items():
                sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _line(row: Row) -> str:
    """Return the row as a line of JSON, which knows no NaN: what is not finite becomes null."""
    return json.dumps({name: value if math.isfinite(value) else None for name, value in row.items()}) + "\n"


def _numbers(row: dict[str, Tensor | float]) -> Row:
    """Move a row's tensors to the host in one transfer."""
    tensors = {name: value for name, value in row.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in row.items() if not isinstance(value, Tensor)}
    if not tensors:
        return numbers
    values = torch.stack([value.detach().float().reshape(()) for value in tensors.values()]).tolist()
    moved = dict(zip(tensors, values, strict=True))
    return {name: moved.get(name, numbers.get(name, 0.0)) for name in row}


def _truncate(path: Path, start: int) -> None:
    """Drop the lines after update `start`, and a last line that a crash left unfinished."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = []
    for line in lines:
        if not line.endswith("\n") or json.loads(line)["step"] > start:
            break
        kept.append(line)
    if len(kept) < len(lines):
        atomic.write_text(path, "".join(kept))

"""What the training runs of a workspace came to, read from their folders; imports no torch."""

import fcntl
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import progress
from ..config import near_match
from ..errors import UsageError
from .adapter_config import AdapterConfig
from .config import RunConfig
from .run_folder import RunFolder, differences
from .vae_config import VaeConfig

State = Literal["running", "finished", "stopped"]
Kind = Literal["vae", "adapter", "unknown"]
Points = list[tuple[int, float]]
"""(step, value), ascending."""

MEASURED = ("lr", "grad_norm", "samples_per_s", "data_wait", "memory_mb", "skipped")
"""Figures of an update that are no loss terms."""
CONFIGS: dict[str, type[RunConfig]] = {"vae": VaeConfig, "adapter": AdapterConfig}
TAIL = 2**16
LAST = 10


@dataclass(frozen=True)
class Run:
    """A run at a glance.

    Attributes:
        name: of its folder.
        kind: what it trains.
        state: `running` where a process holds its lock; `finished` where it has as many updates as it was to have and
            its export; else `stopped`, and --resume continues it.
        steps, planned: updates done and wanted.
        last: mean of each loss term over the last ten updates.
        bytes: size of the folder.
    """

    name: str
    kind: Kind
    state: State
    steps: int
    planned: int
    last: dict[str, float]
    bytes: int


@dataclass
class Curves:
    """Every figure of a run over its updates.

    Attributes:
        training: each figure of the updates; where it was not finite, there is no point.
        validation: each figure of the held-out people.
        skipped: steps whose update was left out.
    """

    training: dict[str, Points] = field(default_factory=dict)
    validation: dict[str, Points] = field(default_factory=dict)
    skipped: list[int] = field(default_factory=list)


def find(runs: Path) -> list[Run]:
    """Return all runs in a folder, by name."""
    folders = sorted(path.parent for path in runs.glob("*/config.toml"))
    return [look(folder) for folder in folders]


def folder_of(runs: Path, name: str) -> Path:
    """Return the folder of a run.

    Raises:
        UsageError: there is no such run; the message names the near match.
    """
    if (runs / name / "config.toml").is_file():
        return runs / name
    known = [path.parent.name for path in sorted(runs.glob("*/config.toml"))]
    raise UsageError(f"there is no run '{name}' in {runs}{near_match(name, known)}; list them with: bolid runs list")


def look(folder: Path) -> Run:
    """Return a run at a glance; of a long run only the end of its metrics is read."""
    run, written = RunFolder(folder), config_of(folder)
    rows = [row for row in _tail(run.metrics) if "validation" not in row]
    steps, planned = int(rows[-1]["step"]) if rows else 0, int(written.get("loop", {}).get("steps", 0))
    terms: dict[str, list[float]] = {}
    for row in rows[-LAST:]:
        for name, value in row.items():
            if name not in (*MEASURED, "step") and value is not None and not row.get("skipped"):
                terms.setdefault(name, []).append(value)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    means = {name: sum(values) / len(values) for name, values in terms.items()}
    return Run(folder.name, kind_of(written), _state(run, steps, planned), steps, planned, means, size)


def config_of(folder: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run."""
    return tomllib.loads(RunFolder(folder).config.read_text(encoding="utf-8"))


def kind_of(written: dict[str, Any]) -> Kind:
    """Say what a run with this configuration trains."""
    if "base" in written:
        return "adapter"
    return "vae" if "view_dropout" in written else "unknown"


def changes(folder: Path) -> list[str]:
    """Return `key: default -> value` for all of a run's configuration that is not the default."""
    written = config_of(folder)
    kind = CONFIGS.get(kind_of(written))
    return differences(kind().model_dump(mode="json", exclude_none=True), written) if kind else []


def curves(folder: Path) -> Curves:
    """Read all figures of a run; a last line that is being written is left out."""
    found, path = Curves(), RunFolder(folder).metrics
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):
            break
        row: dict[str, Any] = json.loads(line)
        step = int(row.pop("step"))
        if "validation" in row:
            _add(found.validation, step, row["validation"])
            continue
        if row.pop("skipped", 0):
            found.skipped.append(step)
        _add(found.training, step, row)
    return found


def newest_grid(folder: Path) -> Path | None:
    """Return the sample grid of the latest step."""
    return max(RunFolder(folder).samples.glob("*.png"), default=None)


def tell_list(found: Sequence[Run]) -> None:
    """Print the runs; without one, what makes one."""
    if not found and not progress.json_lines():
        progress.say("there is no run yet; begin with: bolid train vae")
        return
    rows = [
        (run.name, run.kind, run.state, f"{run.steps}/{run.planned}", _terms(run.last), f"{run.bytes / 1e6:.1f}")
        for run in found
    ]
    columns = ("run", "kind", "state", "steps", "last losses", "MB")
    progress.table("Runs", columns, rows, event="run", words=("kind", "state", "last losses"))


def tell_one(run: Run, changed: Sequence[str], written: Sequence[Path]) -> None:
    """Print a run, what its configuration changes, and where its curves are."""
    if progress.json_lines():
        progress.result("run", **{**asdict(run), "changes": list(changed), "paths": _names(written)})
        return
    hint = "; continue it with --resume" if run.state == "stopped" else ""
    progress.result("run", f"{run.name}: {run.kind}, {run.state} at step {run.steps} of {run.planned}{hint}")
    progress.result("run", "\n".join(["", *changed, ""] if changed else ["", "the configuration is the default", ""]))
    rows = [(name, f"{value:.4g}") for name, value in run.last.items()]
    progress.table("Last updates", ("term", "mean of 10"), rows, event="term")
    progress.result("written", "\n".join(_names(written)))


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]


def _terms(means: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in means.items())


def _add(figures: dict[str, Points], step: int, row: dict[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, int | float) and math.isfinite(value):
            figures.setdefault(name, []).append((step, float(value)))


def _state(run: RunFolder, steps: int, planned: int) -> State:
    if _locked(run.root / ".lock"):
        return "running"
    return "finished" if steps >= planned > 0 and run.export.is_dir() else "stopped"


def _locked(path: Path) -> bool:
    """Say whether a process holds the lock; it is looked at and left as it is."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _tail(path: Path) -> list[dict[str, Any]]:
    """Return the last whole lines of a file of JSON lines."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        begin = max(0, path.stat().st_size - TAIL)
        file.seek(begin)
        lines = file.read().split(b"\n")[1 if begin else 0 : -1]
    return [json.loads(line) for line in lines]

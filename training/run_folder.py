"""The folder of one run: what lies where, who may write in it, and whether it may be continued."""

import contextlib
import json
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import atomic, progress
from ..config import write_config
from ..errors import TrainingError
from .config import FREE_ON_RESUME, FREE_TABLES, RunConfig


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.toml"

    @property
    def inputs(self) -> Path:
        """Hashes of what the run reads."""
        return self.root / "inputs.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-N/` folders."""
        return self.root / "checkpoints"

    @property
    def export(self) -> Path:
        """Weights for use elsewhere, written when the run has ended."""
        return self.root / "export"

    @property
    def samples(self) -> Path:
        """Sample grids."""
        return self.root / "samples"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard events."""
        return self.root / "tensorboard"

    @property
    def metrics(self) -> Path:
        """One JSON object an update."""
        return self.root / "metrics.jsonl"


@contextlib.contextmanager
def opened(root: Path, config: RunConfig, resume: bool, inputs: Mapping[str, str] | None = None) -> Iterator[RunFolder]:
    """Hold the run's lock for the block, with its configuration and the hashes of its inputs written down.

    Raises:
        TrainingError: the run exists and `resume` is off, or the reverse, or its configuration or inputs differ.
        WorkspaceError: another process trains in this folder, or it cannot be written.
    """
    run = RunFolder(root)
    # A run that failed before its first update left nothing worth keeping, and its name stays free.
    exists = run.config.exists() and (
        run.checkpoints.exists() or (run.metrics.exists() and run.metrics.stat().st_size > 0)
    )
    if exists and not resume:
        raise TrainingError(f"the run {root} exists; choose another name with --run NAME or continue it with --resume")
    if resume and not exists:
        raise TrainingError(f"there is no run {root} to continue; check the name, or leave out --resume")
    with atomic.locked(root / ".lock", f"the run {root}"):
        if resume:
            _require_same_config(run, config)
            _require_same_inputs(run, inputs or {})
        write_config(run.config, config)
        atomic.write_text(run.inputs, json.dumps(dict(inputs or {}), indent=1, sort_keys=True))
        yield run


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success its files are synced and it takes the name `folder`."""
    with atomic.storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=atomic.TEMPORARY_SUFFIX, dir=folder.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(0o644)  # some writers make files for their owner alone
                    atomic.sync_file(file)
            atomic.sync_folder(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
            atomic.sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return a line `key: old -> new` for every value that differs between two nested tables."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {before!r} -> {after!r}")
    return lines


def _require_same_inputs(run: RunFolder, inputs: Mapping[str, str]) -> None:
    """Compare with the hashes of the inputs on disk."""
    written = json.loads(run.inputs.read_text(encoding="utf-8")) if run.inputs.exists() else {}
    changed = differences(written, dict(inputs))
    if written and changed:
        raise TrainingError(
            f"the run {run.root} was trained on other inputs ({'; '.join(changed)}); give the same shards and body "
            "encoder, or begin another run with --run NAME"
        )


def _require_same_config(run: RunFolder, config: RunConfig) -> None:
    """Compare with the configuration on disk, leaving out what does not change the losses."""
    written = _with_defaults(type(config), tomllib.loads(run.config.read_text(encoding="utf-8")))
    wanted = config.model_dump(mode="json", exclude_none=True)
    free = {f"loop.{key}" for key in FREE_ON_RESUME}
    if config.loop.schedule == "constant":
        free.add("loop.steps")  # with a decaying learning rate the length changes every step
    changed = differences(written, wanted)
    names = {line: line.partition(":")[0] for line in changed}
    refused = [line for line in changed if names[line] not in free and not names[line].startswith(FREE_TABLES)]
    if refused:
        raise TrainingError(
            f"{run.root} was trained with another configuration; set these back or choose another --run NAME:\n  "
            + "\n  ".join(refused)
        )
    for line in changed:
        progress.say(f"changed on resume: {line}")


def _with_defaults(kind: type[RunConfig], written: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration on disk with the keys that a later version has added, as they were before it."""
    try:
        return kind.model_validate({**kind.BEFORE, **written}).model_dump(mode="json", exclude_none=True)
    except ValidationError:
        return written

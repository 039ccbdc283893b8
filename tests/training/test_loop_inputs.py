"""A run continues with the inputs it was begun with, owes no grid, and blocks no name when it never began."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from bolid.errors import TrainingError
from bolid.training.loop import train


def _load() -> ModuleType:
    path = Path(__file__).with_name("loop_task.py")
    spec = importlib.util.spec_from_file_location("loop_task_inputs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["loop_task_inputs"] = module
    spec.loader.exec_module(module)
    return module


loop_task = _load()


def go(folder: Path, resume: bool = False, inputs: dict[str, str] | None = None, points=loop_task.points, **changes):
    return train(loop_task.LineTask(), points, folder, loop_task.config(**changes), resume, inputs)


def test_a_run_does_not_continue_on_other_inputs(tmp_path: Path):
    go(tmp_path / "r", inputs={"index_hash": "a"}, steps=4)
    with pytest.raises(TrainingError, match="index_hash: 'a' -> 'b'"):
        go(tmp_path / "r", resume=True, inputs={"index_hash": "b"}, steps=8)
    assert go(tmp_path / "r", resume=True, inputs={"index_hash": "a"}, steps=8).steps == 8


def test_a_run_killed_before_its_last_grid_makes_it_on_resume(tmp_path: Path):
    whole = go(tmp_path / "r")
    metrics = tmp_path / "r" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    assert '"validation"' in lines[-1]
    metrics.write_text("".join(lines[:-1]))  # as a kill between checkpoint and grid leaves it
    assert go(tmp_path / "r", resume=True).validation == whole.validation == {"figure": 12.0}
    assert go(tmp_path / "r", resume=True).validation == whole.validation
    assert metrics.read_text().splitlines(keepends=True) == lines


def test_a_run_that_failed_before_its_first_update_leaves_its_name_free(tmp_path: Path):
    def broken(start: int, rank: int, world_size: int):
        raise TrainingError("no batch")

    with pytest.raises(TrainingError, match="no batch"):
        go(tmp_path / "r", points=broken)
    assert go(tmp_path / "r", steps=4).steps == 4

"""The tiny world of tests/generation, with packed shards."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).parents[1] / "generation" / "tiny_world.py"
_spec = importlib.util.spec_from_file_location("tiny_world", _PATH)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def tiny_world() -> ModuleType:
    return _module


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = _module.shards(tmp_path_factory.mktemp("evaluation"))
    return folder


@pytest.fixture(scope="session")
def tiny_body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = _module.body_run(tmp_path_factory.mktemp("body"))
    return folder

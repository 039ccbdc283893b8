"""Checkpoints that hold every trained tensor, or are refused.

`accelerator.save_state` drops tensors that two modules share (adapter modules inside attention processors, for one:
the file then loads empty), so what is trained is listed here, written here, and counted here on the way out and in.

A checkpoint is a folder `step-N/`: `model.safetensors`, `ema.safetensors`, `optimizer.pt`, and `state.json`, the
census, written last. Random states need no storing: they are a function of (seed, step, rank), `trainer.seed_step`.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import atomic
from ..errors import TrainingError
from .ema import Average
from .run_folder import replacing_folder

Census = dict[str, list[Any]]  # name -> [dtype, shape]

# How safetensors calls the types that torch knows.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"} | {
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Progress:
    """How far a run is: updates done, updates skipped as not finite, and how many of those in a row."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


def trained_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return every parameter that requires a gradient, and every persistent buffer, named `module.path`.

    A tensor with two names is returned under both.

    Raises:
        TrainingError: nothing requires a gradient.
    """
    found: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        parameters = module.named_parameters(remove_duplicate=False)
        found |= {f"{prefix}.{name}": tensor for name, tensor in parameters if tensor.requires_grad}
        persistent = module.state_dict().keys()
        buffers = module.named_buffers(remove_duplicate=False)
        found |= {f"{prefix}.{name}": tensor for name, tensor in buffers if name in persistent}
    if not any(tensor.requires_grad for tensor in found.values()):
        raise TrainingError(
            "the task names no tensor that requires a gradient; call requires_grad_(True) on its modules"
        )
    return found


def census(tensors: Mapping[str, Tensor]) -> Census:
    """Return name -> [dtype, shape] of every tensor."""
    return {name: [_dtype(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(tensors.items())}


def save(
    folder: Path, progress: Progress, tensors: Mapping[str, Tensor], average: Average, optimizer: torch.optim.Optimizer
) -> Path:
    """Write `folder/step-N`, whole or not at all, and return it.

    Raises:
        TrainingError: a tensor did not reach the file, or the optimizer holds one that is not in `tensors`.
        WorkspaceError: the folder cannot be written.
    """
    path = folder / f"step-{progress.step}"
    with replacing_folder(path) as temporary:
        for name, content in (("model", tensors), ("ema", average.tensors)):
            _save_tensors(temporary / f"{name}.safetensors", content)
        torch.save(_named_optimizer_state(optimizer, tensors), temporary / "optimizer.pt")
        state = {"progress": asdict(progress), "census": census(tensors), "torch": torch.__version__}
        atomic.write_text(temporary / "state.json", json.dumps(state, indent=1))
    return path


def load(path: Path, tensors: Mapping[str, Tensor], average: Average, optimizer: torch.optim.Optimizer) -> Progress:
    """Put the checkpoint `path` into the live tensors, the average and the optimizer.

    Raises:
        TrainingError: the checkpoint is not whole, or holds other tensors than the task trains.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        _require_equal(f"{path}/state.json", census(tensors), state["census"])
        _load_tensors(path / "model.safetensors", tensors)
        _load_tensors(path / "ema.safetensors", average.tensors)
        stored = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read ({error}); delete this folder and resume from the one before it"
        ) from error
    _load_optimizer(path, optimizer, stored, tensors)
    return Progress(**state["progress"])


def steps(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def rotate(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what an interrupted save left behind."""
    for path in [*steps(folder)[:-keep], *folder.glob(f".step-*{atomic.TEMPORARY_SUFFIX}")]:
        shutil.rmtree(path)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Each tensor is copied: safetensors refuses tensors that share memory, and those must not be lost.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    _require_equal(str(path), census(tensors), _census_of_file(path))


@torch.no_grad()
def _load_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    _require_equal(str(path), census(tensors), _census_of_file(path))
    with safe_open(path, framework="pt") as file:
        for name, tensor in tensors.items():
            tensor.copy_(file.get_tensor(name))


def _census_of_file(path: Path) -> Census:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            return {name: [_DTYPES[part.get_dtype()], list(part.get_shape())] for name, part in slices.items()}
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({error}); resume from the checkpoint before it") from error


def _require_equal(source: str, live: Census, stored: Census) -> None:
    missing, foreign = sorted(live.keys() - stored.keys()), sorted(stored.keys() - live.keys())
    changed = [
        f"{name} {stored[name]} -> {live[name]}" for name in live.keys() & stored.keys() if live[name] != stored[name]
    ]
    lines = [
        f"{len(names)} {what}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        for what, names in (("missing", missing), ("not trained here", foreign), ("of another form", sorted(changed)))
        if names
    ]
    if lines:
        raise TrainingError(
            f"{source} does not hold the tensors that this run trains: {'; '.join(lines)}. "
            "Train with the code and configuration that wrote it, or begin a new run with --run NAME"
        )


def _names(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the name of each parameter of the optimizer in its own order."""
    known = {id(tensor): name for name, tensor in tensors.items()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nameless = [tuple(parameter.shape) for parameter in held if id(parameter) not in known]
    if nameless:
        raise TrainingError(f"the optimizer holds tensors that no checkpoint would contain, of shapes {nameless[:5]}")
    return [known[id(parameter)] for parameter in held]


def _named_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"names": _names(optimizer, tensors), "state": optimizer.state_dict()}


def _load_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, stored: dict[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    if stored["names"] != _names(optimizer, tensors):
        raise TrainingError(f"{path}/optimizer.pt belongs to other tensors than this run trains; begin a new run")
    optimizer.load_state_dict(stored["state"])


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Which networks the stages use: those that were asked for, the usual ones where they are here, or none, and why."""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import MissingExtraError, ModelError
from ..models import registry
from ..models.download import file_sha256

Part = Literal["pose", "face", "caption"]

NONE = "none"
USUAL: dict[Part, str] = {"pose": "yolo11x-pose", "face": "buffalo_l", "caption": "blip2-flan-t5-xl"}
"""What is used when nothing was asked for and the files are here."""
PACKAGES: dict[Part, tuple[str, ...]] = {
    "pose": ("ultralytics",),
    "face": ("insightface", "onnxruntime"),
    "caption": ("torch", "transformers"),
}
"""What must be installed."""
EXTRAS: dict[Part, str] = {"pose": "pose", "face": "face", "caption": "train"}
"""The extra of bolid that brings it."""
_HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class Network:
    """A network as a stage uses it: its name in tables, its files and their digest, and its own thresholds."""

    name: str
    path: str
    weights_sha256: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    image_size: int | None = None
    """Side in pixels that photos are fitted into; None leaves it to the network."""


@dataclass(frozen=True)
class Absence:
    """Why a part is not run, and the command that changes it."""

    part: Part
    why: str


def choose(part: Part, asked: str | None) -> Network | Absence:
    """Return the network of a part.

    Args:
        part: pose, face or caption.
        asked: name of a network, path of its files, `none`, or None for the usual one if it is here.

    Raises:
        UsageError: `asked` is neither the name of a network nor a path.
        ModelError: the network that was asked for is not here, or is for another task.
        MissingExtraError: the packages that it needs are not installed.
    """
    if asked == NONE:
        return Absence(part, f"--{part} none was given")
    missing = next((name for name in PACKAGES[part] if importlib.util.find_spec(name) is None), None)
    if asked is not None:
        if missing:
            raise MissingExtraError(missing, EXTRAS[part])
        return _network(part, asked, registry.resolve(asked))
    if missing:
        return Absence(part, str(MissingExtraError(missing, EXTRAS[part])))
    try:
        return _network(part, USUAL[part], registry.resolve(registry.local(USUAL[part])))
    except ModelError as error:
        return Absence(part, str(error))


def _network(part: Part, asked: str, found: registry.Resolved) -> Network:
    entry = found.entry
    if entry is not None and entry.task != part:
        raise ModelError(f"{entry.name} is a network for {entry.task}, not for {part}; see: bolid models list")
    thresholds = {name: each.value for name, each in entry.thresholds.items()} if entry else {}
    size = entry.hints.get("image_size" if part == "pose" else "det_size") if entry else None
    name = entry.name if entry else Path(asked).name
    return Network(name, str(found.path), digest(found.path), thresholds, None if size is None else int(size))


def digest(path: Path) -> str:
    """Return the sha256 of a file, or of the sums of the networks' files in a folder, whatever they are called.

    The files are the ONNX files; in a folder without any, those of a model of the hub, and where they were pulled and
    have kept their sizes, their sums are those of the pull.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        if path.is_file():
            return file_sha256(path)
        sums = sorted(file_sha256(file) for file in path.glob("*.onnx")) or sorted(_hub_sums(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _hub_sums(folder: Path) -> Iterator[str]:
    record = registry.read_record(folder / registry.RECORD)
    pulled = record.files if record is not None else {}
    for file in (file for pattern in _HUB_FILES for file in folder.glob(pattern) if file.name != registry.RECORD):
        known = pulled.get(file.name)
        # 15 GB are not read again each time; `bolid models verify` does that.
        if known is not None and known.sha256 is not None and known.bytes == file.stat().st_size:
            yield known.sha256
        else:
            yield file_sha256(file)

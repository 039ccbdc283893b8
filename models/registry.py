"""The networks by name: what is known of each, and where its files lie on this machine.

Nothing is fetched here: a network that is not here is an error that says which command fetches it.

    $BOLID_MODELS, else $XDG_CACHE_HOME/bolid/models, else ~/.cache/bolid/models
    └── <name>/
        ├── the files
        └── bolid-files.json      sizes and sums of the files; written last: without it the pull is not complete
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError
from .catalogue import ENTRIES, Entry, File, Hub, Packaged, Threshold

ENVIRONMENT = "BOLID_MODELS"
RECORD = "bolid-files.json"
PACKAGE = Path(__file__).parent.parent

_BY_NAME = {entry.name: entry for entry in ENTRIES}
_BY_REPOSITORY = {
    entry.source.repo: entry.name
    for entry in reversed(ENTRIES)
    if isinstance(entry.source, Hub) and entry.task != "base-unet"
}


@dataclass(frozen=True)
class Resolved:
    """Files of a network.

    Attributes:
        path: file or folder, as its loader takes it.
        entry: what the registry knows of it; None for files of the user's own.
    """

    path: Path
    entry: Entry | None


@dataclass(frozen=True)
class Record:
    """What was pulled: where from, and the files with their sums, by path below the network's folder."""

    source: str
    licence: str
    pulled_at: str
    files: Mapping[str, File]


def names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return tuple(_BY_NAME)


def find(name: str) -> Entry | None:
    """Return what is known of a network by its name or that of its repository on the hub, None where it is no network.

    Thresholds of packaged networks are those measured when they were trained.
    """
    found = _BY_NAME.get(_BY_REPOSITORY.get(name, name))
    if found is None or not found.figures:
        return found
    return replace(found, thresholds={**found.thresholds, **_measured(found)})


def entry(name: str) -> Entry:
    """Return what is known of a network, as `find` does.

    Raises:
        UsageError: there is no such network; the message lists near names.
    """
    found = find(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see: bolid models list"
        raise UsageError(f"no network is called '{name}'; {hint}")
    return found


def root() -> Path:
    """Return the folder of the pulled networks."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bolid" / "models"


def folder(network: Entry) -> Path:
    """Return the folder of a network's files, whether they are there or not."""
    if isinstance(network.source, Packaged):
        return PACKAGE / network.source.folder
    return root() / network.name


def place(network: Entry) -> Path:
    """Return what a loader is given, whether it is there or not: the file where the network is one, else its folder."""
    alone = len(network.files) == 1 and not (isinstance(network.source, Hub) and network.source.patterns)
    return folder(network) / network.files[0].path if alone else folder(network)


def local(name: str) -> Path:
    """Return file or folder of a network on this machine.

    Sizes are compared with those of the pull; sums are `bolid models verify`'s.

    Raises:
        UsageError: there is no such network.
        ModelError: it is not here, not whole or of another revision; the message says what to run.
    """
    network = entry(name)
    problem = absence(network)
    if problem is not None:
        advice = _training_of(network) if isinstance(network.source, Packaged) else f"bolid models pull {network.name}"
        raise ModelError(f"{problem}; run: {advice}")
    return place(network)


def absence(network: Entry) -> str | None:
    """Say why a network cannot be used from this machine, None where it can."""
    where = folder(network)
    if isinstance(network.source, Packaged):
        there = all((where / file.path).is_file() for file in network.files)
        return None if there else f"{network.name} is not in this installation of bolid ({where})"
    try:
        record = read_record(where / RECORD)
    except ModelError as error:
        return str(error)
    if record is None:
        return f"{network.name} is not here ({where})"
    if record.source != str(network.source):
        return f"{where} holds {record.source}, but {network.name} is {network.source}"
    for path, file in record.files.items():
        if not (where / path).is_file():
            return f"{where / path} is missing"
        if (where / path).stat().st_size != file.bytes:
            return f"{where / path} is damaged (it has not the size that was pulled)"
    return None


def resolve(name_or_path: str | Path) -> Resolved:
    """Return the files that an option names: those of a network, or any existing file or folder.

    A network's name comes first; write ./NAME for a folder that is called like one.

    Raises:
        UsageError: neither a network nor an existing path.
        ModelError: the network is not here; the message says what to run.
    """
    name = str(name_or_path)
    network = find(name)
    if network is not None:
        return Resolved(local(name), network)
    path = Path(name_or_path).expanduser()
    if path.exists():
        owners = [each for each in ENTRIES if path.resolve() in (place(each).resolve(), folder(each).resolve())]
        return Resolved(path, entry(owners[0].name) if owners else None)
    if os.sep in name:
        raise UsageError(f"{name} does not exist; give a file, a folder or a name of: bolid models list")
    return Resolved(local(name), entry(name))  # which says that there is no such network


def read_record(file: Path) -> Record | None:
    """Return what a `bolid-files.json` says, None where there is none.

    Raises:
        ModelError: it is damaged.
    """
    try:
        return parse_record(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ModelError(f"{file} is damaged and must be deleted ({error})") from error


def parse_record(text: str) -> Record:
    """Read the text of a `bolid-files.json`.

    Raises:
        ValueError: it is not one, or it names a file outside the network's folder.
    """
    try:
        read = json.loads(text)
        files = {path: File(path, str(of["sha256"]), int(of["bytes"])) for path, of in read["files"].items()}
        record = Record(str(read["source"]), str(read["licence"]), str(read["pulled_at"]), files)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of files: {error!r}") from error
    for path in files:
        if not is_inside(path):
            raise ValueError(f"'{path}' is not a path below the folder")
    return record


def is_inside(path: str) -> bool:
    """Say whether a path, as an archive or a list of files writes it, stays below the folder it is put in."""
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in path or ":" in parts[0] or "\0" in path)


def _measured(network: Entry) -> dict[str, Threshold]:
    try:
        figures: dict[str, Any] = json.loads((folder(network) / "figures.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: Threshold(float(figures[key]), at) for name, (key, at) in network.figures.items() if key in figures}


def _training_of(network: Entry) -> str:
    part = network.name.split("-")[1]
    return f"python -m bolid.demo.train {part}"

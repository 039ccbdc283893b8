"""`bolid models pull` and `verify`: the files of a network onto this machine, and whether they are what was pulled.

A pull can be killed at any moment and run again: files get their names when they are whole, and `bolid-files.json`,
without which the network is not there, is written last. Two pulls of one network exclude each other.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import atomic, progress
from ..errors import ModelError
from . import hub, licences, mirrors, packs, registry
from .catalogue import Entry, File, Hub, Packaged, Release
from .download import MEGABYTE, checked, download, is_whole, measured
from .registry import RECORD, Record


@dataclass(frozen=True)
class Pulled:
    """A network that is now here; `state` is pulled, here (it was already) or packaged."""

    name: str
    path: Path
    state: str
    bytes: int


@dataclass(frozen=True)
class Verified:
    """What the files of a network were found to be; `state` is whole, damaged, or part of bolid (present, no sums)."""

    name: str
    state: str
    files: int
    bytes: int
    problems: Sequence[str]


def pull(names: Sequence[str], accept: bool = False, allowed: Collection[str] | None = None) -> list[Pulled]:
    """Fetch networks; what is here and whole is not fetched again.

    Args:
        names: of the networks.
        accept: their licences are accepted.
        allowed: names of the licences that are, all others are refused.

    Raises:
        UsageError: no such network or licence.
        PolicyError: a licence is not allowed; nothing was fetched.
        FetchError: a source refuses, is not reached or sends other bytes than it should.
        WorkspaceError: another process pulls the same network, or the disk is full or cannot be written.
    """
    networks = [registry.entry(name) for name in names]
    for network in networks:
        if not isinstance(network.source, Packaged):
            licences.require(network, accept, allowed)
    return [_pull(network) for network in networks]


def verify(names: Sequence[str] = ()) -> list[Verified]:
    """Read the files of networks and compare them with the sums of the pull and of the registry.

    Args:
        names: of the networks; none means all that are here.

    Raises:
        UsageError: no such network.
        ModelError: a named network is not here.
    """
    networks = [registry.entry(name) for name in names or registry.names()]
    here = [network for network in networks if names or _is_here(network)]
    return [_verify(network) for network in here]


def _is_here(network: Entry) -> bool:
    where = registry.folder(network)
    return registry.absence(network) is None if isinstance(network.source, Packaged) else (where / RECORD).exists()


def _pull(network: Entry) -> Pulled:
    if isinstance(network.source, Packaged):
        return Pulled(network.name, registry.local(network.name), "packaged", 0)
    folder, known = registry.folder(network), _known(network)
    with atomic.locked(registry.root() / ".locks" / f"{network.name}.lock", f"the pull of {network.name}"):
        record = registry.read_record(folder / RECORD)
        current = record if record is not None and record.source == str(network.source) else None
        if current is not None:
            bad = _problems(network, folder, current)
            if not bad:
                return Pulled(network.name, registry.place(network), "here", _total(current.files.values()))
            progress.say(f"{network.name}: fetched again: {', '.join(bad)}")
            for path in bad:
                (folder / path).unlink(missing_ok=True)
            known |= {path: _joined(known.get(path), file) for path, file in current.files.items()}
        with atomic.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = _fetch(network, folder, known)
        _write_record(network, folder, files)
    return Pulled(network.name, registry.place(network), "pulled", _total(files.values()))


def _fetch(network: Entry, folder: Path, known: Mapping[str, File]) -> dict[str, File]:
    """Bring the files of a network into `folder`; returns them with their sums."""
    mirror = os.environ.get(mirrors.ENVIRONMENT)
    source = network.source
    if mirror:
        return mirrors.fetch(network, mirror, folder, known)
    if isinstance(source, Hub):
        return hub.fetch(network, source, folder, known)
    assert isinstance(source, Release)
    if source.archive is None:
        want = known[network.files[0].path]
        target = folder / want.path
        return {
            want.path: measured(target, want.path) if is_whole(target, want) else download(source.url, target, want)
        }
    archive = folder / source.archive.path
    if not is_whole(archive, source.archive):
        download(source.url, archive, source.archive)
    packs.unpack(archive, folder, network.files)
    files = checked(folder, [file.path for file in network.files], known)
    archive.unlink()
    return files


def _known(network: Entry) -> dict[str, File]:
    return {file.path: file for file in network.files}


def _joined(known: File | None, recorded: File) -> File:
    """Return what is expected of a file: the registry's word first, then that of the first pull."""
    return recorded if known is None or known.sha256 is None else known


def _problems(network: Entry, folder: Path, record: Record) -> dict[str, str]:
    """Return what is wrong with the files of a network, by path; reads every byte."""
    found = {}
    with progress.bar(f"verify {network.name}", round(_total(record.files.values()) / MEGABYTE, 1), "MB") as bar:
        for path, file in record.files.items():
            if not (folder / path).is_file():
                found[path] = "is missing"
            elif not is_whole(folder / path, file):
                found[path] = "is damaged"
            bar.advance(round((file.bytes or 0) / MEGABYTE, 1))
    for path, file in _known(network).items():
        if path not in record.files or file.sha256 not in (None, record.files[path].sha256):
            found.setdefault(path, "is not the file that the registry names")
    return found


def _verify(network: Entry) -> Verified:
    folder = registry.folder(network)
    if isinstance(network.source, Packaged):
        registry.local(network.name)
        present = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in present)
        return Verified(network.name, "part of bolid", len(present), size, ())
    record = registry.read_record(folder / RECORD)
    if record is None:
        raise ModelError(f"{registry.absence(network)}; run: bolid models pull {network.name}")
    if record.source == str(network.source):
        problems = [f"{folder / path} {what}" for path, what in _problems(network, folder, record).items()]
    else:
        problems = [f"{folder} holds {record.source}, the registry names {network.source}"]
    state = "damaged" if problems else "whole"
    return Verified(network.name, state, len(record.files), _total(record.files.values()), problems)


def _write_record(network: Entry, folder: Path, files: Mapping[str, File]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(str(network.source), network.licence.name, now, files)
    text = {
        "name": network.name,
        "source": record.source,
        "licence": record.licence,
        "pulled_at": record.pulled_at,
        "files": {path: {"bytes": file.bytes, "sha256": file.sha256} for path, file in sorted(files.items())},
    }
    atomic.write_text(folder / RECORD, json.dumps(text, indent=2) + "\n")


def _total(files: Iterable[File]) -> int:
    return sum(file.bytes or 0 for file in files)

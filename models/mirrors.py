"""Networks from a mirror instead of the internet: a folder, or an address that serves one.

    $BOLID_MIRROR/<name>/bolid-files.json     and the files it lists: a copy of another machine's folder of networks
    $BOLID_MIRROR/<name>/<file>               or the files alone: what the release or the repository holds, zips as zips

With a mirror set nothing else is asked.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import requests

from .. import atomic
from ..errors import FetchError
from . import hub, packs
from .catalogue import Entry, File, Hub, Release
from .download import TIMEOUT_S, checked, copy, download, is_whole, measured
from .registry import RECORD, Record, parse_record

ENVIRONMENT = "BOLID_MIRROR"


def fetch(network: Entry, mirror: str, folder: Path, known: Mapping[str, File]) -> dict[str, File]:
    """Bring the files of a network from a mirror into `folder`; those that are there and whole are left.

    Args:
        network: what is fetched.
        mirror: folder, or address with http or https.
        folder: where the files go.
        known: sums and sizes where known; they outrank the mirror's.

    Returns:
        The files with their sums, by path.

    Raises:
        FetchError: the mirror lacks the network or a file of it, or holds other bytes than are known.
        WorkspaceError: the disk is full or cannot be written.
    """
    place = f"{mirror.rstrip('/')}/{network.name}"
    record = _record(place)
    if record is not None:
        if record.source != str(network.source):
            raise FetchError(f"{place} holds {record.source}, but {network.name} is {network.source}; renew the mirror")
        wanted = [_agreed(place, file, known.get(path)) for path, file in record.files.items()]
    elif isinstance(network.source, Release) and network.source.archive is not None:
        return _pack(network, place, folder, known)
    else:
        wanted = [known.get(path, File(path)) for path in _listed(network, place)]
    return {file.path: _one(place, file, folder) for file in wanted}


def _record(place: str) -> Record | None:
    """Return the mirror's list of files, None where it has none."""
    address = f"{place}/{RECORD}"
    try:
        if not _is_address(place):
            file = Path(address).expanduser()
            return parse_record(file.read_text(encoding="utf-8")) if file.exists() else None
        answer = requests.get(address, timeout=TIMEOUT_S)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return parse_record(answer.text)
    except requests.RequestException as error:
        raise FetchError(f"the mirror does not answer: {error}; correct or unset BOLID_MIRROR") from error
    except ValueError as error:
        raise FetchError(f"{address} is damaged ({error}); renew the mirror") from error


def _listed(network: Entry, place: str) -> list[str]:
    """Return the paths of a network's files where the mirror has no list of them."""
    source = network.source
    if not isinstance(source, Hub) or not source.patterns:
        return [file.path for file in network.files]
    if _is_address(place):
        raise FetchError(
            f"{place}/{RECORD} does not exist, and which files {network.name} has is not known without it; "
            "serve a copy of a folder that bolid models pull made"
        )
    where = Path(place).expanduser()
    if lacking := hub.missing(network, source, where):
        raise FetchError(f"the mirror has no {where / lacking[0]}; put it there, or unset BOLID_MIRROR")
    return hub.chosen(network, source, where)


def _agreed(place: str, listed: File, known: File | None) -> File:
    if known is None or known.sha256 in (None, listed.sha256):
        return listed
    raise FetchError(f"{place}/{listed.path} has sha256 {listed.sha256}, expected {known.sha256}; renew the mirror")


def _pack(network: Entry, place: str, folder: Path, known: Mapping[str, File]) -> dict[str, File]:
    assert isinstance(network.source, Release)
    archive = network.source.archive
    assert archive is not None
    _one(place, archive, folder)
    packs.unpack(folder / archive.path, folder, network.files)
    files = checked(folder, [file.path for file in network.files], known)
    (folder / archive.path).unlink()
    return files


def _one(place: str, want: File, folder: Path) -> File:
    target = folder / want.path
    with atomic.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if is_whole(target, want):
        return measured(target, want.path)
    if _is_address(place):
        return download(f"{place}/{quote(want.path)}", target, want)
    return copy(Path(place).expanduser() / want.path, target, want)


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))

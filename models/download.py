"""A file to the disk: goes on where it was cut, is hashed while it comes, and gets its name only when it is whole.

What came so far lies in `<name>.part`; `<name>.part.json` holds the address and the validator (ETag or Last-Modified)
that lets the server say whether the rest still belongs to it (RFC 9110, 13.1.5 If-Range).
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from .. import __version__, atomic, progress
from ..errors import FetchError
from .catalogue import File

CHUNK = 1 << 20
PIECE = 1 << 16
"""Bytes read at once from the network; so many at most are lost when it is cut."""
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
TRIES = 4
"""Tries in a row that bring nothing; a try that brings anything counts anew."""
PAUSE_S = 1.0
"""Before the second try; doubles with each further one."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP states that another try may mend."""
MEGABYTE = 1e6


class _Cut(Exception):
    """The answer ended early or never came; another try may go on from there."""


class _Meter:
    """A bar that is told where the work is, which may be back at the beginning."""

    def __init__(self, bar: progress.Bar) -> None:
        self.bar = bar
        self._at = 0.0

    def at(self, position: int) -> None:
        """Show `position` bytes as done."""
        before, self._at = self._at, _megabytes(position)
        self.bar.advance(self._at - before)

    def total(self, size: int) -> None:
        """Show that `size` bytes are to come in all."""
        self.bar.total(_megabytes(size))


@dataclass(frozen=True)
class _Part:
    """What came so far."""

    file: Path
    note: Path

    @classmethod
    def of(cls, target: Path) -> "_Part":
        file = target.with_name(f"{target.name}.part")
        return cls(file, file.with_name(f"{file.name}.json"))

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def validator(self, url: str) -> str | None:
        """Return the validator of the bytes that are here, None where they are of another address."""
        try:
            note: Any = json.loads(self.note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url"] == url and note["validator"] else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def begin(self, url: str, validator: str | None) -> None:
        """Empty the part, then note whose bytes it will hold: never the other way round."""
        with atomic.storage_errors(self.file):
            self.file.open("wb").close()
        atomic.write_text(self.note, json.dumps({"url": url, "validator": validator}))

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        with atomic.storage_errors(target):
            atomic.sync_file(self.file)
            self.file.replace(target)
            atomic.sync_folder(target.parent)
        self.note.unlink(missing_ok=True)


def download(url: str, target: Path, want: File, headers: Mapping[str, str] | None = None) -> File:
    """Fetch `url` to `target`, going on from what an earlier call, killed or cut, brought.

    Args:
        url: http or https; redirects are followed, but never from https to http.
        target: its folder exists.
        want: sha256 and size in bytes, where known.
        headers: of every request; Authorization is not passed on to other hosts.

    Returns:
        The file with its sha256 and size.

    Raises:
        FetchError: the server refuses, is not reached, or sends other bytes than `want` says.
        WorkspaceError: the disk is full or cannot be written; what came is kept.
    """
    part = _Part.of(target)
    total = None if want.bytes is None else _megabytes(want.bytes)
    with requests.Session() as session, progress.bar(target.name, total, "MB") as bar:
        session.headers.update({"User-Agent": f"bolid/{__version__}", **(headers or {}), "Accept-Encoding": "identity"})
        meter = _Meter(bar)
        for anew in (False, True):
            came, resumed = _persist(session, url, part, want, meter)
            if want.sha256 in (None, came.sha256):
                part.finish(target)
                return File(want.path, came.sha256, came.bytes)
            part.discard()
            # Bytes of two versions of a file may have been joined; a second, unbroken try tells.
            if anew or not resumed:
                break
    raise FetchError(f"{url} has sha256 {came.sha256}, expected {want.sha256}; nothing of it was kept")


def copy(source: Path, target: Path, want: File) -> File:
    """Copy a file of a mirror, hashing it on the way; the same promises as `download`.

    Raises:
        FetchError: it is not there, or is not what `want` says.
    """
    if not source.is_file():
        raise FetchError(f"the mirror has no {source}; put it there, or unset BOLID_MIRROR to fetch it from its source")
    digest = hashlib.sha256()
    with (
        progress.bar(target.name, _megabytes(source.stat().st_size), "MB") as bar,
        atomic.replacing(target) as temporary,
    ):
        meter = _Meter(bar)
        with source.open("rb") as given, temporary.open("wb") as file:
            while chunk := given.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
                meter.at(file.tell())
            size = file.tell()
        if want.sha256 not in (None, digest.hexdigest()):
            raise FetchError(f"{source} has sha256 {digest.hexdigest()}, expected {want.sha256}; mend the mirror")
    return File(want.path, digest.hexdigest(), size)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, file: File) -> bool:
    """Say whether `path` holds the bytes of `file`; False where their sum is not known."""
    if not path.is_file() or file.bytes not in (None, path.stat().st_size):
        return False
    return file.sha256 is not None and file_sha256(path) == file.sha256


def measured(file: Path, path: str) -> File:
    """Return a file on the disk, called `path` in its network, with its sha256 and size."""
    return File(path, file_sha256(file), file.stat().st_size)


def checked(folder: Path, paths: Iterable[str], known: Mapping[str, File]) -> dict[str, File]:
    """Return files with their sums.

    Raises:
        FetchError: one is not what is known of it; it was removed.
    """
    files = {path: measured(folder / path, path) for path in paths}
    for path, file in files.items():
        expected = known.get(path, File(path))
        if expected.sha256 not in (None, file.sha256):
            (folder / path).unlink()
            raise FetchError(f"{folder / path} has sha256 {file.sha256}, expected {expected.sha256}; it was removed")
    return files


def _persist(session: requests.Session, url: str, part: _Part, want: File, meter: _Meter) -> tuple[File, bool]:
    """Try until the whole file is in `part`; returns it, and whether any of it came in an earlier try."""
    idle, begun_with = 0, part.size()
    while True:
        before = part.size()
        try:
            return _attempt(session, url, part, want, meter), begun_with > 0
        except _Cut as cut:
            begun_with = part.size()
            idle = 0 if begun_with > before else idle + 1
            if idle >= TRIES:
                raise FetchError(
                    f"{url} cannot be fetched: {cut}; run the same command again ({begun_with} bytes are kept), "
                    "or set BOLID_MIRROR to a mirror"
                ) from cut
        time.sleep(PAUSE_S * 2 ** max(idle - 1, 0))


def _attempt(session: requests.Session, url: str, part: _Part, want: File, meter: _Meter) -> File:
    """Ask once for what is missing.

    Raises:
        _Cut: not everything came.
        FetchError: asking again would not help.
    """
    have, validator = part.size(), part.validator(url)
    if have and not (validator or want.sha256):
        have = 0  # nothing would tell whether the rest belongs to these bytes
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = validator
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Cut(_reason(error)) from error
    except requests.RequestException as error:
        raise FetchError(f"{url} cannot be fetched: {error}") from error
    with answer:
        offset, total = _placed(answer, url, part, want, have)
        if offset == 0:
            part.begin(url, _validator_of(answer))
        digest = _begun(part.file, offset)
        meter.at(offset)
        if total is not None:
            meter.total(total)
        if answer.status_code != 416:  # which says that everything is here
            _write(answer, part.file, offset, digest, meter)
    size = part.size()
    if total is not None and size != total:
        raise _Cut(f"{size} of {total} bytes came")
    return File(want.path, digest.hexdigest(), size)


def _placed(answer: requests.Response, url: str, part: _Part, want: File, have: int) -> tuple[int, int | None]:
    """Return where the bytes of an answer belong, and the size of the whole file where the server says it."""
    if url.startswith("https:") and not answer.url.startswith("https:"):
        raise FetchError(f"{url} leads to {answer.url}, which is not encrypted; it is not followed")
    if answer.status_code in PASSING:
        raise _Cut(f"HTTP {answer.status_code}")
    unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
    first, _, whole = span.partition("/")
    if answer.status_code == 206 and unit == "bytes" and first.split("-")[0] == str(have):
        offset, total = have, int(whole) if whole.isdecimal() else None
    elif answer.status_code == 416 and have and whole == str(have):
        offset, total = have, have
    elif answer.status_code == 200:
        length = answer.headers.get("Content-Length", "")
        offset, total = 0, int(length) if length.isdecimal() else None
    elif answer.status_code in (206, 416):
        part.discard()
        raise _Cut(f"asked for bytes {have}-, it answers HTTP {answer.status_code} {span}")
    else:
        raise FetchError(f"{url} answers HTTP {answer.status_code}; try later, or set BOLID_MIRROR to a mirror")
    if want.bytes is not None and total not in (None, want.bytes):
        raise FetchError(f"{url} has {total} bytes, expected {want.bytes}; nothing of it was kept")
    return offset, total


def _write(answer: requests.Response, file: Path, offset: int, digest: Any, meter: _Meter) -> None:  # noqa: ANN401
    with atomic.storage_errors(file), file.open("ab" if offset else "wb") as out:
        try:
            for chunk in answer.iter_content(PIECE):
                digest.update(chunk)
                out.write(chunk)
                offset += len(chunk)
                meter.at(offset)
        except requests.RequestException as error:
            raise _Cut(_reason(error)) from error


def _begun(file: Path, size: int) -> Any:  # noqa: ANN401  (hashlib does not name its type)
    """Return the hash of the first `size` bytes, all that are here."""
    digest = hashlib.sha256()
    if size:
        with file.open("rb") as here:
            while chunk := here.read(CHUNK):
                digest.update(chunk)
    return digest


def _validator_of(answer: requests.Response) -> str | None:
    """Return what If-Range may carry: a strong ETag, else the date of the last change."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """Return what happened without the layers that requests and urllib3 wrap around it."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner))


def _megabytes(size: int) -> float:
    return round(size / MEGABYTE, 1)

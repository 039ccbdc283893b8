"""Plain tars, the same bytes for the same content: uncompressed USTAR, no times, no owner, sorted parts.

The rules that every reader of WebDataset tars shares (webdataset, HF datasets, Energon, litData, DALI).
"""

import hashlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Protocol, Self

BLOCK = tarfile.BLOCKSIZE
PIECE = 2**22
"""Bytes that are written at a time."""

_MODE = 0o644


class TarWriter:
    """Append members to an open file, keeping the digest of everything written (on a thread of its own).

    Args:
        file: opened for writing in binary, at its beginning.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._digester = ThreadPoolExecutor(1, "digest")
        self._digested: Future[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member and return the offset of its content in bytes."""
        self._write(header(name, len(data)))
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % BLOCK))
        return offset

    def finish(self) -> str:
        """Write the end of the archive and return the sha256 of the whole file, hexadecimal."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))
        self._flush()
        self._wait()
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.size += len(data)
        if self._waiting_bytes >= PIECE:
            self._flush()

    def _flush(self) -> None:
        piece = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._wait()
        self._digested = self._digester.submit(self._digest.update, piece)
        self._file.write(piece)

    def _wait(self) -> None:
        if self._digested is not None:
            self._digested.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._digester.shutdown()


class Source(Protocol):
    """What a tar is read from, forward only."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes, fewer at the end."""


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name, its content and where that begins (bytes)."""

    name: str
    offset: int
    data: bytes
    canonical: bool
    """Whether the header is the one that `TarWriter` writes."""


def header(name: str, size: int) -> bytes:
    """Return the 512 bytes before a member's content."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, _MODE
    return member.tobuf(format=tarfile.USTAR_FORMAT)


def members(file: Source) -> Iterator[Member]:
    """Yield the members of an uncompressed tar from its beginning to its end, reading each byte once.

    Raises:
        tarfile.TarError: the file is no tar or is cut off.
    """
    offset = 0
    while True:
        block = file.read(BLOCK)
        if block.count(0) == BLOCK:
            return
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        data = file.read(found.size)
        padding = file.read(-found.size % BLOCK)
        if len(data) < found.size or len(padding) < -found.size % BLOCK:
            raise tarfile.ReadError(f"the file ends inside {found.name}")
        yield Member(found.name, offset + BLOCK, data, block == header(found.name, found.size))
        offset += BLOCK + found.size + len(padding)

"""Plain tars, the same bytes for the same content: uncompressed USTAR, no times, no owner, sorted parts.

The rules that every reader of WebDataset tars shares (webdataset, HF datasets, Energon, litData, DALI).
"""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Protocol, Self

BLOCK = tarfile.BLOCKSIZE
PIECE = 2**22
"""Bytes that are written at a time."""
SYNCED_PIECE = 2**25
"""Bytes after which the disk is told to begin, so that little is left to wait for at the end."""
MOST_BUFFERS = 512
"""Buffers that one system call may be given (the limit of Linux is 1024)."""
SMALL = 2**13
"""Content of fewer bytes is joined with its header and its neighbours: fewer pieces to hash and to write."""

_MODE = 0o644
_ZEROS = bytes(BLOCK)
_CHECKSUM = slice(148, 156)

Bytes = bytes | memoryview


class TarWriter:
    """Append members to an open file, keeping the digest of everything written.

    Hashing and syncing run on threads of their own; content is handed to both and to the system without a copy.

    Args:
        file: opened for writing in binary without a buffer, at its beginning.
        release: called with every memoryview that was added, once nothing needs it any more.
    """

    def __init__(self, file: IO[bytes], release: Callable[[memoryview], None] = lambda _: None) -> None:
        self._file, self._release = file, release
        self._digest = hashlib.sha256()
        self._digester = ThreadPoolExecutor(1, "digest")
        self._syncer = ThreadPoolExecutor(1, "sync")
        self._digested: Future[None] | None = None
        self._synced: Future[None] | None = None
        self._small: list[Bytes] = []
        self._waiting: list[Bytes] = []
        self._in_flight: list[Bytes] = []
        self._flushed = self._unsynced = self.size = 0

    def add(self, name: str, data: Bytes) -> int:
        """Append a member and return the offset of its content in bytes."""
        offset = self.size + BLOCK
        self._small.append(header(name, len(data)))
        if len(data) < SMALL and isinstance(data, bytes):
            self._small.append(data)
        else:
            self._join()
            self._waiting.append(data)
        padding = -len(data) % BLOCK
        self._small.append(_ZEROS[:padding])
        self.size = offset + len(data) + padding
        if self.size - self._flushed >= PIECE or len(self._waiting) >= MOST_BUFFERS - 1:
            self._flush()
        return offset

    def finish(self) -> str:
        """Write the end of the archive and return the sha256 of the whole file, hexadecimal."""
        end = self.size + 2 * BLOCK
        end += -end % tarfile.RECORDSIZE
        self._small.append(bytes(end - self.size))
        self.size = end
        self._flush()
        self._wait()
        return self._digest.hexdigest()

    def _join(self) -> None:
        self._waiting.append(b"".join(self._small))
        self._small = []

    def _flush(self) -> None:
        self._join()
        self._wait()
        self._in_flight, self._waiting = self._waiting, []
        self._unsynced, self._flushed = self._unsynced + self.size - self._flushed, self.size
        self._digested = self._digester.submit(self._hash, self._in_flight)
        write_all(self._file.fileno(), self._in_flight)
        if self._unsynced >= SYNCED_PIECE and (self._synced is None or self._synced.done()):
            self._synced, self._unsynced = self._syncer.submit(os.fdatasync, self._file.fileno()), 0

    def _hash(self, pieces: list[Bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)

    def _wait(self) -> None:
        """Wait until what was written is hashed, then give its memory back."""
        if self._digested is not None:
            self._digested.result()
        for piece in self._in_flight:
            if isinstance(piece, memoryview):
                self._release(piece)
        self._in_flight = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._digester.shutdown()
        self._syncer.shutdown()
        if self._synced is not None:
            self._synced.result()


def write_all(descriptor: int, pieces: Sequence[Bytes]) -> None:
    """Write pieces one after the other; the system may take fewer bytes than it is given."""
    left = [memoryview(piece) for piece in pieces if len(piece)]
    while left:
        count = os.writev(descriptor, left)
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]


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
    """Return the 512 bytes before a member's content: what `tarfile` writes, in a fifth of the time.

    Raises:
        ValueError: USTAR cannot say the name or the size.
    """
    encoded = name.encode("ascii")
    if len(encoded) > tarfile.LENGTH_NAME or size >= 8**11:
        raise ValueError(f"{name} with {size} bytes does not fit into a USTAR header")
    length = b"%011o" % size
    checksum = _BLANK_SUM + sum(encoded) + sum(length)
    return b"".join(
        (encoded.ljust(100, b"\0"), _BLANK[100:124], length, _BLANK[135:148], b"%06o\0 " % checksum, _BLANK[156:])
    )


def _canonical(block: bytes, name: str, size: int) -> bool:
    try:
        return block == header(name, size)
    except ValueError:  # a name that other programs write
        return False


def _blank() -> bytes:
    """Return the header of no name and no size, nothing where both are written."""
    member = tarfile.TarInfo()
    member.mode = _MODE
    made = bytearray(member.tobuf(format=tarfile.USTAR_FORMAT))
    made[124:135], made[_CHECKSUM] = bytes(11), b" " * 8  # the checksum counts itself as blanks
    return bytes(made)


_BLANK = _blank()
_BLANK_SUM = sum(_BLANK)


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
        yield Member(found.name, offset + BLOCK, data, _canonical(block, found.name, found.size))
        offset += BLOCK + found.size + len(padding)

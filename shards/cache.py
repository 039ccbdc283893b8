"""Blocks of remote shards on the local disk: checksummed, no larger than asked for, safe to kill.

A block file holds the sha256 of its content and then the content; its name begins with the digest of the shard, so
a dataset that was packed again never meets old bytes. Nothing is synced to the disk: a file torn by a power cut does
not pass its checksum and is fetched again. Processes share the cache; a ledger under a lock keeps its size.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .. import atomic
from .tar import write_all

ENVIRONMENT = "BOLID_CACHE"
BLOCK_BYTES = 4 * 2**20
PIECE_BYTES = 2**18
"""Bytes of a block that are hashed at a time."""
LIMIT = 64 * 2**30
KEPT = 0.9
"""Part of the limit that an eviction leaves."""
LOCKS = 1024
"""Lock files of a cache."""
MOST_CHECKED = 2**17
"""Blocks that a process remembers to have checked."""
ABANDONED_S = 600.0
"""Age in seconds from which a temporary file belongs to nobody."""

_DIGEST = hashlib.sha256().digest_size
_SUFFIX = ".block"


def default_folder() -> Path:
    """Return `$BOLID_CACHE`, else `~/.cache/bolid`."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".cache" / "bolid")


class BlockCache:
    """A folder of blocks.

    Args:
        folder: created when the first block comes.
        limit: bytes that the blocks may take together; the least recently used go first.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._checked: dict[Path, tuple[int, int]] = {}

    def get(self, shard: str, number: int, start: int, stop: int) -> bytes | None:
        """Return bytes of a block, None when the cache does not hold it whole.

        Args:
            shard: digest of the shard.
            number: of the block.
            start, stop: range within the block.
        """
        path = self._path(shard, number)
        try:
            with path.open("rb") as file:
                if not self._sound(path, file.fileno()):
                    return None
                os.utime(path)  # used just now; the next eviction goes by it
                return os.pread(file.fileno(), stop - start, _DIGEST + start)
        except FileNotFoundError:
            return None

    def checked(self, shard: str, number: int) -> bool:
        """Say whether a block is there and this process has compared it with its checksum."""
        path = self._path(shard, number)
        known = self._checked.get(path)
        if known is None:
            return False
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            return known == (status.st_ino, status.st_size)
        return False

    def put(self, shard: str, number: int, data: bytes) -> None:
        """Keep a block, if it fits into the limit at all.

        Raises:
            WorkspaceError: the folder cannot be written or the disk is full.
        """
        if len(data) + _DIGEST > self._limit:
            return
        path = self._path(shard, number)
        with atomic.storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = self._reserve(path.parent, len(data) + _DIGEST)
            try:
                with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123
                    write_all(descriptor, [hashlib.sha256(data).digest(), data])
                    status = os.fstat(file.fileno())
                with self._ledger():  # so that nobody who counts meets the file twice, or not at all
                    temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        self._note_checked(path, status)

    def remove(self, shard: str, number: int) -> bool:
        """Delete a block; False where it is not there. What the cache counts is set right by the next eviction."""
        path = self._path(shard, number)
        self._checked.pop(path, None)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            return True
        return False

    @contextlib.contextmanager
    def filling(self, shard: str, number: int) -> Iterator[None]:
        """Hold the right to fetch a block, so that processes that share the cache do not fetch it twice.

        Few lock files serve all blocks: two blocks that share one are fetched one after the other, which is rare.
        """
        folder = self._folder / "locks"
        with atomic.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{(int(shard[:8], 16) + number) % LOCKS:04d}"):
            yield

    def size(self) -> int:
        """Return the bytes of all files of the cache."""
        if not self._folder.exists():
            return 0
        with self._ledger():
            return self._counted()

    def _path(self, shard: str, number: int) -> Path:
        return self._folder / shard[:2] / f"{shard}-{number:06d}{_SUFFIX}"

    def _sound(self, path: Path, descriptor: int) -> bool:
        """Compare a file with its checksum, once for each file and process."""
        status = os.fstat(descriptor)
        if self._checked.get(path) == (status.st_ino, status.st_size):
            return True
        if _content_digest(descriptor) != os.pread(descriptor, _DIGEST, 0):
            return False
        self._note_checked(path, status)
        return True

    def _note_checked(self, path: Path, status: os.stat_result) -> None:
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked[path] = (status.st_ino, status.st_size)

    def _reserve(self, folder: Path, size: int) -> tuple[int, Path]:
        """Make room for `size` bytes and return a temporary file that already has that size, so that all count it."""
        with self._ledger() as ledger:
            text = os.pread(ledger, 32, 0).decode("ascii", "replace")
            total = int(text) if text.strip().isdecimal() else self._counted()
            total += size
            if total > self._limit:
                total = self._evict(int(self._limit * KEPT) - size) + size
            descriptor, name = tempfile.mkstemp(dir=folder, suffix=atomic.TEMPORARY_SUFFIX)
            os.truncate(descriptor, size)
            os.pwrite(ledger, f"{total:020d}".encode(), 0)
        return descriptor, Path(name)

    def _counted(self) -> int:
        return sum(status.st_size for _, status in self._files())

    def _evict(self, target: int) -> int:
        """Delete the least recently used files until the others take `target` bytes; return what they take."""
        found = [(status.st_mtime, status.st_size, path) for path, status in self._files()]
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            abandoned = path.suffix == atomic.TEMPORARY_SUFFIX and time.time() - used > ABANDONED_S
            if abandoned or (path.suffix == _SUFFIX and total > max(target, 0)):
                path.unlink(missing_ok=True)
                total -= size
        return total

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.glob("??/*"):
            if path.suffix in (_SUFFIX, atomic.TEMPORARY_SUFFIX):
                with contextlib.suppress(FileNotFoundError):  # somebody deleted it
                    yield path, path.stat()

    def _ledger(self) -> contextlib.AbstractContextManager[int]:
        return _locked(self._folder / "ledger")


def _content_digest(descriptor: int) -> bytes:
    """Return the sha256 of a block file's content, read a little at a time: a fresh 4 MB costs more than the hash."""
    digest, buffer, place = hashlib.sha256(), bytearray(PIECE_BYTES), _DIGEST
    view = memoryview(buffer)
    while count := os.preadv(descriptor, [buffer], place):
        digest.update(view[:count])
        place += count
    return digest.digest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on a file, created when missing, and yield its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a worker that was forked now holds it too
        os.close(descriptor)

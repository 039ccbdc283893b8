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

ENVIRONMENT = "BOLID_CACHE"
BLOCK_BYTES = 4 * 2**20
LIMIT = 64 * 2**30
KEPT = 0.9
"""Part of the limit that an eviction leaves."""
LOCKS = 1024
"""Lock files of a cache."""
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
            self._reserve(len(data) + _DIGEST)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=atomic.TEMPORARY_SUFFIX, delete=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
            Path(file.name).replace(path)

    @contextlib.contextmanager
    def filling(self, shard: str, number: int) -> Iterator[None]:
        """Hold the right to fetch a block, so that processes that share the cache do not fetch it twice.

        Few lock files serve all blocks: two blocks that share one are fetched one after the other, which is rare.
        """
        folder = self._folder / "locks"
        with atomic.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{(int(shard[:8], 16) + number) % LOCKS:04d}"
            descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Return the bytes of all files of the cache."""
        return sum(path.stat().st_size for path in self._files())

    def _path(self, shard: str, number: int) -> Path:
        return self._folder / shard[:2] / f"{shard}-{number:06d}{_SUFFIX}"

    def _sound(self, path: Path, descriptor: int) -> bool:
        """Compare a file with its checksum, once for each file and process."""
        status = os.fstat(descriptor)
        if self._checked.get(path) == (status.st_ino, status.st_size):
            return True
        content = os.pread(descriptor, status.st_size, 0)
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return False
        self._checked[path] = (status.st_ino, status.st_size)
        return True

    def _reserve(self, size: int) -> None:
        """Count `size` bytes more before they are written, and make room for them."""
        with self._ledger() as ledger:
            text = os.pread(ledger, 32, 0).decode("ascii", "replace")
            total = int(text) if text.strip().isdecimal() else self.size()
            total += size
            if total > self._limit:
                total = self._evict(int(self._limit * KEPT) - size) + size
            os.pwrite(ledger, f"{total:020d}".encode(), 0)

    def _evict(self, target: int) -> int:
        """Delete the least recently used files until the others take `target` bytes; return what they take."""
        found = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # another process moved its temporary file
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            abandoned = path.suffix == atomic.TEMPORARY_SUFFIX and time.time() - used > ABANDONED_S
            if abandoned or (path.suffix == _SUFFIX and total > max(target, 0)):
                path.unlink(missing_ok=True)
                total -= size
        return total

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.glob("??/*") if path.suffix in (_SUFFIX, atomic.TEMPORARY_SUFFIX))

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[int]:
        descriptor = os.open(self._folder / "ledger", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

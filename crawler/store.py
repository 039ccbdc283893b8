"""Photos on disk under the hash of their bytes; a photo is done when both file and row are.

Many photos share one round of fsyncs, and the order in a round keeps it exact:

1. the bytes are synced under a temporary name,
2. one transaction says which photos are about to be stored (`storing`),
3. the files get their final names and the folders are synced,
4. one transaction says that they are done.

Killed before 2, the photos are asked for again and nothing carries a final name. Killed after 2, the next start
looks which final names are there. So no stored photo is asked for again and no half file has a final name.
"""

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from ..atomic import TEMPORARY_SUFFIX, storage_errors, sync_folder
from ..workspace import Workspace
from .frontier import Frontier
from .outcome import SUPPRESSED, Rejection
from .probe import EXTENSIONS, TAIL_BYTES
from .rows import PhotoRow, Stored

IN_MEMORY = 2**20  # bytes of one photo
HELD = 64 * 2**20  # bytes of all photos that arrive or wait to be stored
_PREFIX = ".photo."
_ROUND = 64  # photos of one round at most
_WAITING = 256  # photos received but not yet stored, at most
_NUMBERS = itertools.count()
T = TypeVar("T")
_AT_ONCE = 16  # fsyncs: a disk takes many at once better than one after another


class Memory:
    """Counts the bytes of all photos that are held in memory, on their way from the network to the disk."""

    def __init__(self) -> None:
        self.held = 0
        self._lock = threading.Lock()  # photos leave it in threads

    def take(self, size: int) -> None:
        """Note that `size` bytes more are held; less where it is negative."""
        with self._lock:
            self.held += size


class Incoming:
    """The bytes of one photo on their way: in memory while they are few, else under a temporary name.

    Args:
        folder: where the temporary file is made, beside the final ones.
        memory: what all photos hold together.
    """

    def __init__(self, folder: Path, memory: Memory) -> None:
        self._folder, self._memory = folder, memory
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self.path: Path | None = None
        self.bytes = 0
        self.head = b""
        self.tail = b""

    def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        self.bytes += len(piece)
        if self._file is None and (self.bytes > IN_MEMORY or self._memory.held >= HELD):
            self._spill()
        if self._file is None:
            self._parts.append(piece)
            self._memory.take(len(piece))
        else:
            with storage_errors(self._folder):
                self._file.write(piece)
            self._hash.update(piece)
        self.head = self.head or piece[:TAIL_BYTES]
        self.tail = piece[-TAIL_BYTES:] if len(piece) >= TAIL_BYTES else (self.tail + piece)[-TAIL_BYTES:]

    def reader(self) -> IO[bytes]:
        """Return a file over the bytes so far.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        if self._file is None or self.path is None:
            return io.BytesIO(b"".join(self._parts))
        with storage_errors(self._folder):
            self._file.flush()
        return self.path.open("rb")

    def to_disk(self) -> str:
        """Bring all bytes to the disk, synced, and return their SHA-256 in hexadecimal.

        What was held in memory is hashed and written here: the caller is a thread beside the event loop.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        if self._file is None:
            self._spill()
        if self._file is None:
            raise RuntimeError("a photo has no temporary file")
        with storage_errors(self._folder), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Forget the bytes and remove the file."""
        self._forget_parts()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _spill(self) -> None:
        with storage_errors(self._folder):
            if not self._folder.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                sync_folder(self._folder.parent)
            # The lock of the workspace keeps other processes away, and what a dead one left is removed at the start.
            self.path = self._folder / f"{_PREFIX}{os.getpid()}-{next(_NUMBERS)}{TEMPORARY_SUFFIX}"
            self._file = self.path.open("xb")
            for part in self._parts:
                self._hash.update(part)
                self._file.write(part)
        self._forget_parts()

    def _forget_parts(self) -> None:
        self._memory.take(-sum(map(len, self._parts)))
        self._parts.clear()


@dataclass(frozen=True, eq=False)
class Received:
    """A photo whose bytes came whole; its hash is found on the way to the disk.

    `settled` is told whether it was stored.
    """

    row: PhotoRow
    photo: Stored
    incoming: Incoming
    settled: Callable[[bool], None]


class Store:
    """Gives photos their final names, a round at a time; an async context manager.

    Args:
        workspace: where `images/` lies.
        frontier: where photos are noted as stored.
    """

    def __init__(self, workspace: Workspace, frontier: Frontier) -> None:
        self._workspace, self._frontier = workspace, frontier
        self._queue: asyncio.Queue[Received | None] = asyncio.Queue(_WAITING)
        self._memory = Memory()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(2 * _AT_ONCE, thread_name_prefix="bolid-store")
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="bolid-look")

    async def __aenter__(self) -> "Store":
        self._task = asyncio.create_task(self._rounds())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.put(None)
        if self._task is not None:
            await self._task
        self._threads.shutdown()
        self._alone.shutdown()
        if self._error is not None:
            raise self._error

    def incoming(self) -> Incoming:
        """Return an empty photo."""
        return Incoming(self._workspace.images, self._memory)

    async def add(self, received: Received) -> None:
        """Hand over a photo; waits while too many are on their way.

        Raises:
            WorkspaceError: an earlier photo could not be written.
        """
        if self._error is not None:
            raise self._error
        await self._queue.put(received)

    def exists(self, sha256: str, format: str) -> bool:
        """Say whether a photo lies under its final name."""
        return self._final(sha256, format).exists()

    def remove(self, sha256: str, format: str) -> None:
        """Remove a photo that no row needs any more."""
        self._final(sha256, format).unlink(missing_ok=True)

    async def in_thread(self, work: Callable[[], None]) -> None:
        """Run `work`, which takes long, beside the event loop."""
        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def alone(self, work: Callable[[], None]) -> None:
        """Run `work`, which takes long and much memory, beside the event loop and when no other such work runs."""
        await asyncio.get_running_loop().run_in_executor(self._alone, work)

    async def _rounds(self) -> None:
        """Store round after round: while one gets its final names, the bytes of the next are synced."""
        more, placing = True, asyncio.create_task(self._finish([]))
        while more:
            batch = [await self._queue.get()]
            while len(batch) < _ROUND and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            more = None not in batch
            photos = [received for received in batch if received is not None]
            await self._bring_to_disk(photos)
            await placing
            placing = asyncio.create_task(self._finish(photos))
        await placing

    async def _bring_to_disk(self, photos: Sequence[Received]) -> None:
        try:
            if self._error is None:
                await self._each_in_threads(_to_disk, photos)
        except Exception as error:
            # Whoever adds the next photo, or leaves the block, gets it: a full disk stops the crawl.
            self._error = error

    async def _finish(self, photos: Sequence[Received]) -> None:
        """Give photos that are on the disk their final names, and say what became of each."""
        stored: set[Received] = set()
        try:
            if photos and self._error is None:
                stored.update(await self._name(photos))
        except Exception as error:
            self._error = error
        finally:
            for received in photos:
                received.incoming.discard()
                received.settled(received in stored)

    async def _name(self, batch: Sequence[Received]) -> list[Received]:
        """Run steps 2 to 4 for a batch; returns the photos that suppress.txt does not name."""
        listed = [each for each in batch if each.photo.sha256 in self._frontier.suppression.hashes]
        for each in listed:
            self._frontier.photo_rejected(each.row, Rejection(SUPPRESSED, detail=each.photo.sha256))
        photos = [each for each in batch if each not in listed]
        self._frontier.photos_storing([each.photo for each in photos])
        changed: set[Path] = set()
        await self.in_thread(lambda: changed.update(self._place(photos)))
        await self._each_in_threads(sync_folder, list(changed))
        self._frontier.photos_stored([each.photo for each in photos])
        return photos

    def _place(self, photos: Iterable[Received]) -> set[Path]:
        """Rename the files of photos; returns the folders to be synced."""
        changed: set[Path] = set()
        for received in photos:
            final = self._final(received.photo.sha256, received.photo.format)
            with storage_errors(final):
                if not final.parent.exists():
                    final.parent.mkdir(parents=True)
                    changed.add(final.parent.parent)
                if not final.exists() and received.incoming.path is not None:
                    received.incoming.path.replace(final)
            changed.add(final.parent)
        return changed

    async def _each_in_threads(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        stripes = [items[n::_AT_ONCE] for n in range(min(_AT_ONCE, len(items)))]
        # All threads have ended before an error is raised: what they write is discarded by whoever catches it.
        ended = await asyncio.gather(
            *(self.in_thread(partial(_each, work, stripe)) for stripe in stripes), return_exceptions=True
        )
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def _final(self, sha256: str, format: str) -> Path:
        return self._workspace.image(sha256, EXTENSIONS[format])


def _to_disk(received: Received) -> None:
    received.photo.sha256 = received.incoming.to_disk()


def _each(work: Callable[[T], None], items: Iterable[T]) -> None:
    for item in items:
        work(item)


def remove_leftovers(workspace: Workspace) -> None:
    """Remove the temporary files of a crawl that died; the caller holds the lock of the workspace."""
    for folder, prefix in ((workspace.images, _PREFIX), (workspace.root, f".{workspace.images_table.name}.")):
        with contextlib.suppress(FileNotFoundError):
            for file in folder.iterdir():
                if file.name.startswith(prefix) and file.name.endswith(TEMPORARY_SUFFIX):
                    file.unlink()

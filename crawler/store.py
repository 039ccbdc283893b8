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
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..atomic import TEMPORARY_SUFFIX, storage_errors, sync_file, sync_folder
from ..workspace import Workspace
from .frontier import Frontier, Stored
from .probe import EXTENSIONS, TAIL_BYTES

_PREFIX = ".photo."
_ROUND = 64  # photos of one round at most
_WAITING = 256  # photos received but not yet stored, at most
_THREADS = 4


class Incoming:
    """The bytes of one photo on their way to the disk, under a temporary name beside the final ones."""

    def __init__(self, folder: Path) -> None:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=TEMPORARY_SUFFIX, dir=folder)
        self.path = Path(name)
        self.bytes = 0
        self.head = b""
        self.tail = b""
        self._hash = hashlib.sha256()
        self._file: IO[bytes] = open(descriptor, "wb")  # noqa: SIM115, PTH123

    def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        with storage_errors(self.path):
            self._file.write(piece)
        self._hash.update(piece)
        self.bytes += len(piece)
        self.head = self.head or piece[:TAIL_BYTES]
        self.tail = (self.tail + piece[-TAIL_BYTES:])[-TAIL_BYTES:]

    def flush(self) -> None:
        """Make what was written readable under `path`.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        with storage_errors(self.path):
            self._file.flush()

    def close(self) -> str:
        """Close the file and return the SHA-256 of its bytes in hexadecimal.

        Raises:
            WorkspaceError: the disk is full or read-only.
        """
        with storage_errors(self.path):
            self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Close and remove the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Received:
    """A photo whose bytes lie whole under a temporary name; `settled` is called when it is stored."""

    photo: Stored
    temporary: Path
    settled: Callable[[], None]


class Store:
    """Gives photos their final names, a round at a time; an async context manager.

    Args:
        workspace: where `images/` lies.
        frontier: where photos are noted as stored.
    """

    def __init__(self, workspace: Workspace, frontier: Frontier) -> None:
        self._workspace, self._frontier = workspace, frontier
        self._queue: asyncio.Queue[Received | None] = asyncio.Queue(_WAITING)
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bolid-store")

    async def __aenter__(self) -> "Store":
        self._task = asyncio.create_task(self._rounds())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.put(None)
        if self._task is not None:
            await self._task
        self._threads.shutdown()
        if self._error is not None:
            raise self._error

    def incoming(self) -> Incoming:
        """Return a new temporary file."""
        return Incoming(self._workspace.images)

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

    async def _rounds(self) -> None:
        more = True
        while more:
            batch = [await self._queue.get()]
            while len(batch) < _ROUND and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            more = None not in batch
            photos = [received for received in batch if received is not None]
            try:
                if photos and self._error is None:
                    await self._round(photos)
            except Exception as error:
                # Whoever adds the next photo, or leaves the block, gets it: a full disk stops the crawl.
                self._error = error
            finally:
                for received in photos:
                    received.temporary.unlink(missing_ok=True)
                    received.settled()

    async def _round(self, photos: Sequence[Received]) -> None:
        rows = [received.photo for received in photos]
        await asyncio.gather(*(self._sync(received.temporary) for received in photos))
        self._frontier.photos_storing(rows)
        await self.in_thread(lambda: self._place(photos))
        self._frontier.photos_stored(rows)

    async def _sync(self, path: Path) -> None:
        with storage_errors(path):
            await self.in_thread(lambda: sync_file(path))

    def _place(self, photos: Iterable[Received]) -> None:
        folders: set[Path] = set()
        for received in photos:
            final = self._final(received.photo.sha256, received.photo.format)
            with storage_errors(final):
                if not final.parent.exists():
                    final.parent.mkdir(parents=True)
                    folders.add(final.parent.parent)
                if not final.exists():
                    received.temporary.chmod(0o644)
                    received.temporary.replace(final)
            folders.add(final.parent)
        for folder in folders:
            sync_folder(folder)

    def _final(self, sha256: str, format: str) -> Path:
        return self._workspace.image(sha256, EXTENSIONS[format])


def remove_leftovers(images: Path) -> None:
    """Remove the temporary files of a process that died."""
    with contextlib.suppress(FileNotFoundError):
        for file in images.iterdir():
            if file.name.startswith(_PREFIX) and file.name.endswith(TEMPORARY_SUFFIX):
                file.unlink()

"""Where a dataset is read from: a folder, by `pread`, with one file handle a process and shard; or an address."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa

from ..errors import DataError, UsageError
from .cache import LIMIT
from .remote import REQUESTS, RemoteStore, Span
from .schema import MANIFEST_FILE

MOST_HANDLES = 256
"""Files that a process keeps open; a dataset can have more shards than a process may open files."""


class Store(Protocol):
    """A place that holds a dataset; objects go to worker processes, open files do not."""

    @property
    def name(self) -> str:
        """Folder or address, for messages."""

    def read(self, file: str) -> bytes:
        """Return a whole file."""

    def open(self, file: str) -> pa.NativeFile:
        """Open a file for reading here and there, without reading all of it."""

    def read_range(self, file: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer only where the file ends."""

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Begin to make ready what will be read next, in this order."""

    def forget(self, file: str, offset: int, size: int) -> bool:
        """Let go of a kept copy of some bytes, which proved wrong; False where none was kept."""

    def exists(self, file: str) -> bool:
        """Say whether there is such a file."""


class FolderStore:
    """A local folder.

    Args:
        folder: that holds `manifest.json`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def read(self, file: str) -> bytes:
        """Return a whole file."""
        return (self._folder / file).read_bytes()

    def open(self, file: str) -> pa.NativeFile:
        """Open a file (not mapped: its pages would count as this process's memory)."""
        return pa.OSFile(str(self._folder / file))

    def read_range(self, file: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer only where the file ends."""
        return os.pread(self._handle(file), size, offset)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Ask the system to read ahead; a file that is missing is told when it is read."""
        for file, offset, size in spans:
            if self.exists(file):
                os.posix_fadvise(self._handle(file), offset, size, os.POSIX_FADV_WILLNEED)

    def forget(self, file: str, offset: int, size: int) -> bool:
        """Return False: files are read where they lie."""
        return False

    def exists(self, file: str) -> bool:
        """Say whether there is such a file."""
        return (self._folder / file).is_file()

    def close(self) -> None:
        """Close the files of this process; reading opens them again."""
        if self._process == os.getpid():
            for handle in self._handles.values():
                os.close(handle)
        self._handles, self._process = {}, os.getpid()

    def _handle(self, file: str) -> int:
        if self._process != os.getpid():  # a forked worker: the parent's handles are the parent's to close
            self._handles, self._process = {}, os.getpid()
        handle = self._handles.pop(file, None)
        if handle is None:
            handle = os.open(self._folder / file, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._handles) >= MOST_HANDLES:
                os.close(self._handles.pop(next(iter(self._handles))))  # the one that was not used for longest
        self._handles[file] = handle
        return handle

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self._folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        FolderStore.__init__(self, state["folder"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_store(
    shards: Path | str, cache: Path | None = None, cache_limit: int = LIMIT, requests: int = REQUESTS
) -> Store:
    """Return the store of a dataset's folder or address.

    Args:
        shards: folder, or address as fsspec takes it (`s3://bucket/shards`), which must be a str.
        cache: folder of the cache of remote datasets, by default `$BOLID_CACHE`, else `~/.cache/bolid`.
        cache_limit: bytes that the cache may take.
        requests: that a process has under way at the same time.

    Raises:
        DataError: there is no finished dataset, or the address cannot be reached.
        UsageError: the address is a Path, or needs a package that is not installed; or `requests` is below 1.
    """
    if requests < 1:
        raise UsageError(f"requests = {requests} must be at least 1")
    store = _store(shards, cache, cache_limit, requests)
    try:
        finished = store.exists(MANIFEST_FILE)
    except OSError as error:
        raise DataError(f"{store.name} cannot be reached ({error}); check the address and the network") from error
    if not finished:
        raise DataError(
            f"{store.name} holds no finished dataset ({MANIFEST_FILE} is missing); write one with: bolid pack --out "
            f"{store.name}"
        )
    return store


def local_folder(shards: Path | str) -> Path | None:
    """Return the folder that a folder or a `file://` address means, None for other addresses.

    Raises:
        UsageError: the address is a Path.
    """
    if isinstance(shards, Path) and re.match(r"[a-z0-9+]{2,}:/", str(shards)):
        raise UsageError(f"{shards} is an address; give it as a string, because a Path merges its slashes")
    if "://" not in str(shards) or str(shards).startswith("file://"):
        return Path(str(shards).removeprefix("file://"))
    return None


def _store(shards: Path | str, cache: Path | None, cache_limit: int, requests: int) -> Store:
    folder = local_folder(shards)
    if folder is not None:
        return FolderStore(folder)
    try:
        return RemoteStore(str(shards), cache, cache_limit, requests)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{shards} cannot be opened: {error}") from error

"""Datasets behind an address that fsspec understands (s3, gs, http, …), read in blocks through a local cache."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from .. import progress
from .cache import BLOCK_BYTES, LIMIT, BlockCache, default_folder
from .manifest import Manifest
from .schema import MANIFEST_FILE

_inherited: list[Any] = []
"""File systems of a parent process, kept: to let go of one, fsspec waits a second for the parent's event loop."""

T_ = TypeVar("T_")
Span = tuple[str, int, int]
"""File, offset, size in bytes."""

ATTEMPTS = 4
FIRST_WAIT_S = 0.5
UNCACHED = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""File systems that remember folder listings unless told not to."""
FETCHERS = 16
"""Blocks that are fetched at the same time."""


def connected(url: str) -> Any:  # noqa: ANN401
    """Return a file system of fsspec with a connection of its own, which asks anew what there is every time.

    Raises:
        ImportError, ValueError: no installed package knows the address.
    """
    import fsspec

    protocol = fsspec.utils.get_protocol(url)
    listings = {"use_listings_cache": False} if protocol in UNCACHED else {}
    system, _ = fsspec.url_to_fs(url, skip_instance_cache=True, **listings)
    return system


def again(work: Callable[[], T_], what: str) -> T_:
    """Do something over a network; failures that may pass are tried again.

    Raises:
        FileNotFoundError: there is no such file; asking again would not help.
        OSError: it failed every time.
    """
    wait = FIRST_WAIT_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except FileNotFoundError:
            raise
        except Exception as error:  # each file system has exceptions of its own
            if attempt == ATTEMPTS:
                raise OSError(f"{what} failed {ATTEMPTS} times: {error!r}") from error
            progress.warn(f"{what}: {error!r}; trying again in {wait:g} s")
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")


class RemoteStore:
    """A dataset at an address.

    Args:
        url: of the folder that holds `manifest.json`.
        cache: folder of the cache, by default `$BOLID_CACHE`, else `~/.cache/bolid`.
        limit: bytes that the cache may take.
    """

    def __init__(self, url: str, cache: Path | None = None, limit: int = LIMIT) -> None:
        self._url, self._folder, self._limit = url.rstrip("/"), cache or default_folder(), limit
        self._cache = BlockCache(self._folder, limit)
        self._manifest: Manifest | None = None
        self._connect()

    @property
    def name(self) -> str:
        """The address."""
        return self._url

    def read(self, file: str) -> bytes:
        """Return a whole file."""
        return self._fetch(file, None, None)

    def open(self, file: str) -> pa.NativeFile:
        """Open a file for reading here and there, without reading all of it."""
        return pa.PythonFile(self._system().open(self._path(file), "rb"), mode="r")

    def read_range(self, file: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer only where the file ends."""
        digest, length = self._shard(file)
        end = min(offset + size, length)
        pieces = []
        for number in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            begin = number * BLOCK_BYTES
            start, stop = max(offset - begin, 0), min(end - begin, BLOCK_BYTES)
            piece = self._cache.get(digest, number, start, stop)
            pieces.append(self._block(file, number)[start:stop] if piece is None else piece)
        return b"".join(pieces)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Bring what a batch needs into the cache, many blocks at a time."""
        wanted = {
            (file, number)
            for file, offset, size in spans
            for number in range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        }
        missing = [(file, number) for file, number in sorted(wanted) if not self._held(file, number)]
        if missing:
            with ThreadPoolExecutor(min(FETCHERS, len(missing)), "fetch") as pool:
                list(pool.map(lambda block: self._block(*block), missing))

    def exists(self, file: str) -> bool:
        """Say whether there is such a file."""
        return bool(self._system().exists(self._path(file)))

    def _held(self, file: str, number: int) -> bool:
        digest, length = self._shard(file)
        return number * BLOCK_BYTES >= length or self._cache.get(digest, number, 0, 1) is not None

    def _block(self, file: str, number: int) -> bytes:
        """Return a block: fetched and kept, unless another process was faster."""
        digest, length = self._shard(file)
        begin, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, length)
        with self._cache.filling(digest, number):
            kept = self._cache.get(digest, number, 0, end - begin)
            if kept is not None:
                return kept
            data = self._fetch(file, begin, end)
            if len(data) != end - begin:
                raise OSError(f"{self._path(file)} gave {len(data)} bytes instead of {end - begin} from {begin} on")
            self._cache.put(digest, number, data)
        return data

    def _fetch(self, file: str, start: int | None, end: int | None) -> bytes:
        """Read a range of a file; failures that may pass are tried again.

        Raises:
            OSError: it failed every time.
        """
        data: bytes = again(lambda: self._system().cat_file(self._path(file), start=start, end=end), self._path(file))
        return data

    def _shard(self, file: str) -> tuple[str, int]:
        """Return digest and size in bytes of a shard."""
        if self._manifest is None:
            self._manifest = Manifest.parse(self.read(MANIFEST_FILE), f"{self._url}/{MANIFEST_FILE}")
        if file not in self._manifest.shards:
            raise FileNotFoundError(f"{MANIFEST_FILE} does not name {file}")
        entry = self._manifest.shards[file]
        return entry.sha256, entry.bytes

    def _path(self, file: str) -> str:
        return f"{self._url}/{file}"

    def _system(self) -> Any:  # noqa: ANN401
        if self._process != os.getpid():  # connections do not survive a fork
            _inherited.append(self._connected)
            self._connect()
        return self._connected

    def _connect(self) -> None:
        self._connected = connected(self._url)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._url, "cache": self._folder, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RemoteStore.__init__(self, **state)

"""Datasets behind an address that fsspec understands (s3, gs, http, …), read in blocks through a local cache."""

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from .. import progress
from ..errors import BolidError
from .cache import BLOCK_BYTES, LIMIT, BlockCache, default_folder
from .manifest import Manifest
from .schema import MANIFEST_FILE

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_inherited: list[Any] = []
"""File systems of a parent process, kept: to let go of one, fsspec waits a second for the parent's event loop."""

T_ = TypeVar("T_")
Span = tuple[str, int, int]
"""File, offset, size in bytes."""

ATTEMPTS = 4
FIRST_WAIT_S = 0.5
UNCACHED = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""File systems that remember folder listings unless told not to."""
REQUESTS = 16
"""Blocks that a process fetches at the same time."""
AHEAD = 0.25
"""Part of the cache that one call of `prefetch` may fill: more would push out what is about to be read."""


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


class RangeFile(io.RawIOBase):
    """A file whose ranges are fetched when they are read.

    Args:
        fetch: returns the bytes from a start to an end (exclusive).
        size: of the file in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._place = fetch, size, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that there is a place to go to."""
        return True

    def readinto(self, target: "Buffer") -> int:
        """Fill `target` with the next bytes and return their number, 0 at the end."""
        wanted = memoryview(target).cast("B")
        end = min(self._place + len(wanted), self._size)
        if end <= self._place:
            return 0
        data = self._fetch(self._place, end)
        wanted[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place


class RemoteStore:
    """A dataset at an address.

    Args:
        url: of the folder that holds `manifest.json`.
        cache: folder of the cache, by default `$BOLID_CACHE`, else `~/.cache/bolid`.
        limit: bytes that the cache may take.
        requests: blocks that a process fetches at the same time.
    """

    def __init__(self, url: str, cache: Path | None = None, limit: int = LIMIT, requests: int = REQUESTS) -> None:
        self._url, self._folder, self._limit = url.rstrip("/"), cache or default_folder(), limit
        self._requests = requests
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
        size = again(lambda: self._info(file).get("size"), self._path(file))
        if size is None:  # a server that does not say
            return pa.BufferReader(self.read(file))
        raw = RangeFile(lambda start, end: self._fetch(file, start, end), size)
        return pa.PythonFile(io.BufferedReader(raw, BLOCK_BYTES), mode="r")

    def read_range(self, file: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer only where the file ends."""
        digest, length = self._shard(file)
        end = min(offset + size, length)
        coming = self._own_fetches()
        pieces = []
        for number in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            begin = number * BLOCK_BYTES
            start, stop = max(offset - begin, 0), min(end - begin, BLOCK_BYTES)
            if fetch := coming.get((file, number)):
                wait([fetch])
            piece = self._cache.get(digest, number, start, stop)
            pieces.append(self._block(file, number)[start:stop] if piece is None else piece)
        return b"".join(pieces)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Begin to bring into the cache what will be read next, many blocks at a time, and return at once.

        Reading waits for a block that is on its way; what fails here is tried again, and told, by the reading. Photos
        that lie side by side share blocks, and a block is one request.
        """
        wanted = dict.fromkeys(
            (file, number)
            for file, offset, size in spans
            for number in range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        )
        self._system()  # before threads ask for it
        coming, room = self._own_fetches(), int(self._limit * AHEAD)
        for file, number in wanted:
            digest, length = self._shard(file)
            room -= min(BLOCK_BYTES, max(length - number * BLOCK_BYTES, 0))
            if room < 0:
                return
            if (file, number) not in coming and not self._cache.checked(digest, number):
                coming[file, number] = self._pool.submit(self._bring, file, number)
                coming[file, number].add_done_callback(partial(self._arrived, file, number))

    def forget(self, file: str, offset: int, size: int) -> bool:
        """Delete the blocks that hold some bytes of a shard from the cache; False where it held none."""
        digest, _ = self._shard(file)
        numbers = range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        return sum(self._cache.remove(digest, number) for number in numbers) > 0

    def _bring(self, file: str, number: int) -> None:
        if not threading.main_thread().is_alive():  # the process ends, and would wait for what nobody reads
            return
        with contextlib.suppress(OSError, BolidError):
            digest, length = self._shard(file)
            if number * BLOCK_BYTES < length and self._cache.get(digest, number, 0, 1) is None:
                self._block(file, number)

    def _own_fetches(self) -> dict[tuple[str, int], "Future[None]"]:
        """Return the blocks that this process waits for; those of a parent never come."""
        if self._process != os.getpid():
            self._reconnect()
        return self._coming

    def _arrived(self, file: str, number: int, _: "Future[None]") -> None:
        self._coming.pop((file, number), None)

    def exists(self, file: str) -> bool:
        """Say whether there is such a file."""
        try:
            again(lambda: self._info(file), self._path(file))
        except FileNotFoundError:
            return False
        return True

    def _info(self, file: str) -> dict[str, Any]:
        """Ask for a file's size; fsspec's http calls a file missing whatever the answer was, so a byte decides."""
        try:
            info: dict[str, Any] = self._system().info(self._path(file))
        except FileNotFoundError as error:
            self._system().cat_file(self._path(file), start=0, end=1)
            raise ConnectionError(f"{self._path(file)} was not told, but is there") from error
        return info

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
            self._reconnect()
        return self._connected

    def _reconnect(self) -> None:
        _inherited.append(self._connected)
        self._connect()

    def _connect(self) -> None:
        self._connected = connected(self._url)
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(self._requests, "fetch")  # threads do not survive a fork either
        self._coming: dict[tuple[str, int], Future[None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._url, "cache": self._folder, "limit": self._limit, "requests": self._requests}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RemoteStore.__init__(self, **state)

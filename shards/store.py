"""Where a dataset is read from: a folder, by `pread`, with one file handle a process and shard."""

import os
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa

from ..errors import DataError
from .schema import MANIFEST_FILE


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
        """Map a file into memory."""
        return pa.memory_map(str(self._folder / file))

    def read_range(self, file: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset` on; fewer only where the file ends."""
        return os.pread(self._handle(file), size, offset)

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
        if file not in self._handles:
            self._handles[file] = os.open(self._folder / file, os.O_RDONLY | os.O_CLOEXEC)
        return self._handles[file]

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


def open_store(shards: Path | str) -> Store:
    """Return the store of a dataset's folder.

    Raises:
        DataError: there is no finished dataset.
    """
    store = FolderStore(Path(shards))
    if not store.exists(MANIFEST_FILE):
        raise DataError(
            f"{store.name} holds no finished dataset ({MANIFEST_FILE} is missing); write one with: bolid pack --out "
            f"{store.name}"
        )
    return store

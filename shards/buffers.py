"""Files are read into memory that is used again: fresh pages for every photo cost more than copying its bytes."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

GRAIN = 2**18
"""Sizes of buffers are multiples of this many bytes, so that a buffer fits the next photo too."""


class Buffers:
    """Memory for files, lent and given back; threads may share it."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def read(self, path: Path) -> memoryview:
        """Return a whole file in lent memory, valid until it is given back."""
        with path.open("rb", buffering=0) as file:
            view = self._lend(os.fstat(file.fileno()).st_size)
            filled = 0
            while filled < len(view):
                count = file.readinto(view[filled:])
                if not count:
                    break
                filled += count
            return view[:filled]

    def give_back(self, view: memoryview) -> None:
        """Take back what `read` returned; nobody may read it any more."""
        if isinstance(view.obj, bytearray):
            self._free.append(view.obj)

    def _lend(self, size: int) -> memoryview:
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray()
        if len(buffer) < size:  # the small one is dropped: photos of a dataset have sizes alike
            buffer = bytearray(-(-size // GRAIN) * GRAIN)
        return memoryview(buffer)[:size]


class ViewFile(io.RawIOBase):
    """A file over memory that is not copied (`io.BytesIO` copies what is not bytes)."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._place = view, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that there is a place to go to."""
        return True

    def readinto(self, target: "Buffer") -> int:
        """Fill `target` with the next bytes and return their number, 0 at the end."""
        wanted = memoryview(target)
        found = self._view[self._place : self._place + len(wanted)]
        wanted[: len(found)] = found
        self._place += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._view)}[whence]
        if start + offset < 0:
            raise ValueError(f"there is no place {start + offset}")
        self._place = start + offset
        return self._place


def opened(view: memoryview) -> io.BufferedReader:
    """Return memory as a file."""
    return io.BufferedReader(ViewFile(view))

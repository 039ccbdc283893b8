"""Files are read into memory that is used again: fresh pages for every photo cost more than copying its bytes."""

import os
from pathlib import Path

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


class ViewFile:
    """A file over memory that is not copied, with what Pillow asks of a file."""

    def __init__(self, view: memoryview | bytes) -> None:
        self._view, self._place = view, 0

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, all when negative, fewer at the end."""
        end = len(self._view) if size < 0 else min(self._place + size, len(self._view))
        data = bytes(self._view[self._place : end])
        self._place = max(self._place, end)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._view)}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

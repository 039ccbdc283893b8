"""What an intake reads: photos in files, and what is no photo, each of them told."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ..crawler.from_files import FilePhoto


@dataclass(frozen=True)
class Found:
    """A photo to be read; `open` returns a seekable file over its bytes.

    Raises:
        OSError: by `open`, where the photo cannot be read.
    """

    photo: FilePhoto
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Refused:
    """What cannot be a photo of anybody (rejected), or could not be looked at now (failed)."""

    address: str
    state: Literal["rejected", "failed"]
    reason: str
    detail: str = ""


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading.

    Raises:
        OSError: it cannot be read.
    """
    return path.open("rb")


def mark(found: os.stat_result) -> str:
    """Return what changes when a file does: its size and the time of its last change."""
    return f"{found.st_size}-{found.st_mtime_ns}"


def unreadable(path: Path, error: OSError) -> Refused:
    """Return the row of a file that the system does not let read."""
    return Refused(path.as_uri(), "failed", "unreadable", error.strerror or str(error))


def readable_name(name: str) -> str:
    """Return a file's name as text that can be stored; bytes that are no UTF-8 become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")

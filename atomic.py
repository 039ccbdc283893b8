"""Files appear whole or not at all: temporary name, fsync, rename; and one lock a folder.

A temporary file lies beside its final name (same file system, so that the rename is atomic) and is called
`.<name>.<random>.tmp`; whatever carries that suffix after a crash may be deleted.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import WorkspaceError

TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and takes the name `path`, else it is removed.

    Raises:
        WorkspaceError: the folder cannot be written or the disk is full; nothing appeared under `path`.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn refusals of the system (disk full, read-only, not permitted) into a WorkspaceError that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.EACCES: "permission denied; choose another folder or change its owner",
            errno.EPERM: "permission denied; choose another folder or change its owner",
            errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
            errno.EEXIST: "a file is where a folder must be; choose another path",
            errno.ENOENT: "no folder can be made there; choose another path",
            errno.ENAMETOOLONG: "the path is too long; choose a shorter one",
        }.get(error.errno or 0)
        if advice is None:
            raise
        raise WorkspaceError(f"cannot write {path}: {advice}") from error


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[IO[str]]:
    """Hold an exclusive lock on the file `path` for the block; the kernel frees it when the process dies.

    Forked children do not inherit it: they may outlive a killed parent by seconds.

    Args:
        path: lock file, created when missing and left in place.
        what: what is locked, for the message ("the crawl of ./bolid-data").

    Raises:
        WorkspaceError: another process holds it; the message names its process id.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise WorkspaceError(
                f"{what} is in use by process {owner}; wait until it ends or stop it, then run again"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        _held.add(file)
        yield file


_held: "weakref.WeakSet[IO[str]]" = weakref.WeakSet()


def _close_inherited() -> None:
    for file in list(_held):
        file.close()


os.register_at_fork(after_in_child=_close_inherited)

"""The files of a network out of a zip archive, and nothing else out of it."""

import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .. import atomic
from ..errors import FetchError
from .catalogue import File
from .download import CHUNK
from .registry import is_inside

SWELL = 20
"""Archives that unpack to more than so many times their size are refused; weights hardly shrink."""


def unpack(archive: Path, folder: Path, wanted: Sequence[File]) -> None:
    """Write the wanted files of a zip, which it holds flat or in a folder of its own, to `folder`.

    Args:
        archive: the zip.
        folder: where the files go, each whole or not at all.
        wanted: by name.

    Raises:
        FetchError: it is no zip, lacks a file, or holds what a pack of weights never holds: paths that lead out of the
            folder, links, files many times larger than the archive.
        WorkspaceError: the disk is full or cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as pack:
            _check(archive, pack.infolist())
            for file in wanted:
                _extract(pack, _member(archive, pack, file), folder / file.path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise FetchError(f"{archive} cannot be unpacked: {error}; pull the network again") from error


def _check(archive: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    for member in members:
        if not is_inside(member.orig_filename.rstrip("/")) or stat.S_ISLNK(member.external_attr >> 16):
            raise FetchError(f"{archive} is refused: '{member.orig_filename}' would lead out of the folder")
    size = sum(member.file_size for member in members)
    if size > SWELL * archive.stat().st_size:
        raise FetchError(f"{archive} is refused: it would unpack to {size} bytes, {SWELL} times its size and more")


def _member(archive: Path, pack: zipfile.ZipFile, file: File) -> zipfile.ZipInfo:
    found = [member for member in pack.infolist() if member.filename.split("/")[-1] == file.path]
    if len(found) != 1:
        raise FetchError(f"{archive} holds {len(found)} files {file.path}, expected one")
    if file.bytes not in (None, found[0].file_size):
        raise FetchError(f"{archive}: {file.path} has {found[0].file_size} bytes, expected {file.bytes}")
    return found[0]


def _extract(pack: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    with pack.open(member) as source, atomic.replacing(target) as temporary, temporary.open("wb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)

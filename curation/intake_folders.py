"""A plain folder tree as a source of photos: one folder an identity, whatever lies below belongs to it."""

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..crawler.from_files import FilePhoto
from ..crawler.site import clean_slug
from .intake_source import Found, Refused, mark, opened, readable_name, unreadable

NO_IDENTITY = "no_identity"
HIDDEN = "hidden"


def has_identities(folder: Path) -> bool:
    """Say whether any folder lies in `folder`; hidden ones do not count."""
    return any(path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))


def read(folder: Path, leave_out: Path) -> Iterator[Found | Refused]:
    """Yield what lies in a folder tree, in the order of the names.

    Links are followed; a folder is read once in an identity, so loops end.

    Args:
        folder: absolute; the folders in it are the identities.
        leave_out: a folder that is passed over in silence, the workspace.
    """
    for path in sorted(folder.iterdir()):
        slug = clean_slug(readable_name(path.name))
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            yield unreadable(path, error)
            continue
        if is_folder and path.resolve() == leave_out:
            continue
        if path.name.startswith("."):
            yield Refused(path.as_uri(), "rejected", HIDDEN)
        elif not is_folder or slug is None:
            yield Refused(path.as_uri(), "rejected", NO_IDENTITY)
        else:
            yield from _identity(path, slug)


def _identity(top: Path, slug: str) -> Iterator[Found | Refused]:
    """Yield all files of an identity; the folders below are read depth first."""
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            found = path.stat()
            if path != top and path.name.startswith("."):
                yield Refused(path.as_uri(), "rejected", HIDDEN)
            elif stat.S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) in seen:
                    yield Refused(path.as_uri(), "rejected", "linked_again")
                    continue
                seen.add((found.st_dev, found.st_ino))
                waiting += sorted(path.iterdir(), reverse=True)
            elif stat.S_ISREG(found.st_mode):
                yield _photo(top, slug, path, found)
            else:
                yield Refused(path.as_uri(), "rejected", "not_a_file")
        except OSError as error:
            yield unreadable(path, error)


def _photo(top: Path, slug: str, path: Path, found: os.stat_result) -> Found:
    address, place = path.as_uri(), os.fsencode(path.relative_to(top))
    name = readable_name(top.name)
    photo = FilePhoto(slug, name, address, address, top.as_uri(), mark(found), place)
    return Found(photo, partial(opened, path))

"""Small pictures of photos, made once and kept: `curation/thumbnails/<size>/<sha256>.jpg`.

A thumbnail is a cache: it is renamed into place but not synced, and one that a power cut left short is made again.
The folder holds what the last report shows and nothing else, so a photo that leaves the table leaves it, too.
"""

import base64
import io
import os
import threading
import warnings
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from .. import atomic
from ..workspace import Workspace
from .pixels import MAX_PIXELS, to_srgb

SIDE = 144
"""Long side of a thumbnail, px."""
QUALITY = 70
_END = b"\xff\xd9"  # the last bytes of a whole JPEG
_LARGE = 24_000_000  # pixels; of larger photos one is decoded at a time, so that memory is bounded


@dataclass(frozen=True)
class Source:
    """A photo to make a thumbnail of: its sha256 and its file."""

    sha256: str
    path: Path


def cache(workspace: Workspace) -> Path:
    """Return the folder of the thumbnails of this size."""
    return workspace.curation / "thumbnails" / str(SIDE)


class Thumbnails:
    """Thumbnails for one page, embedded in it or lying in a folder beside it.

    Args:
        workspace: whose photos they are.
        folder: beside the page, for its files.
        embed: put the thumbnails into the page; the folder is then left alone, and removed by `tidy`.

    Attributes:
        used: sha256 of the photos that have one.
    """

    def __init__(self, workspace: Workspace, folder: Path, *, embed: bool) -> None:
        self._cache = cache(workspace)
        self._folder = folder
        self._embed = embed
        self._decoding = threading.Lock()
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self.used: set[str] = set()
        for needed in [self._cache] if embed else [self._cache, folder]:
            with atomic.storage_errors(needed):
                needed.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Thumbnails":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def addresses(self, sources: Iterable[Source]) -> dict[str, str]:
        """Return what an `img` of the page names as its source, by sha256; photos that cannot be read are left out.

        Raises:
            WorkspaceError: a thumbnail cannot be written.
        """
        wanted = {source.sha256: source for source in sources}
        kept = {sha256: _whole(self._cache / f"{sha256}.jpg") for sha256 in wanted}
        missing = [wanted[sha256] for sha256, data in kept.items() if data is None]
        kept |= zip((source.sha256 for source in missing), self._pool.map(self._kept, missing), strict=True)
        found = {sha256: self._address(sha256, data) for sha256, data in kept.items() if data is not None}
        self.used |= found.keys()
        return found

    def tidy(self) -> None:
        """Remove the thumbnails that the page does not use, here and of other sizes."""
        for folder in self._cache.parent.iterdir():
            _keep_only(folder, {f"{sha256}.jpg" for sha256 in self.used} if folder == self._cache else set())
        _keep_only(self._folder, set() if self._embed else {_short(sha256) for sha256 in self.used})

    def _address(self, sha256: str, data: bytes) -> str:
        if self._embed:
            return "data:image/jpeg;base64," + base64.b64encode(data).decode()
        file = self._folder / _short(sha256)
        if _whole(file) != data:
            _place(file, data)
        return f"{self._folder.name}/{file.name}"

    def _kept(self, source: Source) -> bytes | None:
        data = self._make(source)
        if data is not None:
            _place(self._cache / f"{source.sha256}.jpg", data)
        return data

    def _make(self, source: Source) -> bytes | None:
        """Return a JPEG, upright; None where the file is gone or does not decode any more."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the size is judged here, and EXIF may be odd
                with Image.open(source.path) as photo:
                    photo.draft("RGB", (2 * SIDE, 2 * SIDE))
                    if photo.width * photo.height > MAX_PIXELS:
                        return None
                    if photo.width * photo.height > _LARGE:
                        with self._decoding:
                            return _encoded(photo)
                    return _encoded(photo)
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError):
            return None


def forget(workspace: Workspace, photos: Collection[str], page_folder: Path) -> int:
    """Remove the thumbnails of photos, by sha256, from the cache and from the page's folder; return how many."""
    folders = list((workspace.curation / "thumbnails").glob("*"))
    files = [folder / f"{sha256}.jpg" for sha256 in photos for folder in folders]
    files += [page_folder / _short(sha256) for sha256 in photos]
    present = [file for file in files if file.exists()]
    for file in present:
        file.unlink()
    return len(present)


def _short(sha256: str) -> str:
    return f"{sha256[:20]}.jpg"  # 80 bits tell any number of photos apart, and the page names each


def _encoded(photo: Image.Image) -> bytes:
    if photo.mode in ("1", "P", "PA"):  # these have no mean of two pixels
        photo = to_srgb(photo)
    photo.thumbnail((2 * SIDE, 2 * SIDE), Image.Resampling.BOX)
    small = to_srgb(ImageOps.exif_transpose(photo))
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _whole(file: Path) -> bytes | None:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    return data if data.endswith(_END) else None


def _place(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}{atomic.TEMPORARY_SUFFIX}")  # one curation at a time writes here
    with atomic.storage_errors(file):
        try:
            temporary.write_bytes(data)
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _keep_only(folder: Path, used: set[str]) -> None:
    """Remove all thumbnails and torn temporary files but those used (names); the folder, too, when nothing is left."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name not in used and file.suffix in (".jpg", atomic.TEMPORARY_SUFFIX):
            file.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()

"""`bolid curate --from DIR`: photos that are on this machine already become photos of the workspace.

They take the road of a crawl: stored under the hash of their bytes, noted in the frontier, exact after a crash.
They are copied, not linked: whoever edits a file in DIR in place must not change what a hash names.
"""

import asyncio
import itertools
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from .. import progress
from ..atomic import locked
from ..crawler import from_files, restart
from ..crawler.frontier import Frontier
from ..crawler.outcome import SUPPRESSED, Rejection
from ..crawler.probe import SNIFF_BYTES, sniff
from ..crawler.rows import PhotoRow, Stored
from ..crawler.store import Incoming, Received, Store, remove_leftovers
from ..crawler.suppress import read_suppression
from ..crawler.table import write_images_table
from ..crawler.whole import DAMAGED
from ..errors import AccountingError, DataError, UsageError
from ..workspace import Workspace
from . import intake_folders, intake_img2dataset
from .intake_source import Found, Refused
from .table import IMAGE_COLUMNS

LISTED = 10_000
"""Most photos that are not taken and are told one by one."""
_BATCH = 256
_PIECE = 2**20

Sources = Iterable[Found | Refused]


@dataclass
class IntakeSummary:
    """What became of everything in a folder: `offered` = `stored` + `known` + the sums of `rejected` and `failed`.

    Attributes:
        source: the folder.
        offered: files, or samples of img2dataset.
        stored: photos that were stored now; `known` were stored before.
        rejected: reason -> number; `failed` the same, of what the next run tries again.
        refused: the first of those, one by one.
        names: identity -> its name in the workspace, where a crawl has one of the same name.
        seconds: of the run.
    """

    source: str
    offered: int = 0
    stored: int = 0
    known: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, refused: Refused) -> None:
        """Count what is not taken."""
        (self.rejected if refused.state == "rejected" else self.failed)[refused.reason] += 1
        if len(self.refused) < LISTED:
            self.refused.append(refused)


def take_in(workspace: Workspace, folder: Path, identity_column: str | None = None) -> IntakeSummary:
    """Store the photos of a folder tree or of an output of img2dataset, and write `images.parquet`.

    Running it again reads only files that are new or changed.

    Args:
        workspace: where photos go; what is there stays.
        folder: one folder an identity, or what img2dataset wrote.
        identity_column: column of the identity; for img2dataset only, and required there.

    Raises:
        UsageError: the folder or the column is not one.
        DataError: the folder holds no identity.
        WorkspaceError: a crawl or another intake runs in the workspace, or it cannot be written.
        AccountingError: photos were lost on the way (a bug).
    """
    begun = time.monotonic()
    root = _require_folder(workspace, folder)
    found = _sources(workspace, root, identity_column)
    summary = IntakeSummary(str(folder))
    with locked(workspace.frontier.with_suffix(".lock"), f"the crawl of {workspace.root}"):
        frontier = Frontier(workspace.frontier, from_files.SITE, root.as_uri())
        try:
            _adopt(workspace, frontier)
            frontier.suppression = read_suppression(workspace.root)
            try:
                asyncio.run(_take(workspace, frontier, found, summary))
            finally:
                # Also after Ctrl-C: the table shows what is stored.
                write_images_table(workspace)
            summary.names = from_files.names(frontier)
        finally:
            frontier.close()
    outcomes = summary.stored + summary.known + sum(summary.rejected.values()) + sum(summary.failed.values())
    if summary.offered != outcomes:
        raise AccountingError(f"{folder} offers {summary.offered} photos, but {outcomes} have an outcome; report this")
    summary.seconds = time.monotonic() - begun
    return summary


def _require_folder(workspace: Workspace, folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"--from {folder} is not a folder; name one that holds a folder for each identity")
    root, own = folder.resolve(), workspace.root.resolve()
    inside = (own / name for name in (workspace.images.name, workspace.curation.name, workspace.shards.name))
    if root == own or any(root.is_relative_to(part) for part in inside):
        raise UsageError(
            f"--from {folder} belongs to the workspace itself; name a folder of photos, or choose another -w"
        )
    return root


def _sources(workspace: Workspace, root: Path, identity_column: str | None) -> Sources:
    try:
        if intake_img2dataset.is_output(root):
            return intake_img2dataset.read(root, intake_img2dataset.require_column(root, identity_column))
        if identity_column is not None:
            raise UsageError(f"--identity-column is for outputs of img2dataset; {root} is a plain folder tree")
        if not intake_folders.has_identities(root):
            raise DataError(f"{root} holds no folder; put the photos of each person into a folder with her name")
    except OSError as error:
        raise UsageError(f"--from {root} cannot be read: {error.strerror}; check its permissions") from error
    return intake_folders.read(root, workspace.root.resolve())


def _adopt(workspace: Workspace, frontier: Frontier) -> None:
    """Take over an images.parquet that came without its frontier."""
    if workspace.images_table.exists() and frontier.database.execute("SELECT 1 FROM photos LIMIT 1").fetchone() is None:
        try:
            with pq.ParquetFile(workspace.images_table) as table:
                lacking = set(IMAGE_COLUMNS) - set(table.schema_arrow.names)
                if lacking:
                    names = ", ".join(sorted(lacking))
                    raise DataError(f"{workspace.images_table} lacks the columns {names}; move it away")
                rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
                count = from_files.adopt(frontier, rows, workspace.images_table.name)
        except pa.ArrowInvalid as error:
            raise DataError(f"{workspace.images_table} is damaged: {error}; move it away") from error
        progress.say(f"{count} photos of {workspace.images_table} were taken over")


async def _take(workspace: Workspace, frontier: Frontier, found: Sources, summary: IntakeSummary) -> None:
    store = Store(workspace, frontier)
    remove_leftovers(workspace)
    restart.recover(frontier, store.exists)
    restart.suppress(frontier, frontier.suppression, store.remove)
    intake = from_files.Intake(frontier, store.exists)
    try:
        with progress.bar("intake", total=None, unit="photos") as bar:
            async with store:
                for batch in _batches(found):
                    await _take_some(store, frontier, intake, batch, summary)
                    bar.advance(len(batch))
    finally:
        frontier.release_all()
    for sha256, kind in intake.replaced():
        store.remove(sha256, kind)


async def _take_some(
    store: Store,
    frontier: Frontier,
    intake: from_files.Intake,
    batch: Sequence[Found | Refused],
    summary: IntakeSummary,
) -> None:
    summary.offered += len(batch)
    for each in batch:
        if isinstance(each, Refused):
            summary.add(each)
    photos = [each for each in batch if isinstance(each, Found)]
    for one, offered in zip(photos, intake.offer([each.photo for each in photos]), strict=True):
        if offered.row is not None:
            await _read(store, frontier, one, offered.row, summary)
        elif offered.state == "done":
            summary.known += 1
        else:
            summary.add(Refused(one.photo.link, "rejected", offered.reason))


async def _read(store: Store, frontier: Frontier, one: Found, row: PhotoRow, summary: IntakeSummary) -> None:
    """Bring one photo to the store, or to the reason why not."""

    def settled(stored: bool) -> None:
        if stored:
            summary.stored += 1
        else:
            summary.add(Refused(one.photo.link, "rejected", SUPPRESSED))

    incoming = store.incoming()
    try:
        photo = await asyncio.to_thread(_copy, one, row, incoming)
    except Rejection as why:
        incoming.discard()
        frontier.photo_rejected(row, why)
        summary.add(Refused(one.photo.link, "rejected", why.reason, why.detail))
    except OSError as error:
        incoming.discard()
        detail = error.strerror or str(error)
        frontier.failed(row, "unreadable", detail)
        summary.add(Refused(one.photo.link, "failed", "unreadable", detail))
    except BaseException:
        incoming.discard()
        raise
    else:
        await store.add(Received(row, photo, incoming, settled))


def _copy(one: Found, row: PhotoRow, incoming: Incoming) -> Stored:
    """Read a photo.

    Raises:
        Rejection: it is no image that bolid stores; one that is damaged behind its header is left to the curation.
        OSError: it cannot be read.
        WorkspaceError: the disk is full.
    """
    with one.open() as file:
        head = file.read(SNIFF_BYTES)
        if len(head) < SNIFF_BYTES:
            raise Rejection("not_an_image", detail=f"{len(head)} bytes")
        kind = sniff(head)
        width, height = _size(file)
        file.seek(0)
        while piece := file.read(_PIECE):
            incoming.write(piece)
    return Stored(row.id, width, height, incoming.bytes, kind, time.time(), one.photo.mark, from_files.NOT_ASKED)


def _size(file: IO[bytes]) -> tuple[int, int]:
    """Return width and height by the header, before any EXIF rotation, pixels."""
    try:
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that curation judges
            image = Image.open(file)
            return int(image.width), int(image.height)
    except Image.DecompressionBombError as error:
        raise Rejection("too_many_pixels", detail=str(error)) from error
    except (UnidentifiedImageError, *DAMAGED) as error:
        raise Rejection("not_an_image", detail=f"{type(error).__name__}: {error}") from error


def _batches(found: Sources) -> Iterator[list[Found | Refused]]:
    waiting = iter(found)
    while batch := list(itertools.islice(waiting, _BATCH)):
        yield batch

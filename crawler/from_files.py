"""Photos that come from files on this machine, not from the network: rows of the frontier like all others.

So images.parquet, suppress.txt and `bolid status` know them, and a crawl that follows loses none. They differ in this:
their host is empty, so no address is ever asked for them; `robots` says that nobody asked; `etag` is a mark that
changes with the file; `url` is where the photo was on the web if that is known, else the file's own address.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .frontier import Frontier
from .outcome import SUPPRESSED
from .rows import PhotoRow, step

SITE = "files"
"""What identities of files belong to: folders of one name in two intakes are one identity."""
NOT_ASKED = "not asked"
"""The column `robots` of these photos."""


@dataclass(frozen=True)
class FilePhoto:
    """A photo in a file.

    Attributes:
        identity: its slug; `name` as people write it.
        link: address of the file, or of the entry in it; once in an identity.
        url: where the photo was on the web, else `link`.
        page_url: address of the folder or archive.
        mark: changes when the file does.
        place: where it stands in the order of its identity.
    """

    identity: str
    name: str
    link: str
    url: str
    page_url: str
    mark: str
    place: bytes


@dataclass(frozen=True)
class Offered:
    """What is known of an offered photo: a claimed `row` to be read, or None where `state` and `reason` stand."""

    row: PhotoRow | None
    state: str = ""
    reason: str = ""


class Intake:
    """Adds photos of files to a frontier.

    Args:
        frontier: of the site `SITE`; its source is what is read from.
        exists: says whether the file of (sha256, format) is stored.
    """

    def __init__(self, frontier: Frontier, exists: Callable[[str, str], bool]) -> None:
        self._frontier, self._exists = frontier, exists
        self._identities: dict[str, int] = {}
        self._replaced: list[tuple[str, str]] = []

    def offer(self, photos: Sequence[FilePhoto]) -> list[Offered]:
        """Add the photos that are new and claim those that must be read, in one transaction.

        Read are new ones, changed ones, and those that failed or whose stored file is gone.
        """
        with self._frontier.transaction() as db:
            return [self._offer(db, photo) for photo in photos]

    def replaced(self) -> list[tuple[str, str]]:
        """Return (sha256, format) of stored photos whose file changed and whose bytes no row has any more."""
        needed = "SELECT 1 FROM photos WHERE sha256 = ? AND state = 'done' LIMIT 1"
        database = self._frontier.database
        return [each for each in self._replaced if database.execute(needed, each[:1]).fetchone() is None]

    def _offer(self, db: sqlite3.Connection, photo: FilePhoto) -> Offered:
        identity = self._identity(db, photo)
        query = "SELECT id, state, reason, etag, sha256, format FROM photos WHERE identity = ? AND link = ?"
        known = db.execute(query, (identity, photo.link)).fetchone()
        if known is None:
            return self._add(db, identity, photo)
        same = known["etag"] == photo.mark
        stored = known["state"] == "done" and self._exists(known["sha256"], known["format"])
        refused = known["state"] == "rejected" and (same or known["reason"] == SUPPRESSED)
        if (stored and same) or refused:
            return Offered(None, known["state"], known["reason"] or "")
        if stored:
            self._replaced.append((known["sha256"], known["format"]))
        db.execute("UPDATE photos SET state = 'in_flight', etag = ? WHERE id = ?", (photo.mark, known["id"]))
        return Offered(_row(known["id"], identity, photo))

    def _identity(self, db: sqlite3.Connection, photo: FilePhoto) -> int:
        if photo.identity not in self._identities:
            number = self._frontier.identity(db, photo.identity, photo.identity.encode(), "accepted")
            # One that suppress.txt named and names no more is new; nothing else decides about it.
            db.execute(
                "UPDATE identities SET name = coalesce(name, ?),"
                " state = CASE state WHEN 'new' THEN 'accepted' ELSE state END WHERE id = ?",
                (photo.name, number),
            )
            self._identities[photo.identity] = number
        return self._identities[photo.identity]

    def _add(self, db: sqlite3.Connection, identity: int, photo: FilePhoto) -> Offered:
        entry = self._frontier.suppression.entry(photo.url, photo.link, photo.page_url, slug=photo.identity)
        state, reason = ("in_flight", None) if entry is None else ("rejected", SUPPRESSED)
        row = db.execute(
            "INSERT INTO photos (source, identity, path, link, url, page_url, host, etag, robots, state, reason,"
            " detail) VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?)",
            (self._frontier.source, identity, photo.place, photo.link, photo.url, photo.page_url, photo.mark,
             NOT_ASKED, state, reason, entry),
        ).lastrowid  # fmt: skip
        db.execute("UPDATE identities SET offered = offered + 1 WHERE id = ?", (identity,))
        return Offered(None, state, SUPPRESSED) if entry else Offered(_row(row or 0, identity, photo))


def names(frontier: Frontier) -> dict[str, str]:
    """Return slug -> label of the identities of files whose slug another site took first."""
    query = "SELECT slug, label FROM identities WHERE site = ? AND label <> slug ORDER BY slug"
    return {row["slug"]: row["label"] for row in frontier.database.execute(query, (frontier.site,))}


def adopt(frontier: Frontier, rows: Iterable[Mapping[str, Any]], source: str) -> int:
    """Add the rows of an images.parquet whose frontier is not there, as stored photos; returns how many.

    Without them the next images.parquet, which is written from the frontier, would lack them.

    Args:
        frontier: without photos.
        rows: with the columns of `table.COLUMNS`; those after `format` may be missing.
        source: what `bolid status` calls them.
    """
    count = 0
    with frontier.transaction() as db:
        identities: dict[str, int] = {}
        for count, row in enumerate(rows, 1):
            slug, place = row["identity"], step(b"", count)
            if slug not in identities:
                identities[slug] = frontier.identity(db, slug, place, "accepted")
                db.execute("UPDATE identities SET name = ? WHERE id = ?", (row["identity_name"], identities[slug]))
            link, at = f"{source}#{count}", row.get("fetched_at")
            fetched = None if not isinstance(at, datetime) else at.timestamp()
            db.execute(
                "INSERT INTO photos (source, identity, path, link, url, page_url, host, state, sha256, width, height,"
                " bytes, format, fetched_at, etag, robots, rights)"
                " VALUES (?, ?, ?, ?, ?, ?, '', 'done', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (source, identities[slug], place, link, row["url"], row["page_url"] or "", row["sha256"], row["width"],
                 row["height"], row["bytes"], row["format"], fetched,
                 row.get("etag"), row.get("robots"), row.get("rights")),
            )  # fmt: skip
    return count


def _row(number: int, identity: int, photo: FilePhoto) -> PhotoRow:
    return PhotoRow(number, identity, photo.identity, photo.link, photo.url, photo.page_url, 0, NOT_ASKED, "")

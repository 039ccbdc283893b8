"""The truth about a crawl: every page, identity and photo with its state, in SQLite, one transaction a change.

A row in flight belongs to a running process; when the next one opens the frontier, it is pending again.
So the process can be killed at any moment: what was done stays done, everything else is asked for again.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from .address import MAX_LENGTH, canonical, origin
from .extract import Gallery, PageLink, PhotoLink
from .host_book import HostBook
from .outcome import (
    BAD_ADDRESS,
    LAYOUT,
    MAX_PHOTOS,
    OPT_OUT,
    SAME_ADDRESS,
    SUPPRESSED,
    TOO_LARGE,
    TOO_MANY_PAGES,
    TOO_SMALL,
    Rejection,
)
from .rows import Bounds, PageRow, PhotoRow, Stored, step
from .schema import connect, transaction
from .suppress import Suppression
from .url_list import Listed

_AFTER = 1 << 31  # places of further pages of a list lie behind those of its entries
_PERSON = 5000  # photos of one identity whose progress is counted
_SCAN = 1000  # open pages looked at for one claim


class Frontier:
    """The frontier of one source (a site definition on one host) in a workspace.

    Args:
        path: crawl.sqlite.
        site: name of the definition; identities belong to it.
        source: definition and host; pages and photos belong to it.

    `hosts` is what is known of hosts.
    Set `suppression` to what must not be asked for; `added` counts the photos to be asked for that pages added.
    """

    def __init__(self, path: Path, site: str, source: str) -> None:
        self._db = self.database = connect(path)
        self.hosts = HostBook(self._db)
        self.site, self.source = site, source
        self.suppression = Suppression()
        self.added = 0

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction: see `schema.transaction`."""
        with transaction(self._db) as db:
            yield db

    # --- the start page -----------------------------------------------------------------------------------

    def add_start(self, url: str, kind: str, slug: str | None) -> None:
        """Add the start page, unless it is known; one that was refused is asked again."""
        with self.transaction() as db:
            self._add_page(db, PageLink(kind, url, slug), step(b"", 0))
            db.execute(
                "UPDATE pages SET state = 'pending', due = 0, tries = 0 WHERE source = ? AND url = ?"
                " AND state = 'rejected' AND reason <> ?",
                (self.source, url, MAX_PHOTOS),
            )

    def start_outcome(self, url: str) -> tuple[str, str, str, float]:
        """Return state, reason, detail and due time (Unix seconds) of the start page."""
        row = self._db.execute(
            "SELECT state, reason, detail, due FROM pages WHERE source = ? AND url = ?", (self.source, url)
        ).fetchone()
        return row["state"], row["reason"] or "", row["detail"] or "", row["due"]

    # --- lists of addresses -------------------------------------------------------------------------------

    def knows_list(self, digest: str) -> bool:
        """Say whether a list was taken in completely."""
        query = "SELECT 1 FROM lists WHERE source = ? AND digest = ?"
        return self._db.execute(query, (self.source, digest)).fetchone() is not None

    def add_listed(self, lines: Sequence[Listed], first: int) -> None:
        """Add the photos of a list; `first` is the place of the first one. Malformed addresses are rejected rows."""
        with self.transaction() as db:
            known: dict[str, int] = {}
            added: Counter[int] = Counter()
            for place, line in enumerate(lines, first):
                path = step(b"", place)
                if line.identity not in known:
                    known[line.identity] = self.identity(db, line.identity, path, "accepted")
                added[known[line.identity]] += self._add_listed(db, known[line.identity], path, line)
            counted = [(number, identity) for identity, number in added.items()]
            db.executemany("UPDATE identities SET offered = offered + ? WHERE id = ?", counted)

    def _add_listed(self, db: sqlite3.Connection, identity: int, path: bytes, line: Listed) -> int:
        url = canonical("", line.url)
        link = url or line.url[:MAX_LENGTH]
        state, reason, detail = _unless(self.suppression.entry(url, slug=line.identity))
        if url is None:
            state, reason, detail = "rejected", BAD_ADDRESS, None
        return db.execute(
            "INSERT INTO photos (source, identity, path, link, url, page_url, host, rights, state, reason, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self.source, identity, path, link, url, link, origin(url) if url else "", "", state, reason, detail),
        ).rowcount

    def list_added(self, digest: str) -> None:
        """Note that a list was taken in completely."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO lists (source, digest) VALUES (?, ?)", (self.source, digest))

    # --- claims -------------------------------------------------------------------------------------------

    def claim_photos(self, host: str, now: float, limit: int) -> list[PhotoRow]:
        """Take up to `limit` photos of a host that are due; they are in flight from now on."""
        with self.transaction() as db:
            rows = db.execute(
                "SELECT photos.id, identity, label, link, url, page_url, tries, robots, rights FROM photos"
                " JOIN identities ON identities.id = photos.identity"
                " WHERE photos.source = ? AND host = ? AND photos.state = 'pending' AND due <= ?"
                " ORDER BY due, photos.id LIMIT ?",
                (self.source, host, now, limit),
            ).fetchall()
            db.executemany("UPDATE photos SET state = 'in_flight' WHERE id = ?", [(row["id"],) for row in rows])
        return [
            PhotoRow(row["id"], row["identity"], row["label"], row["link"], row["url"], row["page_url"], row["tries"],
                     row["robots"] or "", row["rights"] or "")
            for row in rows
        ]  # fmt: skip

    def claim_pages(self, host: str, now: float, limit: int, identities: int | None) -> list[PageRow]:
        """Take up to `limit` pages of a host that are due, in document order.

        With a limit on `identities` the accepted ones are the first in document order, however the answers
        arrive: only as many undecided galleries are asked for as could all be accepted, and a listing page
        that is not read yet holds back everything behind it.
        """
        claimed: list[PageRow] = []
        with self.transaction() as db:
            room = _SCAN if identities is None else max(0, identities - self.accepted())
            rows = self._open_pages(db)
            for row in rows:
                listing, undecided = row["identity"] is None, row["identity_state"] == "new"
                if undecided and room == 0:
                    break
                if row["state"] == "pending" and row["host"] == host and row["due"] <= now and (room or not listing):
                    claimed.append(_page_row(row))
                if len(claimed) == limit:
                    break
                if listing and identities is not None:
                    room = 0
                room -= undecided
            rows.close()
            db.executemany("UPDATE pages SET state = 'in_flight' WHERE id = ?", [(page.id,) for page in claimed])
        return claimed

    def _open_pages(self, db: sqlite3.Connection) -> sqlite3.Cursor:
        """Return pages pending or in flight in document order; of each gallery only the first, so its order holds."""
        return db.execute(
            "SELECT pages.*, identities.label, identities.slug, identities.path AS root,"
            " identities.state AS identity_state FROM pages"
            " LEFT JOIN identities ON identities.id = pages.identity"
            " WHERE pages.source = ? AND pages.state IN ('pending', 'in_flight')"
            " AND (pages.identity IS NULL OR NOT EXISTS (SELECT 1 FROM pages AS earlier"
            "  WHERE earlier.identity = pages.identity AND earlier.path < pages.path"
            "  AND earlier.state IN ('pending', 'in_flight')))"
            " ORDER BY pages.path LIMIT ?",
            (self.source, _SCAN),
        )

    def accepted(self) -> int:
        """Count the identities that were accepted so far."""
        return _number(self._one("SELECT count(*) FROM identities WHERE site = ? AND state = 'accepted'", self.site))

    def next_due(self, host: str, now: float) -> float | None:
        """Return when the first page or photo of a host that must wait is due; None where none waits."""
        query = "SELECT min(due) FROM {} WHERE source = ? AND host = ? AND state = 'pending' AND due > ?"
        found = [self._one(query.format(table), self.source, host, now) for table in ("photos", "pages")]
        return min((due for due in found if isinstance(due, float)), default=None)

    def pending_hosts(self) -> list[str]:
        """Return the hosts that pending pages and photos lie on."""
        rows = self._db.execute(
            "SELECT DISTINCT host FROM photos WHERE source = ?1 AND state = 'pending'"
            " UNION SELECT DISTINCT host FROM pages WHERE source = ?1 AND state = 'pending'", (self.source,)
        )  # fmt: skip
        return [row["host"] for row in rows]

    # --- pages --------------------------------------------------------------------------------------------

    def listing_read(self, page: PageRow, links: Sequence[PageLink], etag: str | None, modified: str | None) -> None:
        """Note that a listing page was read, and add the pages it links to."""
        with self.transaction() as db:
            for place, link in enumerate(links):
                self._add_page(db, link, _place_of(page, link, place))
            self._page_done(db, page, etag, modified)

    def gallery_read(
        self, page: PageRow, found: Gallery, bounds: Bounds, rights: str | None, etag: str | None, modified: str | None
    ) -> list[str]:
        """Note that a gallery page was read: accept its identity, add its photos up to the limit and further pages.

        Args:
            page: the claimed page.
            found: what it shows.
            bounds: thresholds of the crawl.
            rights: words of the rights where thumbnails lead to images; None where they lead to picture pages.
            etag: header ETag of the page.
            modified: header Last-Modified of the page.

        Returns:
            The hosts of the photos added.
        """
        if page.identity is None:
            raise ValueError(f"{page.url} belongs to no identity")
        with self.transaction() as db:
            db.execute(
                "UPDATE identities SET state = 'accepted', name = coalesce(name, ?), announced = coalesce(?, announced)"
                " WHERE id = ?",
                (found.name, found.announced, page.identity),
            )
            hosts, cut = self._add_photos(db, page, found.photos, bounds, rights)
            self._add_further(db, page, found.further, bounds.max_photos)
            self._page_done(db, page, etag, modified)
            if cut:
                self._cut(db, page, bounds)
        return hosts

    def _add_further(self, db: sqlite3.Connection, page: PageRow, further: Sequence[PageLink], max_photos: int) -> None:
        """Add further pages of a gallery: no more than it may have photos, for each page shows one at least.

        A site that links to a next page for ever costs no more; the page that is one too many is a rejected row.
        """
        known = db.execute("SELECT count(*) FROM pages WHERE identity = ?", (page.identity,)).fetchone()[0]
        for place, link in enumerate(further):
            if known > max_photos:
                break
            one_too_many = Rejection(TOO_MANY_PAGES, known, max_photos) if known == max_photos else None
            known += self._add_page(db, link, _place_of(page, link, place), page.identity, one_too_many)

    def _add_photos(
        self, db: sqlite3.Connection, page: PageRow, photos: Sequence[PhotoLink], bounds: Bounds, rights: str | None
    ) -> tuple[list[str], bool]:
        """Add photos of one gallery page; returns their hosts, and whether the identity has its full number."""
        offered = db.execute("SELECT offered FROM identities WHERE id = ?", (page.identity,)).fetchone()[0]
        hosts = set()
        for place, photo in enumerate(photos):
            if offered >= bounds.max_photos:
                break
            if self._add_photo(db, page, step(step(page.path, 0), place), photo, bounds.min_res, rights):
                offered += 1
                hosts.add(origin(photo.url))
        db.execute("UPDATE identities SET offered = ? WHERE id = ?", (offered, page.identity))
        return sorted(hosts), offered >= bounds.max_photos

    def _add_photo(
        self, db: sqlite3.Connection, page: PageRow, path: bytes, photo: PhotoLink, min_res: int, rights: str | None
    ) -> bool:
        """Add one photo and say whether it is new; one whose stated size is too small is rejected unseen."""
        direct = None if rights is None else photo.url
        state, reason, detail = _unless(self.suppression.entry(photo.url))
        value, threshold = None, None
        if state == "pending" and photo.size is not None and min(photo.size) < min_res:
            state, reason, value, threshold = "rejected", TOO_SMALL, min(photo.size), min_res
        inserted = db.execute(
            "INSERT INTO photos (source, identity, path, link, url, page_url, host, rights, state, reason, detail,"
            " value, threshold) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self.source, page.identity, path, photo.url, direct, page.url, origin(photo.url), rights, state, reason,
             detail, value, threshold),
        )  # fmt: skip
        self.added += inserted.rowcount > 0 and state == "pending"
        return inserted.rowcount > 0

    def _cut(self, db: sqlite3.Connection, page: PageRow, bounds: Bounds) -> None:
        """Note that an identity has its full number: this page and further ones are read again if the limit grows."""
        why = (MAX_PHOTOS, bounds.max_photos, bounds.max_photos)
        db.execute("UPDATE pages SET reason = ?, value = ?, threshold = ? WHERE id = ?", (*why, page.id))
        db.execute(
            "UPDATE pages SET state = 'rejected', reason = ?, value = ?, threshold = ?"
            " WHERE identity = ? AND state = 'pending'",
            (*why, page.identity),
        )

    def _page_done(self, db: sqlite3.Connection, page: PageRow, etag: str | None, modified: str | None) -> None:
        db.execute(
            "UPDATE pages SET state = 'done', attempts = attempts + 1, reason = NULL, value = NULL, threshold = NULL,"
            " detail = NULL, etag = ?, modified = ? WHERE id = ?",
            (etag, modified, page.id),
        )

    def _add_page(
        self, db: sqlite3.Connection, link: PageLink, path: bytes, identity: int | None = None,
        why_not: Rejection | None = None,
    ) -> int:  # fmt: skip
        """Add a page, as a rejected row where `why_not` says why; returns 1 if it is new, else 0."""
        if link.slug is not None and identity is None:
            identity = self.identity(db, link.slug, path)
        state, reason, detail = _unless(self.suppression.entry(link.url, slug=link.slug))
        value = threshold = None
        if why_not is not None:
            state, reason, value, threshold = "rejected", why_not.reason, why_not.value, why_not.threshold
        return db.execute(
            "INSERT INTO pages (source, url, kind, host, path, identity, state, reason, detail, value, threshold)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                self.source,
                link.url,
                link.kind,
                origin(link.url),
                path,
                identity,
                state,
                reason,
                detail,
                value,
                threshold,
            ),
        ).rowcount

    def identity(self, db: sqlite3.Connection, slug: str, path: bytes, begin: str = "new") -> int:
        """Return the row of an identity of this site, added in state `begin` at the place `path` if it is new."""
        key = (self.site, slug)
        known = db.execute("SELECT id FROM identities WHERE site = ? AND slug = ?", key).fetchone()
        if known is not None:
            return int(known["id"])
        taken = db.execute("SELECT 1 FROM identities WHERE label = ?", (slug,)).fetchone()
        label = f"{self.site}:{slug}" if taken else slug
        state, reason = ("rejected", SUPPRESSED) if slug in self.suppression.slugs else (begin, None)
        insert = "INSERT INTO identities (site, slug, label, path, state, reason) VALUES (?, ?, ?, ?, ?, ?)"
        return int(db.execute(insert, (*key, label, path, state, reason)).lastrowid or 0)

    def page_unchanged(self, page: PageRow) -> None:
        """Note that a page is as it was when it was read before (304)."""
        with self.transaction() as db:
            db.execute("UPDATE pages SET state = 'done', attempts = attempts + 1 WHERE id = ?", (page.id,))

    def page_rejected(self, page: PageRow, why: Rejection) -> None:
        """Note that a page is refused; an identity that was not accepted yet goes with its first page.

        With an opt-out goes also what is still to be asked for of an identity that was accepted before.
        """
        values = (why.reason, why.value, why.threshold)
        with self.transaction() as db:
            self._end(db, "pages", page.id, "rejected", why)
            if page.identity is not None and not page.decided:
                db.execute(
                    "UPDATE identities SET state = 'rejected', reason = ?, value = ?, threshold = ? WHERE id = ?",
                    (*values, page.identity),
                )
            if page.identity is not None and why.reason == OPT_OUT:
                for table in ("pages", "photos"):
                    db.execute(
                        f"UPDATE {table} SET state = 'rejected', reason = ?, detail = ?"
                        " WHERE identity = ? AND state = 'pending'",
                        (OPT_OUT, _storable(why.detail), page.identity),
                    )

    def describe(self, page: PageRow, found: Gallery) -> None:
        """Note the name and announced number of an identity."""
        with self.transaction() as db:
            db.execute(
                "UPDATE identities SET name = coalesce(name, ?), announced = coalesce(?, announced) WHERE id = ?",
                (found.name, found.announced, page.identity),
            )

    # --- photos -------------------------------------------------------------------------------------------

    def photo_located(self, photo: PhotoRow, url: str, page_url: str, rights: str, go_on: bool) -> bool:
        """Note the image address found on a picture page.

        Args:
            photo: the claimed row.
            url: address of the image.
            page_url: address of the picture page after redirects.
            rights: what the page says of the rights.
            go_on: True keeps the photo in flight, False makes it pending for the image's host.

        Returns:
            False where the identity already has this address: the photo is rejected (`same_address`).
        """
        with self.transaction() as db:
            twin = "SELECT id FROM photos WHERE url = ? AND identity = ? AND id <> ? LIMIT 1"
            if db.execute(twin, (url, photo.identity, photo.id)).fetchone():
                self._end(db, "photos", photo.id, "rejected", Rejection(SAME_ADDRESS, detail=url))
                return False
            db.execute(
                "UPDATE photos SET url = ?, page_url = ?, rights = ?, host = ?, state = ? WHERE id = ?",
                (url, page_url, rights, origin(url), "in_flight" if go_on else "pending", photo.id),
            )
        return True

    def copy_outcome(self, photo: PhotoRow, min_res: int, max_bytes: int) -> bool:
        """Give a photo the outcome that its address already had under another identity; False where it had none.

        What another source refused counts for nothing here: it had thresholds and a time of its own. A photo that
        came from a file (its host is empty) may have been scaled down since it was at its address.

        Raises:
            Rejection: the photo is stored, but too small or too large for this crawl (`saved`: its bytes).
        """
        row = self._db.execute(
            "SELECT * FROM photos WHERE url = ? AND id <> ? AND host <> '' AND (state = 'done'"
            " OR state = 'rejected' AND source = ? AND reason NOT IN (?, ?)) ORDER BY state LIMIT 1",
            (photo.url, photo.id, self.source, SAME_ADDRESS, SUPPRESSED),
        ).fetchone()
        if row is None:
            return False
        if row["state"] == "done":
            _require_fit(row, min_res, max_bytes)
        copied = ("state", "reason", "value", "threshold", "detail", "sha256", "width", "height", "bytes",
                  "format", "fetched_at", "etag", "robots")  # fmt: skip
        settings = ", ".join(f"{column} = ?" for column in copied)
        with self.transaction() as db:
            db.execute(f"UPDATE photos SET {settings} WHERE id = ?", (*(row[column] for column in copied), photo.id))
        return True

    def photos_storing(self, photos: Sequence[Stored]) -> None:
        """Note what is about to get its final name; its bytes are on the disk."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE photos SET state = 'storing', sha256 = ?, width = ?, height = ?, bytes = ?, format = ?,"
                " fetched_at = ?, etag = ?, robots = ?, received = received + ?, attempts = attempts + 1,"
                " reason = NULL, value = NULL, threshold = NULL, detail = NULL WHERE id = ?",
                [(p.sha256, p.width, p.height, p.bytes, p.format, p.fetched_at, p.etag, p.robots, p.bytes, p.row)
                 for p in photos],
            )  # fmt: skip

    def photos_stored(self, photos: Sequence[Stored]) -> None:
        """Note that photos have their final names."""
        with self.transaction() as db:
            db.executemany("UPDATE photos SET state = 'done' WHERE id = ?", [(photo.row,) for photo in photos])

    def photo_rejected(self, photo: PhotoRow, why: Rejection) -> None:
        """Note that a photo is refused, the bytes that were read of it and those that were not."""
        with self.transaction() as db:
            self._end(db, "photos", photo.id, "rejected", why)
            counted = "UPDATE photos SET received = received + ?, saved = saved + ? WHERE id = ?"
            db.execute(counted, (why.received, why.saved, photo.id))

    # --- what pages and photos share ----------------------------------------------------------------------

    def failed(self, row: PageRow | PhotoRow, reason: str, detail: str) -> None:
        """Note that a row failed for this run; the next run asks again."""
        with self.transaction() as db:
            self._end(db, _table(row), row.id, "failed", Rejection(reason, detail=detail))
            if isinstance(row, PageRow):
                db.execute("UPDATE pages SET etag = NULL, modified = NULL WHERE id = ?", (row.id,))

    def retry(self, row: PageRow | PhotoRow, due: float, reason: str, detail: str) -> None:
        """Make a row pending again, not before `due`, with one try more on its account."""
        with self.transaction() as db:
            self._end(db, _table(row), row.id, "pending", Rejection(reason, detail=detail))
            db.execute(f"UPDATE {_table(row)} SET due = ?, tries = tries + 1 WHERE id = ?", (due, row.id))

    def release(self, row: PageRow | PhotoRow, due: float = 0.0) -> None:
        """Make a claimed row pending again as if it had not been claimed."""
        with self.transaction() as db:
            db.execute(f"UPDATE {_table(row)} SET state = 'pending', due = ? WHERE id = ?", (due, row.id))

    def release_all(self) -> None:
        """Make pending whatever this process has in flight, but not what is being stored."""
        with self.transaction() as db:
            for table in ("photos", "pages"):
                db.execute(f"UPDATE {table} SET state = 'pending' WHERE state = 'in_flight'")

    def open_photos(self) -> int:
        """Count the photos that are pending or in flight."""
        pending = "SELECT count(*) FROM photos WHERE source = ? AND state = 'pending'"
        under_way = "SELECT count(*) FROM photos WHERE state = 'in_flight' OR state = 'storing'"
        return _number(self._one(pending, self.source)) + _number(self._one(under_way))

    def under_way(self, limit: int) -> list[tuple[str, int, int]]:
        """Return (slug, photos settled, photos offered) of up to `limit` identities with photos in flight.

        Left out is one with more photos than a person has: a list without identities, which is the whole anyway.
        """
        rows = self._db.execute(
            "SELECT label, offered, (SELECT count(*) FROM photos WHERE identity = identities.id"
            " AND state NOT IN ('pending', 'in_flight', 'storing')) AS settled FROM identities WHERE id IN"
            " (SELECT identity FROM photos WHERE state = 'in_flight' OR state = 'storing') AND offered <= ?"
            " ORDER BY path LIMIT ?",
            (_PERSON, limit),
        )
        return [(row["label"], row["settled"], row["offered"]) for row in rows]

    def matched(self, kind: str) -> bool:
        """Say whether any page of a kind (or, for 'picture', any picture page) was ever read in this source."""
        if kind == "picture":
            query = "SELECT 1 FROM photos WHERE source = ? AND url IS NOT NULL LIMIT 1"
            return self._db.execute(query, (self.source,)).fetchone() is not None
        query = "SELECT 1 FROM pages WHERE source = ? AND kind = ? AND state = 'done' LIMIT 1"
        return self._db.execute(query, (self.source, kind)).fetchone() is not None

    def unfit(self) -> tuple[int, str]:
        """Return how many pages and photos fitted no selector, and what was said of the first."""
        count, detail = 0, ""
        for table in ("pages", "photos"):
            row = self._db.execute(
                f"SELECT count(*) AS number, min(detail) AS detail FROM {table}"
                " WHERE state = 'failed' AND reason = ? AND source = ?",
                (LAYOUT, self.source),
            ).fetchone()
            count, detail = count + row["number"], detail or row["detail"] or ""
        return count, detail

    def _end(self, db: sqlite3.Connection, table: str, row: int, state: str, why: Rejection) -> None:
        db.execute(
            f"UPDATE {table} SET state = ?, reason = ?, value = ?, threshold = ?, detail = ?, attempts = attempts + 1"
            " WHERE id = ?",
            (state, why.reason, why.value, why.threshold, _storable(why.detail), row),
        )

    def _one(self, query: str, *values: object) -> object:
        return self._db.execute(query, values).fetchone()[0]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _require_fit(stored: sqlite3.Row, min_res: int, max_bytes: int) -> None:
    short, size = min(stored["width"], stored["height"]), stored["bytes"]
    why = Rejection(TOO_SMALL, short, min_res) if short < min_res else Rejection(TOO_LARGE, size, max_bytes)
    if short < min_res or size > max_bytes:
        why.saved = size
        raise why


def _storable(text: str) -> str:
    """Return a text that may quote what a server sent as one that SQLite takes."""
    return text[:MAX_LENGTH].encode("utf-8", "replace").decode()


def _unless(entry: str | None) -> tuple[str, str | None, str | None]:
    """Return state, reason and detail of a new row: pending, unless an entry of suppress.txt names it."""
    return ("pending", None, None) if entry is None else ("rejected", SUPPRESSED, entry)


def _table(row: PageRow | PhotoRow) -> str:
    return "pages" if isinstance(row, PageRow) else "photos"


def _place_of(page: PageRow, link: PageLink, place: int) -> bytes:
    """Return the place of a link: children in order, then further pages of the same list by their number."""
    if link.kind != page.kind:
        return step(page.path, place)
    if link.number is not None and page.identity is not None:
        return step(page.root, link.number + 1)
    return step(page.path, _AFTER + (place if link.number is None else link.number))


def _page_row(row: sqlite3.Row) -> PageRow:
    return PageRow(
        row["id"], row["url"], row["kind"], row["path"], row["root"] or row["path"], row["identity"], row["slug"],
        row["identity_state"] == "accepted", row["tries"], row["etag"], row["modified"],
    )  # fmt: skip

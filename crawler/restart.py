"""What the begin of a run does to the frontier that an earlier run left.

The run may follow a process that died, other thresholds, another suppress.txt, or a wish to look again. Each
function is one transaction, and doing it twice changes nothing.
"""

import sqlite3
from collections.abc import Callable

from .address import origin
from .frontier import Frontier
from .outcome import (
    DECIDED_HERE,
    MAX_PHOTOS,
    NO_CONTACT,
    PRIVATE,
    ROBOTS,
    SUPPRESSED,
    TOO_FEW,
    TOO_LARGE,
    TOO_MANY_PAGES,
    TOO_SMALL,
)
from .rows import Bounds
from .suppress import Suppression

_AGAIN = "state = 'pending', due = 0, tries = 0, reason = NULL, value = NULL, threshold = NULL, detail = NULL"
_WHOLE = f"{_AGAIN}, etag = NULL, modified = NULL"
_NEW = "state = 'new', reason = NULL, value = NULL, threshold = NULL"


def recover(frontier: Frontier, exists: Callable[[str, str], bool]) -> None:
    """Take over from a process that died: what it had in flight is pending again.

    Args:
        frontier: the frontier; the caller holds the lock of the workspace.
        exists: says whether the file of (sha256, format) is there under its final name.
    """
    with frontier.transaction() as db:
        for row in db.execute("SELECT id, sha256, format FROM photos WHERE state = 'storing'").fetchall():
            state = "done" if exists(row["sha256"], row["format"]) else "pending"
            db.execute("UPDATE photos SET state = ? WHERE id = ?", (state, row["id"]))
        db.execute("UPDATE photos SET state = 'pending' WHERE state = 'in_flight'")
        db.execute("UPDATE pages SET state = 'pending' WHERE state = 'in_flight'")


def reconsider(frontier: Frontier, bounds: Bounds, max_bytes: int) -> None:
    """Make pending what failed in an earlier run, and what was rejected by a rule that may be another now.

    robots.txt, the contact and the addresses allowed are asked again before any request; thresholds are compared here.
    """
    source = (frontier.source,)
    with frontier.transaction() as db:
        for table in ("pages", "photos"):
            db.execute(f"UPDATE {table} SET {_AGAIN} WHERE state = 'failed' AND source = ?", source)
        _ask_again(db, frontier, (ROBOTS, PRIVATE, NO_CONTACT))
        rejected = f"UPDATE photos SET {_AGAIN} WHERE state = 'rejected' AND reason = ? AND source = ?"
        db.execute(f"{rejected} AND value >= ?", (TOO_SMALL, *source, bounds.min_res))
        db.execute(f"{rejected} AND value <= ?", (TOO_LARGE, *source, max_bytes))
        db.execute(
            f"UPDATE pages SET {_WHOLE} WHERE state IN ('done', 'rejected') AND reason IN (?, ?) AND value < ?"
            " AND source = ?",
            (MAX_PHOTOS, TOO_MANY_PAGES, bounds.max_photos, *source),
        )
        fitting = "SELECT id FROM identities WHERE state = 'rejected' AND reason = ? AND value >= ? AND site = ?"
        for row in db.execute(fitting, (TOO_FEW, bounds.min_photos, frontier.site)).fetchall():
            _anew(db, row["id"])


def ask_again(frontier: Frontier) -> None:
    """Make pending what a server or a page refused for good (`--retry-failed`); our own thresholds stay.

    An image that a picture page led to may have moved: the page is read again.
    """
    frontier.database.create_function("origin", 1, origin, deterministic=True)
    with frontier.transaction() as db:
        db.execute(
            "UPDATE photos SET url = NULL, host = origin(link) WHERE source = ? AND state = 'rejected'"
            " AND reason IN ('not_found', 'gone', 'forbidden', 'refused', 'not_an_image') AND url <> link",
            (frontier.source,),
        )
        rows = db.execute("SELECT DISTINCT reason FROM photos WHERE state = 'rejected' UNION"
                          " SELECT DISTINCT reason FROM pages WHERE state = 'rejected'").fetchall()  # fmt: skip
        _ask_again(db, frontier, tuple(row["reason"] for row in rows if row["reason"] not in DECIDED_HERE))


def _ask_again(db: sqlite3.Connection, frontier: Frontier, reasons: tuple[str, ...]) -> None:
    for reason in reasons:
        for table in ("pages", "photos"):
            db.execute(
                f"UPDATE {table} SET {_AGAIN} WHERE state = 'rejected' AND reason = ? AND source = ?",
                (reason, frontier.source),
            )
        db.execute(
            f"UPDATE identities SET {_NEW} WHERE state = 'rejected' AND reason = ? AND site = ?",
            (reason, frontier.site),
        )


def refresh(frontier: Frontier) -> None:
    """Make pending all pages that were read, to be asked for conditionally (`--refresh`).

    Identities that announced too few photos are decided again.
    """
    with frontier.transaction() as db:
        query = "UPDATE pages SET state = 'pending', due = 0, tries = 0 WHERE state = 'done' AND source = ?"
        db.execute(query, (frontier.source,))
        few = "SELECT id FROM identities WHERE state = 'rejected' AND reason = ? AND site = ?"
        for row in db.execute(few, (TOO_FEW, frontier.site)).fetchall():
            _anew(db, row["id"])


def suppress(frontier: Frontier, listed: Suppression, remove: Callable[[str, str], None]) -> None:
    """Obey suppress.txt in the whole workspace: rows are rejected, files that no other row needs are removed.

    What is no longer on the list comes back.

    Args:
        frontier: the frontier.
        listed: entries of suppress.txt.
        remove: removes the file of (sha256, format) if it is there.
    """
    with frontier.transaction() as db:
        _restore(db, listed)
        _reject(db, listed)
    orphans = (
        "SELECT DISTINCT sha256, format FROM photos AS gone WHERE state = 'rejected' AND reason = ?"
        " AND sha256 IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM photos WHERE photos.sha256 = gone.sha256 AND state = 'done')"
    )
    for row in frontier.database.execute(orphans, (SUPPRESSED,)).fetchall():
        remove(row["sha256"], row["format"])
    with frontier.transaction() as db:
        db.execute("UPDATE photos SET sha256 = NULL WHERE state = 'rejected' AND reason = ?", (SUPPRESSED,))


def _restore(db: sqlite3.Connection, listed: Suppression) -> None:
    query = "SELECT id, slug FROM identities WHERE state = 'rejected' AND reason = ?"
    for row in db.execute(query, (SUPPRESSED,)).fetchall():
        if row["slug"] not in listed.slugs:
            _anew(db, row["id"])
    for table in ("pages", "photos"):
        query = f"SELECT id, detail FROM {table} WHERE state = 'rejected' AND reason = ?"
        back = [(row["id"],) for row in db.execute(query, (SUPPRESSED,)) if row["detail"] not in listed.entries]
        db.executemany(f"UPDATE {table} SET {_AGAIN} WHERE id = ?", back)


def _reject(db: sqlite3.Connection, listed: Suppression) -> None:
    # The detail of a row is the entry that it is suppressed by: so it is known when that is taken back.
    why = f"state = 'rejected', reason = '{SUPPRESSED}', value = NULL, threshold = NULL, detail ="
    for slug in sorted(listed.slugs):
        db.execute(f"UPDATE identities SET state = 'rejected', reason = '{SUPPRESSED}' WHERE slug = ?", (slug,))
        for table in ("pages", "photos"):
            whose = "identity IN (SELECT id FROM identities WHERE slug = ?)"
            db.execute(f"UPDATE {table} SET {why} ? WHERE {whose}", (slug, slug))
    for digest in sorted(listed.hashes):
        db.execute(f"UPDATE photos SET {why} sha256 WHERE sha256 = ?", (digest,))
    if listed.addresses:
        db.execute("CREATE TEMP TABLE suppressed (address TEXT PRIMARY KEY) WITHOUT ROWID")
        db.executemany("INSERT INTO suppressed VALUES (?)", [(address,) for address in sorted(listed.addresses)])
        for table, columns in (("pages", ("url",)), ("photos", ("url", "link", "page_url"))):
            for column in columns:
                db.execute(f"UPDATE {table} SET {why} {column} WHERE {column} IN (SELECT address FROM suppressed)")
        db.execute("DROP TABLE suppressed")


def _anew(db: sqlite3.Connection, identity: int) -> None:
    """Let an identity that was rejected be decided again; its pages are read whole."""
    db.execute(f"UPDATE identities SET {_NEW} WHERE id = ?", (identity,))
    db.execute(f"UPDATE pages SET {_WHOLE} WHERE identity = ?", (identity,))

"""The tables of crawl.sqlite.

States of a page or photo: pending, in_flight, storing (photos: the bytes are on disk under a temporary name and
are being given their final one), done, rejected, failed. `due` is the time (Unix seconds) before which the
address is not asked again. `path` is the place in the document order of the whole site: big-endian numbers,
one for each level, so that comparing bytes compares places, whatever order the network answered in.

`written` has a row while images.parquet shows what the tables say: size and time of that file and its rows.
Triggers remove it with the first change, so that no change is overlooked.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..atomic import storage_errors
from ..errors import WorkspaceError

VERSION = 5

SCHEMA = """
CREATE TABLE IF NOT EXISTS hosts (
    host TEXT PRIMARY KEY,
    rate REAL, resume_at REAL NOT NULL DEFAULT 0,
    robots_status INTEGER, robots_body BLOB, robots_at REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS reservations (
    host TEXT PRIMARY KEY, status INTEGER NOT NULL, body BLOB NOT NULL, read_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS identities (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL, slug TEXT NOT NULL, label TEXT NOT NULL UNIQUE, name TEXT, path BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'new', announced INTEGER, offered INTEGER NOT NULL DEFAULT 0,
    reason TEXT, value REAL, threshold REAL,
    UNIQUE (site, slug)
);
CREATE INDEX IF NOT EXISTS identities_by_state ON identities (state);

CREATE TABLE IF NOT EXISTS pages (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL, url TEXT NOT NULL, kind TEXT NOT NULL, host TEXT NOT NULL, path BLOB NOT NULL,
    identity INTEGER REFERENCES identities (id),
    state TEXT NOT NULL DEFAULT 'pending', due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT, value REAL, threshold REAL, detail TEXT,
    etag TEXT, modified TEXT,
    UNIQUE (source, url)
);
CREATE INDEX IF NOT EXISTS pages_open ON pages (source, path) WHERE state IN ('pending', 'in_flight');
CREATE INDEX IF NOT EXISTS pages_open_of_identity ON pages (identity, path) WHERE state IN ('pending', 'in_flight');
CREATE INDEX IF NOT EXISTS pages_pending ON pages (source, host, due) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS pages_by_identity ON pages (identity);
CREATE INDEX IF NOT EXISTS pages_by_kind ON pages (source, kind, state);

CREATE TABLE IF NOT EXISTS photos (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL, identity INTEGER NOT NULL REFERENCES identities (id), path BLOB NOT NULL,
    link TEXT NOT NULL, url TEXT, page_url TEXT NOT NULL, host TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT, value REAL, threshold REAL, detail TEXT,
    sha256 TEXT, width INTEGER, height INTEGER, bytes INTEGER, format TEXT, fetched_at REAL, etag TEXT,
    robots TEXT, rights TEXT, received INTEGER NOT NULL DEFAULT 0, saved INTEGER NOT NULL DEFAULT 0,
    UNIQUE (identity, link)
);
CREATE INDEX IF NOT EXISTS photos_pending ON photos (source, host, due, id) WHERE state = 'pending';
DROP INDEX IF EXISTS photos_underway;
DROP INDEX IF EXISTS photos_unfinished;
-- With OR, not IN: only so does SQLite see that a query for one of the states may use the index.
CREATE INDEX IF NOT EXISTS photos_taken ON photos (state) WHERE state = 'in_flight' OR state = 'storing';
CREATE INDEX IF NOT EXISTS photos_ended ON photos (state, reason) WHERE state = 'rejected' OR state = 'failed';
CREATE INDEX IF NOT EXISTS photos_by_url ON photos (url) WHERE url IS NOT NULL;
CREATE TABLE IF NOT EXISTS lists (
    source TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (source, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS photos_by_sha256 ON photos (sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE IF NOT EXISTS written (file TEXT NOT NULL, photos INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS photo_changed AFTER UPDATE ON photos WHEN OLD.state = 'done' OR NEW.state = 'done'
    BEGIN DELETE FROM written; END;
CREATE TRIGGER IF NOT EXISTS photo_added AFTER INSERT ON photos WHEN NEW.state = 'done'
    BEGIN DELETE FROM written; END;
CREATE TRIGGER IF NOT EXISTS photo_gone AFTER DELETE ON photos WHEN OLD.state = 'done'
    BEGIN DELETE FROM written; END;
CREATE TRIGGER IF NOT EXISTS identity_renamed AFTER UPDATE OF label, name, path ON identities
    WHEN OLD.label <> NEW.label OR OLD.name IS NOT NEW.name OR OLD.path <> NEW.path
    BEGIN DELETE FROM written; END;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open crawl.sqlite, making it when it is missing; the caller begins and ends transactions.

    Durability: WAL with synchronous=NORMAL. A killed process loses nothing; a power cut may lose the last
    transactions, never their order, and photos are on the disk before the transaction that says so.

    Raises:
        WorkspaceError: the file cannot be opened, is no frontier, or is from a newer bolid.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        _prepare(database, path)
    except sqlite3.Error as error:
        raise WorkspaceError(
            f"cannot open the frontier {path}: {error}; check the file or choose another -w"
        ) from error
    return database


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction: all of it or nothing.

    Raises:
        WorkspaceError: the file cannot be written: a full disk, or another program that holds it.
    """
    try:
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("COMMIT")
    except BaseException as error:
        if database.in_transaction:  # SQLite itself rolls back when the disk is full
            database.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            file = database.execute("PRAGMA database_list").fetchone()["file"]
            raise WorkspaceError(
                f"cannot write the frontier {file}: {error}; free some space, or end the program that has it open, "
                "and run the same command again"
            ) from error
        raise


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        database.close()
        raise WorkspaceError(
            f"{path} was written by a newer bolid (format {version}); update bolid or choose another -w"
        )
    if version < VERSION:
        database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

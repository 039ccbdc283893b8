"""images.parquet: one row a stored photo address, written from the frontier at any time."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import atomic
from ..workspace import Workspace
from .schema import connect

if TYPE_CHECKING:
    import pyarrow

COLUMNS = (
    "sha256", "identity", "identity_name", "url", "page_url", "width", "height", "bytes", "format", "fetched_at",
    "etag", "robots", "rights",
)  # fmt: skip
_FORMAT = 1  # grows when what is written for the same photos changes
_ROWS = 20_000  # of one row group


def write_images_table(workspace: Workspace) -> int:
    """Write `images.parquet` from the frontier, whole or not at all, and return its number of rows.

    A file that already shows what the frontier says is left as it is: a million rows take half a minute.
    Rows are in document order of the site, so that the same photos give the same file.

    Raises:
        WorkspaceError: there is no crawl in this workspace, or it cannot be written.
    """
    database = connect(workspace.required(workspace.frontier, "bolid crawl"))
    try:
        database.execute("BEGIN IMMEDIATE")  # nothing changes between the rows and the note that they are written
        fresh = "SELECT photos FROM written WHERE file = ?"
        row = database.execute(fresh, (_file_mark(workspace.images_table),)).fetchone()
        if row is not None:
            return int(row["photos"])
        count = _write(database, workspace.images_table)
        database.execute("DELETE FROM written")
        database.execute("INSERT INTO written VALUES (?, ?)", (_file_mark(workspace.images_table), count))
        database.execute("COMMIT")
        return count
    finally:
        database.close()


def _write(database: sqlite3.Connection, file: Path) -> int:
    import pyarrow.parquet as pq

    schema, count = _schema(), 0
    with atomic.replacing(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in _batches(database, schema):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _file_mark(file: Path) -> str | None:
    """Return what changes with the content of a file and with what bolid writes into it; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return f"{_FORMAT} {found.st_size} {found.st_mtime_ns}"


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    types = {"width": pa.int32(), "height": pa.int32(), "bytes": pa.int64(), "fetched_at": pa.timestamp("us", "UTC")}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


def _batches(database: sqlite3.Connection, schema: "pyarrow.Schema") -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow as pa

    rows = database.execute(
        "SELECT sha256, label, coalesce(name, label), url, page_url, width, height, bytes, format,"
        " CAST(fetched_at * 1000000 AS INTEGER), etag, robots, rights"
        " FROM photos JOIN identities ON identities.id = photos.identity"
        " WHERE photos.state = 'done' ORDER BY identities.path, identities.id, photos.path, photos.id"
    )
    rows.row_factory = None
    while batch := rows.fetchmany(_ROWS):
        columns = zip(zip(*batch, strict=True), schema.types, strict=True)
        yield pa.record_batch([pa.array(values, kind) for values, kind in columns], schema=schema)

"""The curated table as the packer sees it: the kept photos, sorted, checked."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DataError
from ..workspace import Workspace
from .record import OPTIONAL_COLUMNS, REQUIRED_COLUMNS

EXTENSIONS = {"jpeg": "jpg"}
"""Formats whose files end otherwise than the format is called."""


def kept_photos(path: Path) -> pa.Table:
    """Read the rows with `keep`, sorted by (identity, sha256), only the columns that a sample is made of.

    Raises:
        DataError: a column is missing, nothing is kept, or a photo appears twice under one identity.
    """
    known = pq.read_schema(path).names
    missing = sorted(set(REQUIRED_COLUMNS) - set(known))
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; write it again with: bolid curate")
    columns = [column for column in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if column in known]
    table = pq.read_table(path, columns=columns, filters=pc.field("keep"))
    if not table.num_rows:
        raise DataError(
            f"{path} keeps no photo; see report.html for the reasons, loosen them and run bolid curate again"
        )
    _require_unique(table, path)
    order: pa.Table = table.sort_by([("identity", "ascending"), ("sha256", "ascending")]).combine_chunks()
    return order


def fingerprint(photos: pa.Table) -> str:
    """Return the sha256 of a table's content, hexadecimal."""
    digest = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, photos.replace_schema_metadata().schema) as stream:
        stream.write_table(photos.replace_schema_metadata())
    digest.update(sink.getvalue())
    return digest.hexdigest()


def extension(picture_format: str) -> str:
    """Return the file name extension of a picture format: `jpg` for `JPEG`."""
    name = picture_format.lower()
    return EXTENSIONS.get(name, name)


def require_images(workspace: Workspace, photos: pa.Table) -> None:
    """Check that every photo's file is there, before anything is written.

    Raises:
        DataError: files are missing; the first one and their number are named.
    """
    pairs = zip(photos["sha256"].to_pylist(), photos["format"].to_pylist(), strict=True)
    missing = [path for sha256, name in pairs if not (path := workspace.image(sha256, extension(name))).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {photos.num_rows} kept photos have no file, the first is {missing[0]}; "
            "crawl again or restore them, then run: bolid curate"
        )


def _require_unique(table: pa.Table, path: Path) -> None:
    counted = table.group_by(["identity", "sha256"]).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if twice.num_rows:
        raise DataError(
            f"{path} keeps the photo {twice['sha256'][0]} of {twice['identity'][0]} "
            f"{twice['count_all'][0]} times; write it again with: bolid curate"
        )

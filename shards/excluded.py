"""Photos that no pack may ever write again, by the sha256 of their bytes.

A sample that was retired for another reason than the curation (somebody asked to be forgotten, a right was withdrawn)
leaves the tars and the index with the next repack; this list stays. It says which bytes and why, and nothing about
whose they are.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .. import atomic
from ..errors import DataError
from .schema import EXCLUDED_FILE
from .store import Store

RETIRED_BY_CURATION = "curation"
"""Why a sample is retired that the curation no longer keeps; it comes back when the curation keeps it again."""

_SCHEMA = pa.schema([pa.field("sha256", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])


def read_excluded(store: Store) -> dict[str, str]:
    """Return the reason of every excluded sha256 (hexadecimal); empty where a dataset has no list.

    Raises:
        DataError: the list cannot be read; packing on without it could bring back what must not come back.
    """
    if not store.exists(EXCLUDED_FILE):
        return {}
    try:
        table = pq.read_table(io.BytesIO(store.read(EXCLUDED_FILE)))
        return dict(zip(table["sha256"].to_pylist(), table["reason"].to_pylist(), strict=True))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"{store.name}/{EXCLUDED_FILE} cannot be read ({error}); restore it from a copy: it lists the photos that "
            "must not come back"
        ) from error


def write_excluded(folder: Path, excluded: Mapping[str, str]) -> None:
    """Write the list, whole or not at all; the same list gives the same bytes."""
    rows = sorted(excluded.items())
    columns = [[sha256 for sha256, _ in rows], [reason for _, reason in rows]]
    with atomic.replacing(folder / EXCLUDED_FILE) as temporary:
        pq.write_table(pa.table(columns, schema=_SCHEMA), temporary)


def withdrawn(index: pa.Table) -> dict[str, str]:
    """Return sha256 and reason of the samples that an index retires for another reason than the curation."""
    reasons = index["retired_reason"].cast(pa.string())
    gone = index.filter(pc.and_(index["retired"], pc.not_equal(reasons, RETIRED_BY_CURATION)))
    return dict(zip(gone["sha256"].to_pylist(), gone["retired_reason"].cast(pa.string()).to_pylist(), strict=True))

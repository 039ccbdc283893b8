"""The ledger: every score that was ever computed, so that none is computed twice.

The scores of a stage are the folder `<stage>/<fingerprint>/` of Parquet parts, each written whole or not at all. A
photo whose scoring fails is not in the ledger: it is tried again next time. Batches are small so that a crash costs
little; their parts are put together when a run is done, so that the next one opens few files.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .. import atomic
from .stage import Stage

MANY = 32
"""Small parts of a stage that are worth putting together."""
SMALL_ROWS = 4096
"""Scores of a part that is small."""
_TRIES = 3
_ROWS = 2048
"""Scores that are read and written at a time."""
_LARGE = 4 << 20
"""Bytes of a file that is not read in one go."""


def scores_of(ledger: Path, stage: Stage, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield all scores of a stage in tables of some thousand rows; a photo may have two rows, which say the same.

    Args:
        ledger: folder of all stages' results.
        stage: whose schema the tables have.
        columns: of the schema, in its order; None = all.
    """
    return _together(_listed(ledger, stage, columns))


def _listed(ledger: Path, stage: Stage, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    read: set[Path] = set()
    for tries in range(_TRIES):
        try:
            for part in sorted(_folder(ledger, stage).glob("part-*.parquet")):
                if part not in read:
                    yield from _read(part, stage, columns)
                    read.add(part)
        except FileNotFoundError:  # put together with others since it was listed, by a curation that just ended
            if tries + 1 == _TRIES:
                raise
        else:
            return


def compact(ledger: Path, stage: Stage) -> None:
    """Put small parts together, if there are many. Killed in between, both the parts and what they became are there.

    Raises:
        WorkspaceError: the disk refuses.
    """
    parts = sorted(_folder(ledger, stage).glob("part-*.parquet"))
    small = [part for part in parts if pq.read_metadata(part).num_rows < SMALL_ROWS]
    if len(small) < MANY:
        return
    members: set[str] = set()
    for part in small:
        for table in _read(part, stage, ["sha256"]):
            members.update(table["sha256"].to_pylist())
    path = _folder(ledger, stage) / _name(members)
    with atomic.replacing(path) as temporary, pq.ParquetWriter(temporary, stage.schema) as out:
        for table in _together(table for part in small for table in _read(part, stage)):
            first = [row for row, sha256 in enumerate(table["sha256"].to_pylist()) if _popped(members, sha256)]
            out.write_table(table.take(pa.array(first, pa.int64())))
    for part in small:
        if part != path:
            part.unlink()


def _popped(members: set[str], sha256: str) -> bool:
    """Remove a member and say whether it was one."""
    found = sha256 in members
    members.discard(sha256)
    return found


def _read(part: Path, stage: Stage, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield what a file holds, a large one piece by piece."""
    schema = stage.schema if columns is None else pa.schema([stage.schema.field(name) for name in columns])
    if part.stat().st_size <= _LARGE:
        with pq.ParquetFile(part) as file:  # a quarter of the time of pq.read_table for a small file
            yield file.read(columns=schema.names, use_threads=False).cast(schema)
        return
    # Streamed, for else Arrow holds a whole row group of the file, of which there may be but one.
    with pq.ParquetFile(part, pre_buffer=False, buffer_size=1 << 18) as file:
        for batch in file.iter_batches(_ROWS, columns=schema.names, use_threads=False):
            yield pa.Table.from_batches([batch]).cast(schema)


def _together(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of `_ROWS` rows or a few more."""
    pending: list[pa.Table] = []
    count = 0
    for table in tables:
        pending.append(table)
        count += table.num_rows
        if count >= _ROWS:
            yield pa.concat_tables(pending).combine_chunks()
            pending, count = [], 0
    if count:
        yield pa.concat_tables(pending).combine_chunks()


def write_part(ledger: Path, stage: Stage, scores: pa.Table) -> Path:
    """Add scores and return the file; it is named by its photos, so the same ones never lie there twice.

    Raises:
        WorkspaceError: the disk refuses.
    """
    path = _folder(ledger, stage) / _name(scores["sha256"].to_pylist())
    with atomic.replacing(path) as temporary:
        pq.write_table(scores, temporary)
    return path


def _name(members: Iterable[str]) -> str:
    return f"part-{hashlib.sha256(''.join(sorted(members)).encode()).hexdigest()[:16]}.parquet"


def _folder(ledger: Path, stage: Stage) -> Path:
    return ledger / stage.key.name / stage.key.fingerprint

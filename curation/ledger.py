"""The ledger: every score that was ever computed, so that none is computed twice.

The scores of a stage are the folder `<stage>/<fingerprint>/` of Parquet parts, each written whole or not at all. A
photo whose scoring fails is not in the ledger: it is tried again next time. Batches are small so that a crash costs
little; their parts are put together when a run is done, so that the next one opens few files.
"""

import hashlib
from collections.abc import Sequence
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


def read_parts(ledger: Path, stage: Stage) -> pa.Table:
    """Return all scores of a stage, with the columns of its schema; a photo may have two rows, which say the same."""
    for _ in range(_TRIES - 1):
        try:
            return _read(sorted(_folder(ledger, stage).glob("part-*.parquet")), stage)
        except FileNotFoundError:  # put together with others since it was listed, by a curation that just ended
            continue
    return _read(sorted(_folder(ledger, stage).glob("part-*.parquet")), stage)


def compact(ledger: Path, stage: Stage) -> None:
    """Put small parts together, if there are many. Killed in between, both the parts and what they became are there.

    Raises:
        WorkspaceError: the disk refuses.
    """
    parts = sorted(_folder(ledger, stage).glob("part-*.parquet"))
    small = [part for part in parts if pq.read_metadata(part).num_rows < SMALL_ROWS]
    if len(small) < MANY:
        return
    scores = _read(small, stage)
    first_rows = {sha256: row for row, sha256 in reversed(list(enumerate(scores["sha256"].to_pylist())))}
    merged = write_part(ledger, stage, scores.take(pa.array(sorted(first_rows.values()), pa.int64())))
    for part in small:
        if part != merged:
            part.unlink()


def _read(parts: Sequence[Path], stage: Stage) -> pa.Table:
    tables = [stage.schema.empty_table()]
    for part in parts:
        with pq.ParquetFile(part) as file:  # a quarter of the time of pq.read_table for a small file
            tables.append(file.read(use_threads=False).cast(stage.schema))
    return pa.concat_tables(tables).combine_chunks()


def write_part(ledger: Path, stage: Stage, scores: pa.Table) -> Path:
    """Add scores and return the file; it is named by its photos, so the same ones never lie there twice.

    Raises:
        WorkspaceError: the disk refuses.
    """
    members = "".join(sorted(scores["sha256"].to_pylist()))
    name = f"part-{hashlib.sha256(members.encode()).hexdigest()[:16]}.parquet"
    path = _folder(ledger, stage) / name
    with atomic.replacing(path) as temporary:
        pq.write_table(scores, temporary)
    return path


def _folder(ledger: Path, stage: Stage) -> Path:
    return ledger / stage.key.name / stage.key.fingerprint

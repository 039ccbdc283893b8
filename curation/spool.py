"""Tables that do not fit into memory: what is large goes into a file that is mapped, so that only what is looked at is.

The file never has a name, so however a run ends, nothing of it stays behind.
"""

import mmap
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .. import atomic

HELD = 4 << 20
"""Bytes of a table up to which it stays in memory."""
ROWS = 1024
"""Least rows of a batch, but for the last."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """A table in batches, in memory or in a mapped file; its rows are taken by number."""

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    starts: Places = field(init=False)

    def __post_init__(self) -> None:
        """Note where each batch begins."""
        object.__setattr__(self, "starts", np.cumsum([0, *(batch.num_rows for batch in self.batches)]))

    @property
    def table(self) -> pa.Table:
        """All rows, not copied."""
        return pa.Table.from_batches(self.batches, self.schema)

    def take(self, rows: Places, columns: list[str]) -> pa.Table:
        """Copy some columns of the rows with these numbers `[k]`, in this order.

        Arrow's own `take` would first put all batches of a table together, in memory.
        """
        schema = pa.schema([self.schema.field(name) for name in columns])
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        cuts = np.searchsorted(ascending, self.starts)
        taken = [
            self.batches[at].select(columns).take(pa.array(ascending[cuts[at] : cuts[at + 1]] - self.starts[at]))
            for at in np.flatnonzero(np.diff(cuts))
        ]
        found = pa.Table.from_batches(taken, schema).combine_chunks()
        if (order[:-1] < order[1:]).all():
            return found
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return found.take(pa.array(back))


def stored(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path) -> Stored:
    """Store tables of one schema, one after the other.

    Args:
        tables: of any number of rows.
        schema: theirs.
        folder: on whose disk the rows lie that memory does not hold; one that cannot be written is replaced by the
            system's folder for temporary files.

    Raises:
        WorkspaceError: the disk is full.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    file: IO[bytes] | None = None
    writer: pa.ipc.RecordBatchFileWriter | None = None
    fixed = any(pa.types.is_dictionary(column) for column in schema.types)  # a file has one dictionary a column
    for batch in _batches(tables):
        held.append(batch)
        size += batch.nbytes
        if size > HELD and not fixed:
            if file is None or writer is None:
                file = _nameless(folder)
                writer = pa.ipc.new_file(file, schema)
            with atomic.storage_errors(folder):
                for each in held:
                    writer.write_batch(each)
            held.clear()
    if file is None or writer is None:
        return Stored(schema, held)
    with file, atomic.storage_errors(folder):
        for each in held:
            writer.write_batch(each)
        writer.close()
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(mapped))
    return Stored(schema, [reader.get_batch(number) for number in range(reader.num_record_batches)])


def _batches(tables: Iterable[pa.Table]) -> Iterable[pa.RecordBatch]:
    """Yield the rows of tables in batches of `ROWS` or more; the last may have fewer."""
    pending: list[pa.Table] = []
    count = 0
    for table in tables:
        pending.append(table)
        count += table.num_rows
        if count >= ROWS:
            yield from _together(pending)
            pending, count = [], 0
    if count:
        yield from _together(pending)


def _together(tables: list[pa.Table]) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = pa.concat_tables(tables).combine_chunks().to_batches()
    return batches


def _nameless(folder: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder, prefix=".scores.", suffix=atomic.TEMPORARY_SUFFIX)
    except OSError:  # not there, or not ours to write, as for --what-if on somebody else's workspace
        return tempfile.TemporaryFile()

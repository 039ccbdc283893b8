"""The index of a dataset: a row a sample, and the look-ups that readers need."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DataError, UsageError
from .columns import flags, gathered, values_of
from .manifest import Manifest
from .schema import INDEX_FILE, MANIFEST_FILE, PARTS, SPLITS
from .store import Store, open_store

Integers = npt.NDArray[np.int64]

HASHED = ("identity", "number", "width", "height", "image_size")
"""Columns that tell which photo a row is, among those that every reader has at hand."""


def read_index(
    shards: Path | str, split: str | None = None, *, retired: bool = False, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the index of a dataset, sorted by (identity, number); columns as in `schema.INDEX_SCHEMA`.

    Args:
        shards: folder or address of the dataset.
        split: only this split.
        retired: also the rows that every reader skips.
        columns: only these.

    Raises:
        DataError: there is no finished dataset, or its index is damaged.
        UsageError: there is no such split.
    """
    return load_index(open_store(shards), split, retired=retired, columns=columns)


def load_index(
    store: Store, split: str | None = None, *, retired: bool = False, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the index of an open store, see `read_index`."""
    if split is not None and split not in SPLITS:
        raise UsageError(f"there is no split '{split}'; choose one of {', '.join(SPLITS)}")
    try:
        with store.open(INDEX_FILE) as source:
            file = pq.ParquetFile(source)
            wanted = list(columns or file.schema_arrow.names)
            _require_columns(store, file, wanted)
            schema = pa.schema([file.schema_arrow.field(name) for name in wanted])
            groups = (_chosen(file, group, wanted, split, retired) for group in range(file.num_row_groups))
            index = gathered(groups, schema, file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        advice = "check the address and the network, or run" if "://" in store.name else "run"
        raise DataError(f"{store.name}/{INDEX_FILE} cannot be read ({error}); {advice} bolid pack again") from error
    pa.default_memory_pool().release_unused()  # of a large index, reading leaves as much again
    return index


def part_digests(store: Store, identity: int, number: int) -> list[bytes]:
    """Return the sha256 of the parts of one sample, in the order of `PARTS`; none when the index does not hold it."""
    names = [f"{part}_sha256" for part in PARTS]
    with store.open(INDEX_FILE) as source:
        file = pq.ParquetFile(source)
        for group in range(file.num_row_groups):
            keys = file.read_row_group(group, columns=["identity", "number"])
            found = np.flatnonzero((column(keys, "identity") == identity) & (column(keys, "number") == number))
            if len(found):
                [row] = file.read_row_group(group, columns=names).slice(int(found[0]), 1).to_pylist()
                return [row[name] for name in names]
    return []


def whole(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece, without a copy where it lies in one piece."""
    chunks = table[name].chunks
    return chunks[0] if len(chunks) == 1 else table[name].unify_dictionaries().combine_chunks()


def column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Return a column of numbers or flags as an array, without a copy where the table lies in one piece."""
    chunks = table[name].chunks
    if table[name].null_count:
        raise DataError(f"the column {name} of an index has empty places; write the dataset again with: bolid pack")
    if len(chunks) == 1:
        return values_of(chunks[0])
    return np.concatenate([values_of(chunk) for chunk in chunks]) if chunks else np.asarray(table[name].to_numpy())


def read_manifest(shards: Path | str) -> Manifest:
    """Return the manifest of a dataset.

    Raises:
        DataError: there is no finished dataset, or its manifest is damaged.
    """
    store = open_store(shards)
    return Manifest.parse(store.read(MANIFEST_FILE), f"{store.name}/{MANIFEST_FILE}")


@dataclass(frozen=True)
class Runs:
    """The identities of a table and where their rows are: run k is the identity `identities[k]` with
    `counts[k]` rows, which are `rows[starts[k] : starts[k] + counts[k]]`."""

    identities: Integers
    starts: Integers
    counts: Integers
    rows: Integers

    @classmethod
    def of(cls, identity: npt.NDArray[np.integer]) -> "Runs":
        """Group the rows of an identity column."""
        rows, ordered = row_numbers(len(identity)), identity
        if not _ascending(identity):
            rows = np.argsort(identity, kind="stable")
            ordered = identity[rows]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
        counts = np.diff(np.r_[starts, len(ordered)])
        return cls(ordered[starts].astype(np.int64), starts, counts, rows)

    def of_identity(self, identity: int) -> Integers:
        """Return the rows of one identity, none when the table does not hold it."""
        run = int(np.searchsorted(self.identities, identity))
        if run == len(self.identities) or self.identities[run] != identity:
            return np.zeros(0, np.int64)
        return self.rows[self.starts[run] : self.starts[run] + self.counts[run]]


def index_hash(index: pa.Table) -> str:
    """Return a digest of which live photos a table holds and in which order.

    A dataset that is packed anew may give the same numbers to other photos; these differ in their sizes.
    """
    digest = hashlib.blake2b(digest_size=16)
    rows = live(index, HASHED)
    for name in rows.column_names:
        digest.update(np.ascontiguousarray(column(rows, name)).data)
    return digest.hexdigest()


def row_numbers(count: int) -> Integers:
    """Return 0 … count - 1; of an index with many rows as narrow numbers, because several of these are kept."""
    narrow: npt.NDArray[Any] = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
    return narrow


def live(index: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the rows that are not retired (all, where the table does not say), of these columns those that it has."""
    rows = index.select([name for name in columns if name in index.column_names])
    if "retired" not in index.column_names:
        return rows
    retired = column(index, "retired")
    return rows.filter(flags(~retired)) if retired.any() else rows


def find_rows(index: pa.Table, name: str) -> pa.Table:
    """Return the rows of a sample key, an identity's slug or an identity's number.

    Raises:
        UsageError: nothing has that name.
    """
    condition = (pc.field("key") == name) | (pc.field("identity_slug").cast(pa.string()) == name)
    if name.isdecimal():
        condition |= pc.field("identity") == int(name)
    found: pa.Table = index.filter(condition)
    if not found.num_rows:
        raise UsageError(f"the dataset holds no sample or identity '{name}'; list them with: bolid shards stats")
    return found


def _chosen(file: pq.ParquetFile, group: int, wanted: list[str], split: str | None, retired: bool) -> pa.Table:
    """Read the rows of a row group that a reader asked for."""
    conditions = [*(["split"] if split else []), *([] if retired else ["retired"])]
    table = file.read_row_group(group, columns=[*wanted, *(name for name in conditions if name not in wanted)])
    keep = np.ones(table.num_rows, bool)
    if split:
        keep &= _equals(table["split"].combine_chunks(), split)
    if not retired:
        keep &= ~column(table, "retired")
    table = table.select(wanted)
    return table if keep.all() else table.filter(flags(keep))


def _require_columns(store: Store, file: pq.ParquetFile, wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise DataError(
            f"{store.name}/{INDEX_FILE} has no column {', '.join(missing)}: it was written by an early draft of bolid; "
            "write the dataset again with: bolid pack --repack"
        )


def _equals(words: pa.DictionaryArray, word: str) -> npt.NDArray[np.bool_]:
    numbers = words.dictionary.to_pylist()
    found = numbers.index(word) if word in numbers else -1
    equal: npt.NDArray[np.bool_] = values_of(words.indices) == found
    return equal


def _ascending(values: npt.NDArray[np.integer]) -> bool:
    return bool((values[1:] >= values[:-1]).all())

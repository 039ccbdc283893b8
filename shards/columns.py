"""Tables put together from pieces in memory that is touched once.

Joining the row groups of a large index with Arrow holds all of it twice and writes it twice. Here each column of
fixed width has its final place from the beginning, and a row group is gone before the next one is read. `pa.array`
and `to_numpy` are avoided because they import pandas: half a second and 50 MB.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def gathered(pieces: Iterable[pa.Table], schema: pa.Schema, capacity: int) -> pa.Table:
    """Return the pieces as one table in which every column lies in one piece.

    Args:
        pieces: tables with the columns of `schema`, without nulls.
        schema: of the result.
        capacity: rows that the pieces have at most.
    """
    columns = [_column(field.type, capacity) for field in schema]
    for piece in pieces:
        for column, values in zip(columns, piece.columns, strict=True):
            for chunk in values.chunks:
                column.add(chunk)
    return pa.Table.from_arrays([column.array() for column in columns], schema=schema)


def flags(values: npt.NDArray[np.bool_]) -> pa.BooleanArray:
    """Return flags as an Arrow array, a bit each."""
    return pa.Array.from_buffers(
        pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little").tobytes())]
    )


def values_of(array: pa.Array) -> npt.NDArray[Any]:
    """Return the numbers or flags of an Arrow array without nulls; numbers without a copy."""
    data, begin, end = array.buffers()[1], array.offset, array.offset + len(array)
    if not len(array):
        return np.empty(0, bool if pa.types.is_boolean(array.type) else _dtype(array.type))
    if pa.types.is_boolean(array.type):
        first = begin // 8
        packed = np.frombuffer(data, np.uint8, -(-end // 8) - first, first)
        return np.unpackbits(packed, bitorder="little")[begin % 8 : begin % 8 + len(array)].view(bool)
    type_ = np.dtype(_dtype(array.type))
    return np.frombuffer(data, type_, len(array), begin * type_.itemsize)


def _dtype(type_: pa.DataType) -> npt.DTypeLike:
    kind = "f" if pa.types.is_floating(type_) else "u" if pa.types.is_unsigned_integer(type_) else "i"
    return f"{kind}{type_.bit_width // 8}"


def _column(type_: pa.DataType, capacity: int) -> "Numbers | Flags | Bytes | Words | Other":
    if pa.types.is_dictionary(type_):
        return Words(type_, capacity)
    if pa.types.is_fixed_size_binary(type_):
        return Bytes(type_, capacity)
    if pa.types.is_boolean(type_):
        return Flags(capacity)
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return Numbers(type_, capacity)
    return Other(type_)


class Numbers:
    """A column of numbers."""

    def __init__(self, type_: pa.DataType, capacity: int) -> None:
        self._type, self._count = type_, 0
        self._values: npt.NDArray[Any] = np.empty(capacity, _dtype(type_))

    def add(self, chunk: pa.Array) -> None:
        """Append a chunk."""
        self.extend(values_of(chunk))

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append numbers."""
        self._values[self._count : self._count + len(values)] = values
        self._count += len(values)

    def array(self) -> pa.Array:
        """Return the column, without a copy."""
        return pa.Array.from_buffers(self._type, self._count, [None, pa.py_buffer(self._values[: self._count])])


class Flags(Numbers):
    """A column of flags."""

    def __init__(self, capacity: int) -> None:
        super().__init__(pa.uint8(), capacity)

    def add(self, chunk: pa.Array) -> None:
        """Append a chunk."""
        self.extend(values_of(chunk))

    def array(self) -> pa.Array:
        """Return the column, a bit a row."""
        return flags(self._values[: self._count].view(bool))


class Bytes:
    """A column of byte strings of one length."""

    def __init__(self, type_: pa.DataType, capacity: int) -> None:
        self._type, self._count = type_, 0
        self._values = np.empty((capacity, type_.byte_width), np.uint8)

    def add(self, chunk: pa.Array) -> None:
        """Append a chunk."""
        width = self._type.byte_width
        data = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        self._values[self._count : self._count + len(chunk)] = data.reshape(-1, width)
        self._count += len(chunk)

    def array(self) -> pa.Array:
        """Return the column, without a copy."""
        data = pa.py_buffer(self._values[: self._count])
        return pa.Array.from_buffers(self._type, self._count, [None, data])


class Words:
    """A column of few different words: numbers that point into their list."""

    def __init__(self, type_: pa.DataType, capacity: int) -> None:
        self._type, self._numbers = type_, Numbers(type_.index_type, capacity)
        self._known: dict[Any, int] = {}
        self._words: list[pa.Array] = []

    def add(self, chunk: pa.DictionaryArray) -> None:
        """Append a chunk."""
        places = [self._known.setdefault(word, len(self._known)) for word in chunk.dictionary.to_pylist()]
        self._numbers.extend(np.array(places, np.int64)[values_of(chunk.indices)])
        self._words = [pc.unique(pa.concat_arrays([*self._words, chunk.dictionary]))]

    def array(self) -> pa.Array:
        """Return the column, its numbers without a copy."""
        words = self._words[0] if self._words else pa.array([], self._type.value_type)
        return pa.DictionaryArray.from_arrays(self._numbers.array(), words)


class Other:
    """A column of another kind, joined by Arrow."""

    def __init__(self, type_: pa.DataType) -> None:
        self._type = type_
        self._chunks: list[pa.Array] = []

    def add(self, chunk: pa.Array) -> None:
        """Append a chunk."""
        self._chunks.append(chunk)

    def array(self) -> pa.Array:
        """Return the column."""
        return pa.concat_arrays(self._chunks) if self._chunks else pa.array([], self._type)

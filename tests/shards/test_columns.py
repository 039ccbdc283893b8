"""Columns gathered piece by piece are what Arrow would join."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from bolid.shards import PackSummary
from bolid.shards.columns import flags, gathered, values_of

SCHEMA = pa.schema(
    [
        pa.field("count", pa.int16()),
        pa.field("place", pa.int64()),
        pa.field("share", pa.float32()),
        pa.field("flag", pa.bool_()),
        pa.field("digest", pa.binary(3)),
        pa.field("word", pa.dictionary(pa.int32(), pa.string())),
        pa.field("text", pa.string()),
    ]
)


def table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    words = [f"word {number}" for number in random.permutation(6)]
    columns = {
        "count": random.integers(-9, 9, rows),
        "place": random.integers(0, 2**60, rows),
        "share": random.random(rows, np.float32),
        "flag": random.integers(0, 2, rows).astype(bool),
        "digest": [random.bytes(3) for _ in range(rows)],
        "word": [words[number] for number in random.integers(0, 6, rows)],
        "text": [words[number] * 2 for number in random.integers(0, 6, rows)],
    }
    return pa.table(
        [
            pa.array(columns[field.name]).dictionary_encode().cast(field.type)
            if pa.types.is_dictionary(field.type)
            else pa.array(columns[field.name]).cast(field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (7, 0, 3), (1, 20, 13)])
def test_gathered_is_what_arrow_joins(sizes: tuple[int, ...]) -> None:
    pieces = [table(size + 4, seed).slice(2, size) for seed, size in enumerate(sizes)]  # offsets count
    found = gathered(iter(pieces), SCHEMA, 50)
    wanted = pa.concat_tables(pieces) if pieces else SCHEMA.empty_table()
    assert found.schema.equals(SCHEMA)
    assert found.to_pylist() == wanted.to_pylist()
    assert all(len(column.chunks) == 1 for column in found.columns)
    found.validate(full=True)


def test_values_are_those_of_arrow() -> None:
    whole = table(50, 1)
    for name in ("count", "place", "share", "flag"):
        for start, size in ((0, 50), (3, 20), (11, 0), (17, 33)):
            array = whole[name].combine_chunks().slice(start, size)
            assert values_of(array).tolist() == array.to_pylist()


def test_flags_are_bits() -> None:
    values = np.random.default_rng(0).integers(0, 2, 77).astype(bool)
    assert flags(values).to_pylist() == values.tolist()
    assert flags(values[:0]).to_pylist() == []


def test_opening_an_index_does_not_load_pandas(packed: PackSummary) -> None:
    code = f"import sys; from bolid.shards import IdentityDataset; IdentityDataset({str(packed.out)!r}, check=1.0)"
    command = [sys.executable, "-c", f"{code}; print('pandas' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_addresses_of_files_do_not_tell_of_the_machine_that_packed():
    from bolid.shards.record import _address

    assert _address("file:///home/ann/photos/bob/1.jpg") == "file:bob/1.jpg"
    assert _address("file:///home/ann/crawl/00000.tar#000000001.jpg") == "file:crawl/00000.tar#000000001.jpg"
    assert _address("https://example.org/file:/home/1.jpg") == "https://example.org/file:/home/1.jpg"
    assert _address("") == ""

import numpy as np
import pyarrow as pa
from bolid.curation.columns import rows_of
from hypothesis import given
from hypothesis import strategies as st

ROWS = st.lists(
    st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=6).filter(lambda r: len(r) % 2 == 0)
)


@given(ROWS, ROWS, st.integers(0, 3), st.integers(1, 2))
def test_rows_of_any_table_are_those_of_python(one: list, other: list, begin: int, width: int):
    schema = pa.schema([("numbers", pa.list_(pa.float32()))])
    parts = [pa.Table.from_pydict({"numbers": rows}, schema=schema) for rows in (one, other)]
    table = pa.concat_tables(parts).slice(begin)
    expected = table["numbers"].to_pylist()
    found = list(rows_of(table, "numbers", width))
    assert [None if row is None else row.ravel().tolist() for row in found] == expected
    for row in found:
        assert row is None or (row.dtype == np.float32 and row.ndim == width)

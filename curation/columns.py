"""List columns of scores as numpy arrays, without a Python object a number."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def rows_of(table: pa.Table, name: str, width: int = 1) -> Iterator[Floats | None]:
    """Yield each row of a `list<float>` column as float32 `[n, width]`, or `[n]` for width 1; None where it is null."""
    for chunk in table[name].chunks:
        values: NDArray[Any] = chunk.values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        offsets = chunk.offsets.to_numpy()
        for row, present in enumerate(chunk.is_valid().to_pylist()):
            numbers = values[offsets[row] : offsets[row + 1]]
            yield None if not present else numbers if width == 1 else numbers.reshape(-1, width)

"""Types of the arrays that the renderer passes round."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Floats of any precision: pixels are float32, geometry float64."""
Ints = NDArray[np.int32]


def dot(a: Floats, b: Floats) -> Floats:
    """Dot products [N] of vectors [N, 3]; numpy's own reduction over a short axis is several times slower."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def normalise(a: Floats) -> None:
    """Give vectors [N, 3] length 1, in place."""
    a *= (1 / np.sqrt(dot(a, a) + 1e-18)).astype(a.dtype)[:, None]

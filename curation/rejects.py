"""`rejects.parquet`: every photo that was not kept, what decided, and how far it was from being kept."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .. import atomic
from .outcome import Outcome

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("identity", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("margin", pa.float64()),
        ("nearest_kept", pa.string()),
    ]
)
"""`margin` is never positive: by so much, in the unit of `value`, the photo missed its threshold."""
FAILED = "failed"
"""Stage of photos that could not be scored; their reason is the error."""
EXCLUDED = "exclusions"
"""Stage of photos of which nothing is told but that they are excluded."""
_ROWS = 4096
"""Photos that are Python objects at a time."""

Hashes = NDArray[np.uint64]


def write(
    path: Path, rows: Sequence[Mapping[str, Any]], phashes: Sequence[int | None], outcomes: Sequence[Outcome]
) -> int:
    """Write the table, whole or not at all, and return its number of rows; without rejects it has none.

    Args:
        path: of the table.
        rows: with `sha256` and `identity`.
        phashes: of each row's photo; None where it is not known.
        outcomes: one for each row.
    """
    nearest, count = nearest_kept(rows, phashes, outcomes), 0
    with atomic.replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as out:
        for begin in range(0, len(rows), _ROWS):
            part = zip(rows[begin : begin + _ROWS], outcomes[begin : begin + _ROWS], strict=True)
            rejects = [_row(row, outcome, nearest.get(begin + n)) for n, (row, outcome) in enumerate(part)]
            table = pa.Table.from_pylist([reject for reject in rejects if reject is not None], schema=SCHEMA)
            out.write_table(table)
            count += table.num_rows
    return count


def margin(value: float | None, threshold: float | None) -> float | None:
    """Return how far a value that was rejected lies from its threshold: 0 or negative; None without a threshold."""
    return None if value is None or threshold is None else 0.0 - abs(value - threshold)


def nearest_kept(
    rows: Sequence[Mapping[str, Any]], phashes: Sequence[int | None], outcomes: Sequence[Outcome]
) -> dict[int, str]:
    """Return, for rejected photos by their place, the kept photo of the identity that looks most alike.

    That is the one whose perceptual hash differs in the fewest bits, the first of several. A duplicate names the photo
    that it repeats; of what is excluded nothing is told.
    """
    kept: dict[str, list[int]] = defaultdict(list)
    gone: dict[str, list[int]] = defaultdict(list)
    for place, (row, phash, outcome) in enumerate(zip(rows, phashes, outcomes, strict=True)):
        if phash is not None:
            if outcome.keep:
                kept[row["identity"]].append(place)
            elif outcome.verdict is None or outcome.verdict.stage != EXCLUDED:
                gone[row["identity"]].append(place)
    return dict(_nearest(rows, phashes, kept, gone)) | {
        place: outcome.verdict.nearest_kept
        for place, outcome in enumerate(outcomes)
        if outcome.verdict is not None and outcome.verdict.nearest_kept is not None
    }


def closest(phash: int, hashes: Hashes) -> tuple[int, int]:
    """Return the place of the hash that differs in the fewest bits, the first of several, and the number of bits."""
    bits = np.bitwise_count(hashes ^ np.uint64(phash))
    place = int(bits.argmin())
    return place, int(bits[place])


def _nearest(
    rows: Sequence[Mapping[str, Any]],
    phashes: Sequence[int | None],
    kept: Mapping[str, list[int]],
    gone: Mapping[str, list[int]],
) -> Iterator[tuple[int, str]]:
    for identity, places in gone.items():
        candidates = kept.get(identity)
        if not candidates:
            continue
        hashes = np.array([phashes[candidate] for candidate in candidates], np.uint64)
        for place in places:
            phash = phashes[place]
            if phash is not None:
                yield place, rows[candidates[closest(phash, hashes)[0]]]["sha256"]


def _row(row: Mapping[str, Any], outcome: Outcome, nearest: str | None) -> dict[str, Any] | None:
    if outcome.keep:
        return None
    found: dict[str, Any] = {"sha256": row["sha256"], "identity": row["identity"], "nearest_kept": nearest}
    if outcome.verdict is None:
        return found | {"stage": FAILED, "reason": outcome.error}
    verdict = outcome.verdict
    return found | {
        "stage": verdict.stage,
        "reason": verdict.reason,
        "value": verdict.value,
        "threshold": verdict.threshold,
        "margin": margin(verdict.value, verdict.threshold),
    }

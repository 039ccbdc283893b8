"""What the report reads of `curated.parquet`, a batch of rows at a time; only what is shown stays in memory.

A first pass counts (`survey`) and remembers which rows are worth a picture, a second one fetches those (`fetch`), and
a third one hands out the strips, one identity after the other as soon as its last row was seen (`strips`).
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .columns import rows_of
from .decisions import ORDER, Row
from .proposals import Proposal
from .stages.coverage import Coverage

Floats = NDArray[np.float32]

EXAMPLES = 10
"""Most example photos a reason: those nearest to the threshold."""
PAIRS = 24
"""Most pairs of near duplicates, those that differ most first."""
STRIP = 40
"""Most photos shown of one identity."""
SHOWN = 20_000
"""Most photos shown in strips; identities beyond, by name, are in a table of counts."""
WITHHELD = frozenset({"exclusions"})
"""Stages whose rejects are never shown: who asked to be left out is not put on a page."""

_BATCH = 2048
_EMBEDDING = "face_embedding"
_TALLIED = [
    *("sha256", "identity", "identity_name", "keep", "identity_review", "reject_stage", "reject_reason"),
    *("reject_value", "reject_threshold", "nearest_kept", "error", "view", "framing", "yaw"),
]
_SHOWN = [
    *_TALLIED,
    *("format", "decoded_width", "decoded_height", "identity_score", "identity_evidence", "shared_with"),
    *("caption", "caption_flag"),
]

Reason = tuple[str, str]
"""Stage and reason of a rejection."""


@dataclass
class Tally:
    """Counts of one identity; `last` is the number of its last row."""

    name: str
    offered: int = 0
    kept: int = 0
    review: int = 0
    failed: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)
    last: int = -1

    @property
    def rejected(self) -> int:
        """Photos that a stage rejected."""
        return self.reasons.total()


@dataclass
class Survey:
    """The whole table, counted.

    Attributes:
        offered: rows.
        identities: by slug, in the order of slugs.
        examples: rows (by number) of each reason, nearest to the threshold first.
        pairs: rows (by number) of near duplicates, those that differ in most bits first.
    """

    offered: int
    identities: dict[str, Tally]
    examples: dict[Reason, list[int]]
    pairs: list[int]

    @cached_property
    def reasons(self) -> Counter[Reason]:
        """Photos by stage and reason, of all identities."""
        return sum((tally.reasons for tally in self.identities.values()), Counter())

    @property
    def failed(self) -> int:
        """Photos that could not be scored."""
        return sum(tally.failed for tally in self.identities.values())

    @cached_property
    def coverage(self) -> Coverage:
        """Kept photos of all identities by view and framing."""
        return sum((tally.coverage for tally in self.identities.values()), Coverage())

    def pictured(self) -> list[str]:
        """Return the identities whose strips are shown: by slug, as many as `SHOWN` photos allow."""
        total, chosen = 0, []
        for slug, tally in self.identities.items():
            total += min(tally.offered, STRIP)
            if total > SHOWN:
                break
            chosen.append(slug)
        return chosen


@dataclass(frozen=True)
class Strip:
    """The photos of one identity that are shown, kept ones first; unit vectors of usable faces by place in `rows`."""

    slug: str
    rows: list[Row]
    faces: dict[int, Floats]


def survey(path: Path) -> Survey:
    """Count the table of verdicts at `path`."""
    identities: dict[str, Tally] = {}
    nearest: dict[Reason, list[tuple[float, int]]] = {}
    pairs: list[tuple[float, int]] = []
    number = -1
    for batch in _batches(path, _TALLIED):
        for row in batch.to_pylist():
            number += 1
            slug = row["identity"]
            tally = identities.get(slug)
            if tally is None:
                tally = identities[slug] = Tally(row["identity_name"] or slug)
            tally.last = number
            _count(tally, row)
            if row["reject_stage"] is not None:
                examples = nearest.setdefault((row["reject_stage"], row["reject_reason"]), [])
                _offer(examples, (-_margin(row), -number), EXAMPLES)
                if row["reject_reason"] == "near_duplicate":
                    _offer(pairs, (row["reject_value"], -number), PAIRS)
    return Survey(
        number + 1,
        dict(sorted(identities.items())),
        {reason: _best(found) for reason, found in nearest.items()},
        _best(pairs),
    )


def fetch(path: Path, numbers: Collection[int], photos: Collection[str] = ()) -> tuple[dict[int, Row], dict[str, Row]]:
    """Return the rows with these numbers, and a row of each of these photos (by sha256) that the table has."""
    wanted, shas = np.array(sorted(numbers), np.int64), pa.array(sorted(photos), pa.string())
    rows: dict[int, Row] = {}
    by_photo: dict[str, Row] = {}
    begin = 0
    for batch in _batches(path, _SHOWN):
        table = pa.Table.from_batches([batch])
        here = wanted[(wanted >= begin) & (wanted < begin + batch.num_rows)]
        rows |= dict(zip(here.tolist(), table.take(here - begin).to_pylist(), strict=True))
        if len(shas):
            found = table.filter(_is_in(table["sha256"], shas)).to_pylist()
            by_photo |= {row["sha256"]: row for row in found if row["keep"] or row["sha256"] not in by_photo}
        begin += batch.num_rows
    return rows, by_photo


def strips(path: Path, identities: Mapping[str, Tally]) -> Iterator[Strip]:
    """Yield the strip of each of these identities, in the order in which their rows end."""
    pending: dict[str, list[tuple[Row, Floats | None]]] = {}
    left: dict[str, dict[bool, int]] = {}
    slugs, begin = pa.array(list(identities), pa.string()), 0
    for batch in _batches(path, (*_SHOWN, _EMBEDDING)):
        table = pa.Table.from_batches([batch])
        chosen = np.flatnonzero(_is_in(table["identity"], slugs).to_numpy())
        table = table.take(chosen)
        faces = rows_of(table, _EMBEDDING) if _EMBEDDING in table.column_names else iter([None] * table.num_rows)
        light = [name for name in table.column_names if name != _EMBEDDING]
        for place, row, face in zip(chosen.tolist(), table.select(light).to_pylist(), faces, strict=True):
            slug = row["identity"]
            tally = identities[slug]
            quota = left.setdefault(slug, _quota(tally))
            if quota[row["keep"]] > 0:
                quota[row["keep"]] -= 1
                pending.setdefault(slug, []).append((row, None if face is None else face.copy()))
            if begin + place == tally.last:
                yield _strip(slug, pending.pop(slug, []))
                del left[slug]
        begin += batch.num_rows


def proposed(path: Path) -> list[Proposal]:
    """Return what `proposals.parquet` proposes; nothing where there is no such table."""
    return [Proposal(**row) for row in pq.read_table(path).to_pylist()] if path.exists() else []


def values(path: Path, *columns: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the first of the columns that is not null in each row, `[n]`, and whether the photo was kept, `[n]`."""
    import pyarrow.compute as pc

    present = [name for name in columns if name in pq.read_schema(path).names]
    if not present:
        return np.empty(0, np.float32), np.empty(0, bool)
    table = pq.read_table(path, columns=[*present, "keep"])
    found = pc.coalesce(*(pc.cast(table[name], pa.float32()) for name in present))
    measured = np.asarray(found.to_numpy(), np.float32)
    there = np.isfinite(measured)
    return measured[there], table["keep"].to_numpy()[there].astype(bool)


def short_sides(path: Path) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the shorter side, px, of each photo that decoded, and whether the photo was kept, as `values` does."""
    (wide, kept), (high, _) = values(path, "decoded_width"), values(path, "decoded_height")
    return np.minimum(wide, high), kept


def state(row: Row) -> str:
    """Return what became of a photo: kept, review (kept in doubt), rejected or failed."""
    if row["keep"]:
        return "review" if row.get("identity_review") else "kept"
    return "failed" if row["error"] is not None else "rejected"


def _count(tally: Tally, row: Row) -> None:
    tally.offered += 1
    if row["keep"]:
        tally.kept += 1
        tally.review += bool(row.get("identity_review"))
        tally.coverage.add(row.get("view"), row.get("framing"), row.get("yaw"))
    elif row["error"] is not None:
        tally.failed += 1
    else:
        tally.reasons[row["reject_stage"], row["reject_reason"]] += 1


def _margin(row: Row) -> float:
    if row["reject_value"] is None or row["reject_threshold"] is None:
        return 0.0
    return abs(float(row["reject_value"]) - float(row["reject_threshold"]))


def _offer(best: list[tuple[float, int]], entry: tuple[float, int], size: int) -> None:
    """Keep the `size` largest entries in a heap."""
    if len(best) < size:
        heapq.heappush(best, entry)
    else:
        heapq.heappushpop(best, entry)


def _best(heap: list[tuple[float, int]]) -> list[int]:
    return [-number for _, number in sorted(heap, reverse=True)]


def _quota(tally: Tally) -> dict[bool, int]:
    """Return how many kept and other photos a strip shows: half and half when there are too many of both."""
    others = tally.offered - tally.kept
    kept = min(tally.kept, max(STRIP // 2, STRIP - others))
    return {True: kept, False: min(others, STRIP - kept)}


def _strip(slug: str, members: list[tuple[Row, Floats | None]]) -> Strip:
    order = {stage: place for place, stage in enumerate(ORDER)}
    rank = {"kept": 0, "review": 1, "rejected": 2, "failed": 3}
    members.sort(key=lambda member: (rank[state(member[0])], order.get(member[0]["reject_stage"] or "", 99)))
    rows: list[Row] = [row for row, _ in members]
    faces = {
        place: face
        for place, (row, face) in enumerate(members)
        if face is not None and row["reject_stage"] not in WITHHELD
    }
    return Strip(slug, rows, faces)


def _batches(path: Path, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(path, pre_buffer=False)  # else Arrow holds the columns of all row groups
    present = [name for name in columns if name in file.schema_arrow.names]
    with file:
        yield from file.iter_batches(_BATCH, columns=present)


def _is_in(column: pa.ChunkedArray, wanted: pa.Array) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.is_in(column, value_set=wanted)

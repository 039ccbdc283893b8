"""The scores of all stages, each stage's as it lies in the ledger: photos are looked up, the stages are never joined.

What is in memory for a photo is its sha256 and the numbers of its rows; the scores themselves are mapped (`spool`), so
a pass over all photos in batches needs the memory of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import spool
from .ledger import scores_of
from .stage import Stage

AT_A_TIME = 1024
"""Photos of a batch."""
_LACKING = -1


@dataclass(frozen=True)
class Scores:
    """The scores of photos by all stages.

    Attributes:
        places: sha256 -> number of the photo, of all photos that were asked for, in their order.
        stored: of each stage, its columns but `sha256`.
        rows: of each stage, the row of each photo by its number; -1 where the stage did not score it.
        failed: sha256 -> error, for photos whose scoring failed; they count as not scored.
        computed: photos for which at least one stage was computed now (not read from the ledger).
    """

    places: Mapping[str, int]
    stored: Sequence[spool.Stored]
    rows: Sequence[NDArray[np.int64]]
    failed: Mapping[str, str] = field(default_factory=dict)
    computed: int = 0

    def __len__(self) -> int:
        """Return how many photos have scores."""
        return len(self.places) - len(self.failed)

    def __iter__(self) -> Iterator[str]:
        """Yield the sha256 of each photo with scores, in the order in which they were asked for."""
        return (sha256 for sha256 in self.places if sha256 not in self.failed)

    def __contains__(self, sha256: object) -> bool:
        """Say whether a photo has scores."""
        return sha256 in self.places and sha256 not in self.failed

    def lacking(self, sha256: str) -> tuple[int, ...]:
        """Return the stages, by index, whose scores a photo lacks."""
        place = self.places[sha256]
        return tuple(index for index, rows in enumerate(self.rows) if rows[place] == _LACKING)

    def take(self, photos: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return `sha256` and the columns of the photos, a row each in their order; `None` means all columns.

        Raises:
            KeyError: a stage with such a column did not score one of the photos.
        """
        places = np.fromiter((self.places[sha256] for sha256 in photos), np.int64, len(photos))
        found = pa.table({"sha256": pa.array(photos, pa.string())})
        for stored, rows in zip(self.stored, self.rows, strict=True):
            names = [name for name in stored.schema.names if columns is None or name in columns]
            if names:
                chosen = rows[places]
                if (chosen == _LACKING).any():
                    raise KeyError(photos[int(np.argmin(chosen))])
                taken = stored.take(chosen, names)
                for name in names:
                    found = found.append_column(taken.schema.field(name), taken[name])
        return found

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield `take` of all photos with scores, `AT_A_TIME` of them at a time."""
        photos = iter(self)
        while some := list(islice(photos, AT_A_TIME)):
            yield self.take(some, columns)

    @property
    def table(self) -> pa.Table:
        """All scores of all photos in memory: for few photos."""
        return pa.concat_tables([self.take([]), *self.batches()]).combine_chunks()


def read(stages: Sequence[Stage], photos: Sequence[str], ledger: Path) -> Scores:
    """Read what the ledger holds of photos, unique sha256 sums; none of them has failed."""
    places = {sha256: place for place, sha256 in enumerate(photos)}
    rows = [np.full(len(places), _LACKING, np.int64) for _ in stages]
    kept = [
        spool.stored(_wanted(ledger, stage, places, at), _unnamed(stage.schema), ledger)
        for stage, at in zip(stages, rows, strict=True)
    ]
    return Scores(places, kept, rows)


def _wanted(ledger: Path, stage: Stage, places: Mapping[str, int], rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield the scores of the photos that have a place, each once, without `sha256`, and note their rows."""
    count = 0
    for table in scores_of(ledger, stage):
        chosen = []
        for row, sha256 in enumerate(table["sha256"].to_pylist()):
            place = places.get(sha256)
            if place is not None and rows[place] == _LACKING:
                rows[place] = count
                count += 1
                chosen.append(row)
        table = table.drop_columns(["sha256"])
        if chosen:
            yield table if len(chosen) == table.num_rows else table.take(pa.array(chosen, pa.int64()))


def _unnamed(schema: pa.Schema) -> pa.Schema:
    return pa.schema([column for column in schema if column.name != "sha256"])

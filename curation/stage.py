"""What a curation stage is: scores computed once and kept, decisions taken from scores at any time.

A stage's scores depend on the photo, the stage's version, its score configuration and its model's weights; their
fingerprint names the folder of results, so nothing is computed twice and nothing stale is ever read. Thresholds
belong to decisions and are in no fingerprint: changing one computes nothing again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from .pixels import PhotoReader


@dataclass(frozen=True)
class Verdict:
    """Why a photo was rejected: the stage, the reason, the value that decided and the threshold it was held against."""

    stage: str
    reason: str
    value: float | None = None
    threshold: float | None = None
    nearest_kept: str | None = None
    """The sha256 of the kept photo that this one repeats, for duplicates."""


@dataclass(frozen=True)
class StageKey:
    """What the scores of a stage depend on, besides the photo."""

    name: str
    version: int
    config: str = ""
    weights_sha256: str = ""

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the sha256 over all parts."""
        text = json.dumps([self.name, self.version, self.config, self.weights_sha256])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Stage(Protocol):
    """Scores photos one batch at a time; lives in a worker process and must be picklable before `setup`."""

    @property
    def key(self) -> StageKey:
        """What the scores depend on."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the scores; the first is `sha256`."""

    @property
    def needs(self) -> Sequence[str]:
        """Columns of earlier stages that it reads; what these depend on belongs into its own key."""

    def setup(self, reader: PhotoReader) -> None:
        """Load models once a worker; `reader` gives the decoded pixels, one decode for all stages.

        Raises:
            BolidError: the stage cannot work at all; the run ends.
        """

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch with the columns `sha256`, `path` and those of `needs`; a row out for each row in, in order."""


def score_batch(schema: pa.Schema, rows: Sequence[dict[str, object]]) -> pa.RecordBatch:
    """Build a batch of `schema` from `rows`; keys that are missing become null."""
    return pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def paths_of(batch: pa.RecordBatch) -> list[tuple[str, Path]]:
    """Return (sha256, path) for each row of a batch."""
    return [(sha, Path(path)) for sha, path in zip(batch["sha256"].to_pylist(), batch["path"].to_pylist(), strict=True)]

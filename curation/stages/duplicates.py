"""Stage `duplicates`: copies of a photo, exact (same bytes) and near (perceptual hash), within an identity.

The perceptual hash is the 64-bit DCT hash of the imagehash library; two photos are near duplicates when at most
`near` bits differ. Kept is the largest, then the sharpest; the others name it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import pyarrow as pa

from ..pixels import PhotoReader
from ..stage import StageKey, Verdict, paths_of, score_batch

SCHEMA = pa.schema([("sha256", pa.string()), ("phash", pa.uint64())])


class PerceptualHashStage:
    """Hashes each photo that decodes; column `phash` (64 bits, null where there is no picture)."""

    key = StageKey("duplicates", version=2)
    schema = SCHEMA
    needs = ()

    def setup(self, reader: PhotoReader) -> None:
        """Keep the reader."""
        self._reader = reader

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        rows: list[dict[str, object]] = []
        for sha256, path in paths_of(batch):
            picture = self._reader.read(path).picture
            rows.append(
                {"sha256": sha256, "phash": None if picture is None else int(str(imagehash.phash(picture)), 16)}
            )
        return score_batch(SCHEMA, rows)


@dataclass(frozen=True)
class Candidate:
    """A photo of one identity that may repeat another: `pixels` = width x height, `order` = its place in the input."""

    sha256: str
    phash: int
    pixels: int
    sharpness: float
    order: int


def decide(candidates: Sequence[Candidate], near: int) -> dict[int, Verdict]:
    """Return the verdicts of one identity's photos by their `order`; photos that are kept have none.

    Greedy from the best photo down: a photo is rejected when it repeats one that is kept already, so chains of
    near duplicates do not swallow photos that differ from everything kept.
    """
    best_first = sorted(candidates, key=lambda c: (-c.pixels, -c.sharpness, c.order))
    kept: list[Candidate] = []
    kept_hashes = np.empty(len(best_first), dtype=np.uint64)
    verdicts: dict[int, Verdict] = {}
    for candidate in best_first:
        distances = np.bitwise_count(kept_hashes[: len(kept)] ^ np.uint64(candidate.phash))
        nearest = int(distances.argmin()) if kept else -1
        same = next((c for c in kept if c.sha256 == candidate.sha256), None)
        if same is not None:
            verdicts[candidate.order] = Verdict("duplicates", "exact_duplicate", 0, 0, same.sha256)
        elif kept and distances[nearest] <= near:
            repeated = kept[nearest].sha256
            verdicts[candidate.order] = Verdict("duplicates", "near_duplicate", int(distances[nearest]), near, repeated)
        else:
            kept_hashes[len(kept)] = candidate.phash
            kept.append(candidate)
    return verdicts

"""Stage `duplicates`: copies of a photo, exact (same bytes) and near (perceptual hash), within an identity.

The perceptual hash is the 64-bit DCT hash of the imagehash library; two photos are near duplicates when at most
`near` bits differ. Kept is the largest, then the sharpest; the others name it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import pyarrow as pa
from PIL import Image

from .. import hamming
from ..pixels import PhotoReader
from ..stage import StageKey, Verdict, paths_of, score_batch

SCHEMA = pa.schema([("sha256", pa.string()), ("phash", pa.uint64())])


class PerceptualHashStage:
    """Hashes each photo that decodes; column `phash` (64 bits, null where there is no picture)."""

    key = StageKey("duplicates", version=3)
    schema = SCHEMA
    needs = ()

    def setup(self, reader: PhotoReader) -> None:
        """Keep the reader."""
        self._reader = reader

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        rows: list[dict[str, object]] = []
        for sha256, path in paths_of(batch):
            small = self._reader.read(path).small
            rows.append({"sha256": sha256, "phash": None if small is None else phash(small)})
        return score_batch(SCHEMA, rows)


def phash(grey: Image.Image) -> int:
    """Return imagehash's 64-bit DCT hash; a reduction before its own scaling to 32 x 32 spares most of the work."""
    scaled = grey.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return int(str(imagehash.phash(scaled)), 16)


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
    kept = hamming.Kept([candidate.phash for candidate in best_first], near)
    same: set[str] = set()
    verdicts: dict[int, Verdict] = {}
    for index, candidate in enumerate(best_first):
        if candidate.sha256 in same:
            verdicts[candidate.order] = Verdict("duplicates", "exact_duplicate", 0, 0, candidate.sha256)
        elif nearest := kept.nearest(index):
            repeated, bits = nearest
            repeats = best_first[repeated].sha256
            verdicts[candidate.order] = Verdict("duplicates", "near_duplicate", bits, near, repeats)
        else:
            kept.keep(index)
            same.add(candidate.sha256)
    return verdicts

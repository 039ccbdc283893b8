"""Figures of a dataset, and how they are printed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import progress
from .index import Runs, load_index, read_manifest
from .manifest import Manifest
from .schema import SPLITS
from .store import open_store

STATS_COLUMNS = ("identity", "split", "width", "height", "pose_confidence", "has_face", "retired")
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class SplitStats:
    """Figures of one split's live samples; quantiles are minimum, quarter, median, three quarters, maximum."""

    split: str
    identities: int
    samples: int
    retired: int
    single: int
    """Identities with one photo, which leave-one-out training leaves out."""
    photos: tuple[int, ...]
    """Quantiles of the photos of an identity."""
    short_side: tuple[int, ...]
    """Quantiles of the shorter side in pixels."""
    posed: int
    """Samples with a measured pose."""
    faces: int
    """Samples with a face embedding."""


def stats(shards: Path | str) -> list[SplitStats]:
    """Return the figures of every split that has samples.

    Raises:
        DataError: there is no finished dataset.
    """
    index = load_index(open_store(shards), retired=True, columns=STATS_COLUMNS)
    parts = [(split, index.filter(pc.equal(index["split"], split))) for split in SPLITS]
    return [_split_stats(split, rows) for split, rows in parts if rows.num_rows]


def tell_stats(shards: Path | str) -> None:
    """Print the figures of a dataset: a table of splits."""
    manifest = read_manifest(shards)
    columns = ("split", "people", "photos", "retired", "one photo", "photos a person", "short side", "pose", "face")
    rows = [
        (
            one.split,
            one.identities,
            one.samples,
            one.retired,
            one.single,
            _spread(one.photos),
            _spread(one.short_side),
            _share(one.posed, one.samples),
            _share(one.faces, one.samples),
        )
        for one in stats(shards)
    ]
    progress.table(f"{shards}: {_files(manifest)}", columns, rows, "shards_split")


def _split_stats(split: str, rows: pa.Table) -> SplitStats:
    live = rows.filter(pc.invert(rows["retired"]))
    counts = Runs.of(live["identity"].to_numpy()).counts
    short = np.minimum(live["width"].to_numpy(), live["height"].to_numpy())
    return SplitStats(
        split=split,
        identities=len(counts),
        samples=live.num_rows,
        retired=rows.num_rows - live.num_rows,
        single=int((counts == 1).sum()),
        photos=_quantiles(counts),
        short_side=_quantiles(short),
        posed=int((live["pose_confidence"].to_numpy() > 0).sum()),
        faces=pc.sum(live["has_face"]).as_py() or 0,
    )


def _quantiles(values: np.ndarray) -> tuple[int, ...]:
    if not len(values):
        return ()
    return tuple(int(value) for value in np.quantile(values, QUANTILES, method="nearest"))


def _spread(quantiles: tuple[int, ...]) -> str:
    return f"{quantiles[0]}…{quantiles[2]}…{quantiles[4]}" if quantiles else ""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _files(manifest: Manifest) -> str:
    size = sum(entry.bytes for entry in manifest.shards.values())
    return f"{len(manifest.shards)} shards, {size / 2**20:.1f} MiB, {manifest.packs} pack(s)"

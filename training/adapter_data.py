"""What the adapter is trained on: targets as SDXL wants them, references as the body encoder wants them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import progress
from ..errors import DataError
from ..models.body_config import BodyConfig
from ..shards.dataset import collate
from ..shards.index import read_index
from ..shards.sampler import Draw, nearest_bucket
from .adapter_config import AdapterConfig
from .cached_data import CachedDataset
from .encoders import AdapterCache
from .loop import Batch


def dataset(
    shards: Path, split: str, config: AdapterConfig, body: BodyConfig, cache: AdapterCache | None = None
) -> CachedDataset:
    """Open a split: the target is the picture itself, references are person crops of the encoder's size."""
    return CachedDataset(
        shards,
        split,
        cache,
        config.caption_fallback,
        pictures=config.weights.clip_image > 0,
        mask=config.mask,
        refs=config.refs,
        size=config.resolution,
        reference_size=body.size,
    )


def sizes_of_rows(data: CachedDataset, config: AdapterConfig) -> list[tuple[int, int]]:
    """Return (width, height) that each photo has as a target."""
    sizes = config.sizes()
    if not sizes:
        return [data.size] * len(data)
    return [sizes[bucket] for bucket in nearest_bucket(data.index, sizes).tolist()]


def split_with_pairs(shards: Path, candidates: Sequence[str]) -> str | None:
    """Return the first of the splits that has a person with two photos, so that one can be the other's reference.

    Raises:
        DataError: there is no finished dataset.
    """
    for split in candidates:
        people = read_index(shards, split, columns=["identity"])["identity"].to_numpy()
        if len(people) > len(np.unique(people)):
            return split
    return None


def examples(data: CachedDataset, people: int) -> Batch:
    """Return a fixed batch: the first photo of each of the first people that have two, with references."""
    _, firsts, counts = np.unique(data.index["identity"].to_numpy(), return_index=True, return_counts=True)
    rows = firsts[counts > 1][:people]
    return collate(data.__getitems__([Draw(int(row), slot=slot) for slot, row in enumerate(rows)]))


def held_out_examples(
    shards: Path, config: AdapterConfig, body: BodyConfig, cache: AdapterCache | None = None
) -> tuple[Batch, bool]:
    """Return examples of the val split and True; where it has none, of the training split, with a warning, and False.

    Raises:
        DataError: no person of either has two photos.
    """
    split = split_with_pairs(shards, ("val", "train"))
    if split is None:
        raise DataError(f"no person in {shards} has two photos, one to learn and one to refer to; pack more photos")
    if split == "train":
        progress.warn(
            "no held-out person has two photos: grids show people of the training split, and no validation loss"
        )
    return examples(dataset(shards, split, config, body, cache), config.sample_identities), split == "val"

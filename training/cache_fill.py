"""The pre-pass that fills the cache: every photo once as a target and once as a reference, every caption once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .. import progress
from ..shards.dataset import Item, collate
from .batches import leave_interrupts
from .cached_data import CachedDataset
from .encoders import AdapterCache, FrozenEncoders, text_key
from .task import Batch

BATCH = 8

Size = tuple[int, int]


class _Material(Dataset[Item]):
    """What the entries of (row, size) are made of."""

    def __init__(self, data: CachedDataset, wanted: Sequence[tuple[int, Size]]) -> None:
        self._data, self._wanted = data, wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def __getitem__(self, place: int) -> Item:
        return self._data.material(*self._wanted[place])


def fill(
    encoders: FrozenEncoders, data: CachedDataset, sizes: Sequence[Size], workers: int, part: tuple[int, int] = (0, 1)
) -> int:
    """Make the entries of a split that the cache does not have; a killed fill goes on where it was.

    Args:
        encoders: on their device, with a cache.
        data: the photos.
        sizes: (width, height) of each row as a target.
        workers: processes that read.
        part: which of how many processes this is; each takes its share of the rows.

    Returns:
        Number of photos whose entries were made.
    """
    cache = encoders.cache
    assert cache is not None
    rank, processes = part
    rows = range(rank, len(data), processes)
    wanted = [(row, sizes[row]) for row in rows if not _complete(cache, data, row, sizes[row])]
    wanted.sort(key=lambda pair: pair[1])
    loader: DataLoader[Batch] = DataLoader(
        _Material(data, wanted),
        batch_sampler=list(_batches(wanted)),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=leave_interrupts,
    )
    with progress.bar("cache", len(wanted), "photos") as bar:
        for batch in loader:
            make(encoders, batch, [data.caption(text) for text in batch["caption"]])
            bar.advance(len(batch["photo"]))
    encoders.dropped_text()
    cache.flush()
    return len(wanted)


@torch.no_grad()
def make(encoders: FrozenEncoders, batch: Batch, captions: list[str]) -> None:
    """Make the entries of a batch that the cache does not have."""
    moved = {name: v.to(encoders.device) if isinstance(v, Tensor) else v for name, v in batch.items()}
    encoders.latent_posterior(moved)
    encoders.view_posteriors(moved)
    encoders.text(moved, captions)


def _complete(cache: AdapterCache, data: CachedDataset, row: int, size: Size) -> bool:
    photo = data.photo(row)
    if photo not in cache.latents(size) or photo not in cache.posteriors:
        return False
    return text_key(data.caption(data.stored_caption(row))) in cache.text


def _batches(wanted: Sequence[tuple[int, Size]]) -> Iterator[list[int]]:
    """Yield places of `wanted`, those of a batch of one size."""
    batch: list[int] = []
    for place, (_, size) in enumerate(wanted):
        if batch and (len(batch) == BATCH or wanted[batch[0]][1] != size):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch

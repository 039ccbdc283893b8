"""The loaders that are compared; all give `[batch, 3, 512, 512]` bytes and are timed over one pass of two workers."""

import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
import webdataset
from bolid.shards import IdentityBatchSampler, IdentityDataset, collate
from bolid.shards.geometry import picture_window
from bolid.shards.picture import decode_planes
from bolid.shards.reader import SampleReader
from bolid.shards.store import open_store
from PIL import Image, ImageOps
from shards_material import PHOTO_SIZE, SIDE
from torch.utils.data import DataLoader, Dataset

WORKERS = 2
BATCH = 16
WHOLE = picture_window(PHOTO_SIZE, (SIDE, SIDE))


def drafted(data: bytes) -> torch.Tensor:
    """Decode as bolid does: at the smallest JPEG scale that is enough."""
    return torch.from_numpy(decode_planes(data, WHOLE, (SIDE, SIDE))[0])


def fully(data: bytes) -> torch.Tensor:
    """Decode as most loaders do: everything, then resize."""
    with Image.open(io.BytesIO(data)) as picture:
        small = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy())


def rate(loader: Iterable[Any], samples: int) -> float:
    """Return samples a second over one pass; start and first batches are not counted."""
    batches, skipped = iter(loader), _skipped(samples // BATCH)
    for _ in range(skipped):
        next(batches)
    begun = time.perf_counter()
    for _ in batches:
        pass
    return (samples - skipped * BATCH) / (time.perf_counter() - begun)


def _skipped(batches: int) -> int:
    """Return how many batches the workers may have made ready before the clock runs."""
    return 2 * WORKERS if batches > 4 * WORKERS else 1


def ours(shards: Path, workers: int = WORKERS) -> DataLoader:
    """One photo an item, in the order of the sampler."""
    people = IdentityDataset(shards, refs=0, size=SIDE, crop="image", pixels="uint8")
    order = IdentityBatchSampler(people.index, BATCH)
    return DataLoader(people, batch_sampler=order, collate_fn=collate, num_workers=workers)


class _Decoded:
    def __init__(self, full: bool) -> None:
        self._decode = fully if full else drafted

    def __call__(self, sample: dict[str, bytes]) -> tuple[Any, ...]:
        return (
            self._decode(sample["jpg"]),
            json.loads(sample["json"])["identity"],
            torch.from_numpy(np.load(io.BytesIO(sample["npy"]))),
            sample["txt"].decode(),
        )


def library(shards: Path, full: bool) -> DataLoader:
    """The webdataset library on the same tars, with all parts of a sample."""
    tars = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).map(_Decoded(full)).batched(BATCH)
    return DataLoader(samples, batch_size=None, num_workers=WORKERS)


def groups(shards: Path | str, people: int, references: int, cache: Path | None = None) -> DataLoader:
    """P identities, each a target and K references."""
    items = IdentityDataset(shards, refs=references, size=SIDE, crop="image", pixels="uint8", cache=cache)
    order = IdentityBatchSampler(items.index, people)
    if cache is not None:
        items.follow(order)
    return DataLoader(items, batch_sampler=order, collate_fn=collate, num_workers=WORKERS)


class Folders(Dataset):
    """A folder a person, a file a photo, read at random: what torchvision's ImageFolder does, with references.

    Args:
        root: folder or address.
        files: relative paths, those of a person side by side.
        together: fetch the files of a batch at the same time (only over a network).
        full: decode everything, as ImageFolder does, instead of what is needed.
    """

    def __init__(
        self, root: Path | str, files: Sequence[Path], references: int, together: bool = False, full: bool = False
    ) -> None:
        self._root, self._files, self._references, self._together = str(root), list(files), references, together
        self._decode = fully if full else drafted
        self._people: dict[str, list[Path]] = {}
        for file in self._files:
            self._people.setdefault(file.parent.name, []).append(file)
        self._system: Any = None

    def __len__(self) -> int:
        return len(self._files)

    def chosen(self, number: int) -> list[Path]:
        """Return the files of a target and its references."""
        target = self._files[number]
        others = [file for file in self._people[target.parent.name] if file != target]
        random = np.random.default_rng(number)
        return [target, *(others[i] for i in random.permutation(len(others))[: self._references])]

    def read(self, files: Sequence[Path]) -> list[bytes]:
        """Return the content of files."""
        if "://" not in self._root:
            return [Path(self._root, file).read_bytes() for file in files]
        if self._system is None:
            self._system, _ = fsspec.url_to_fs(self._root, skip_instance_cache=True)
        urls = [f"{self._root}/{file}" for file in files]
        if self._together:
            found = self._system.cat(sorted(set(urls)))
            return [found[url] for url in urls]
        return [self._system.cat_file(url) for url in urls]

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.stack([self._decode(data) for data in self.read(self.chosen(number))])

    def __getitems__(self, numbers: Sequence[int]) -> list[torch.Tensor]:
        if not self._together:
            return [self[number] for number in numbers]
        chosen = [self.chosen(number) for number in numbers]
        data = iter(self.read([file for files in chosen for file in files]))
        return [torch.stack([self._decode(next(data)) for _ in files]) for files in chosen]


class Spread:
    """Batches of P different people, every photo once: the same work that bolid's sampler gives."""

    def __init__(self, count: int, photos: int, people: int) -> None:
        self._count, self._photos, self._people = count, photos, people

    def __len__(self) -> int:
        return math.ceil(self._count / self._people)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng(0).permutation(self._count)
        turns = sorted(order.tolist(), key=lambda number: number % self._photos)
        for start in range(0, len(turns), self._people):
            yield turns[start : start + self._people]


def folders(
    root: Path | str,
    files: Sequence[Path],
    people: int,
    photos: int,
    references: int,
    together: bool = False,
    full: bool = False,
) -> DataLoader:
    """P×K batches from single files."""
    items = Folders(root, files, references, together, full)
    return DataLoader(items, batch_sampler=Spread(len(files), photos, people), num_workers=WORKERS)


def group_rate(loader: DataLoader, limit: int) -> float:
    """Return batches a second over `limit` batches; start and first batches are not counted."""
    batches = iter(loader)
    for _ in range(_skipped(len(loader))):
        next(batches)
    begun, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if count == limit:
            break
    return count / (time.perf_counter() - begun)


def group_seconds(loader: DataLoader, limit: int) -> float:
    """Return batches a second over the first `limit` batches, the wait for the first one included."""
    begun, count = time.perf_counter(), 0
    for _ in loader:
        count += 1
        if count == limit:
            break
    return count / (time.perf_counter() - begun)


def group_bytes(shards: str, people: int, references: int, cache: Path, limit: int) -> float:
    """Return batches a second of bolid's reading alone: bytes fetched and checked, nothing decoded, one process."""
    items = IdentityDataset(shards, refs=references, size=SIDE, cache=cache)
    reader = SampleReader(open_store(shards, cache), items.index, check=1.0)
    begun, count = time.perf_counter(), 0
    for draws in IdentityBatchSampler(items.index, people):
        rows = [row for draw in draws for row in (draw.target, *items.references(draw).tolist())]
        reader.prefetch(rows)
        for row in rows:
            reader.parts(row)
        count += 1
        if count == limit:
            break
    return count / (time.perf_counter() - begun)


def folder_bytes(root: str, files: Sequence[Path], people: int, photos: int, references: int, limit: int) -> float:
    """Return batches a second of reading single files alone, one request after the other, one process."""
    items = Folders(root, files, references)
    begun, count = time.perf_counter(), 0
    for numbers in Spread(len(files), photos, people):
        for number in numbers:
            items.read(items.chosen(number))
        count += 1
        if count == limit:
            break
    return count / (time.perf_counter() - begun)

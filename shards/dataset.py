"""Targets and references as tensors, for a `torch.utils.data.DataLoader`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError, MissingExtraError, UsageError
from . import picture
from .cache import LIMIT
from .geometry import Floats, Window, keypoints_in_window, person_window, picture_window
from .index import Integers, Runs, column, load_index
from .options import parse_bytes
from .reader import COLUMNS, DIGEST, Record, SampleReader
from .remote import REQUESTS
from .sampler import Draw, IdentityBatchSampler
from .schema import FACE_DIMENSIONS, KEYPOINTS
from .shuffle import REFERENCES, choose
from .store import FolderStore, open_store

try:
    import torch
    from torch.utils.data import Dataset, default_collate, get_worker_info
except ImportError as error:
    raise MissingExtraError("torch", "train") from error

Crop = Literal["person", "image"]
Size = int | tuple[int, int]
Item = dict[str, Any]

PERSON_MARGIN = 0.1
"""Part of a person box's side that the crop shows beyond it on each side."""


@dataclass(frozen=True)
class View:
    """A decoded photo: `pixels` uint8 `[3, height, width]`, keypoints `[17][3]` in pixels of the crop."""

    pixels: picture.Pixels
    keypoints: Floats
    record: Record
    crop_top_left: tuple[int, int]


class IdentityDataset(Dataset[Item]):
    """Items of one target photo and K other photos of the same person.

    An item is chosen by a `Draw` of `IdentityBatchSampler`, or by a row of `index` (then references are those of
    seed 0, epoch 0). References are a pure function of the draw; the target is never one of them. An identity with
    fewer than K other photos repeats them, and the surplus has view weight 0.

    Item (H, W of `size`, h, w of `reference_size`; pixels float32 in -1…1, or uint8):

    | key | |
    |---|---|
    | `target`, `references` | `[3, H, W]`, `[K, 3, h, w]` |
    | `keypoints`, `reference_keypoints` | `[17, 3]`, `[K, 17, 3]`: x, y in pixels of the crop, confidence (0 outside) |
    | `face`, `reference_faces` | `[512]`, `[K, 512]`, zeros where none |
    | `view_weight`, `reference_view_weight` | scalar, `[K]`: mean body confidence; 1 where the pose stage did not run |
    | `caption`, `reference_captions` | str, list of K str |
    | `key`, `reference_keys`, `identity` | str, list of K str, int |
    | `loss_weight` | scalar: 0 for an item that only fills the batch |
    | `original_size`, `crop_top_left` | int64 `[2]`: (height, width), (top, left): SDXL's size conditions |
    | `epoch`, `step` | int: of the draw |

    Args:
        shards: folder or address of a dataset.
        split: train, val, test, or None for all.
        refs: K.
        size: of the target: (width, height) in pixels, or the side of a square.
        crop: "person": around the person box (the whole picture where there is none); "image": the largest centred
            part of the picture with the aspect of `size`.
        reference_size, reference_crop: of the references, by default those of the target.
        pixels: "float" for float32 in -1…1, "uint8" for bytes, which cost a quarter to hand over.
        check: fraction of the samples whose bytes are compared with the index's sha256; by default none of a local
            dataset and all of a remote one.
        cache, cache_size: folder and bytes (or "64G") of the cache of a remote dataset.
        requests: that each worker has under way at the same time to a remote dataset.

    Raises:
        DataError: there is no finished dataset, or the split is empty.
    """

    def __init__(
        self,
        shards: Path | str,
        split: str | None = "train",
        refs: int = 4,
        size: Size = 512,
        crop: Crop = "person",
        reference_size: Size | None = None,
        reference_crop: Crop | None = None,
        pixels: Literal["float", "uint8"] = "float",
        check: float | None = None,
        cache: Path | None = None,
        cache_size: int | str = LIMIT,
        requests: int = REQUESTS,
    ) -> None:
        if refs < 0:
            raise UsageError(f"refs = {refs} must not be negative")
        self.refs, self.crop, self.size = refs, _known_crop(crop), _size(size)
        self.reference_crop = _known_crop(reference_crop or crop)
        self.reference_size = _size(size if reference_size is None else reference_size)
        if pixels not in ("float", "uint8"):
            raise UsageError(f"pixels = '{pixels}' is unknown; choose float or uint8")
        self._as_float = pixels == "float"
        store = open_store(shards, cache, _bytes(cache_size), requests)
        if check is None:
            check = 0.0 if isinstance(store, FolderStore) else 1.0
        self.index = load_index(store, split, columns=[*COLUMNS, *([DIGEST] if check > 0 else [])])
        """The live rows, for the sampler; items count in this table."""
        if not self.index.num_rows:
            raise DataError(f"{store.name} has no live sample in the split '{split}'; pack with another --split")
        self._reader = SampleReader(store, self.index, check)
        self._identities = column(self.index, "identity")
        self._runs = Runs.of(self._identities)
        self._order: IdentityBatchSampler | None = None

    def follow(self, order: IdentityBatchSampler) -> None:
        """Let the reader know what comes: while a batch is decoded, the worker's next one is on its way.

        Call it before the first batch. It pays with a dataset at an address or on slow disks; every worker then
        computes the order of the epoch too.

        Args:
            order: the sampler that the loader is given.
        """
        self._order = order

    def __len__(self) -> int:
        """Number of live photos."""
        return int(self.index.num_rows)

    def __getitem__(self, item: int | Draw) -> Item:
        """Return an item.

        Raises:
            DataError: a sample is damaged; the message names shard and key.
        """
        draw = _draw(item)
        rows = self.references(draw)
        target = self._view(draw.target, draw.size or self.size, self.crop)
        views = [self._view(int(row), self.reference_size, self.reference_crop) for row in rows]
        return {**self._target_fields(target, draw), **self._reference_fields(views)}

    def __getitems__(self, items: Sequence[int | Draw]) -> list[Item]:
        """Return the items of a batch (the DataLoader calls this); what they need is fetched together first."""
        draws = [_draw(item) for item in items]
        for batch in (draws, self._following(draws[0])):
            self._reader.prefetch([row for draw in batch for row in (draw.target, *self.references(draw).tolist())])
        return [self[draw] for draw in draws]

    def _following(self, draw: Draw) -> list[Draw]:
        """Return the next batch of this worker within the epoch, none where the draw is not of the order followed."""
        order, worker = self._order, get_worker_info()
        if order is None or order.seed != draw.seed:
            return []
        step = draw.step + (worker.num_workers if worker else 1)
        return order.batch(draw.epoch, step) if step < order.steps_in(draw.epoch) else []

    def references(self, draw: Draw) -> Integers:
        """Return the rows of a draw's references, at most K, all different, none the target."""
        same = self._runs.of_identity(int(self._identities[draw.target]))
        return choose(same[same != draw.target], self.refs, draw.seed, draw.epoch, REFERENCES, draw.step, draw.slot)

    def _view(self, row: int, size: tuple[int, int], crop: Crop) -> View:
        record = self._reader.record(row)
        window = _window(record, size, crop)
        try:
            pixels, window = picture.decode_planes(record.image, window, size)
        except picture.UNREADABLE as error:
            raise self._reader.damaged(row, f"its picture cannot be decoded: {error!r}") from error
        top, left = window.top * size[1] / window.height, window.left * size[0] / window.width
        corner = (max(0, round(top)), max(0, round(left)))
        return View(pixels, keypoints_in_window(record.keypoints, window, size), record, corner)

    def _tensor(self, planes: picture.Pixels) -> torch.Tensor:
        tensor = torch.from_numpy(planes)
        return tensor.float().div_(127.5).sub_(1.0) if self._as_float else tensor

    def _target_fields(self, target: View, draw: Draw) -> Item:
        record = target.record
        return {
            "target": self._tensor(target.pixels),
            "keypoints": torch.from_numpy(target.keypoints),
            "face": torch.from_numpy(record.face),
            "view_weight": torch.tensor(record.view_weight),
            "caption": record.caption,
            "key": record.key,
            "identity": record.identity,
            "loss_weight": torch.tensor(draw.weight),
            "original_size": torch.tensor([record.size[1], record.size[0]]),
            "crop_top_left": torch.tensor(target.crop_top_left),
            "epoch": draw.epoch,
            "step": draw.step,
        }

    def _reference_fields(self, views: Sequence[View]) -> Item:
        """Return the fields of K references: `views`, where too few repeated with weight 0, or zeros."""
        count = len(views)
        filled = [views[slot % count] for slot in range(self.refs)] if count else []
        weights = [view.record.view_weight if slot < count else 0.0 for slot, view in enumerate(filled)]
        missing = self.refs - len(filled)
        width, height = self.reference_size
        shape = (3, height, width)
        blanks = [np.full(shape, picture.PADDING[0], np.uint8)] * missing if missing else []
        no_points = np.zeros((KEYPOINTS, 3), np.float32)
        points = [view.keypoints if slot < count else no_points for slot, view in enumerate(filled)]
        points += [no_points] * missing
        no_face = np.zeros(FACE_DIMENSIONS, np.float32)  # a repeated view must not count twice in a mean of faces
        faces = [view.record.face if slot < count else no_face for slot, view in enumerate(filled)]
        faces += [no_face] * missing
        pixels = [view.pixels for view in filled] + blanks
        return {
            "references": self._tensor(np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8)),
            "reference_keypoints": _stacked(points, (KEYPOINTS, 3)),
            "reference_faces": _stacked(faces, (FACE_DIMENSIONS,)),
            "reference_view_weight": torch.tensor(weights + [0.0] * missing),
            "reference_captions": [view.record.caption for view in filled] + [""] * missing,
            "reference_keys": [view.record.key for view in filled] + [""] * missing,
        }


def collate(items: Sequence[Item]) -> Item:
    """Join items into a batch: tensors are stacked, numbers become int64 tensors, text becomes lists.

    `epoch` and `step` stay numbers: they are the same for the whole batch, and a checkpoint needs them.
    """
    batch: Item = {}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        if isinstance(first, torch.Tensor):
            batch[name] = default_collate(values)  # stacks; a worker does it in the memory that it shares
        elif name in ("epoch", "step"):
            batch[name] = first
        elif isinstance(first, int):
            batch[name] = torch.tensor(values)
        else:
            batch[name] = values
    return batch


def _draw(item: int | Draw) -> Draw:
    return item if isinstance(item, Draw) else Draw(int(item), slot=int(item))


def _bytes(size: int | str) -> int:
    number = parse_bytes(size)
    if not isinstance(number, int):
        raise UsageError(f"cache_size = {size!r} is not a size; write it like 64G")
    return number


def _window(record: Record, size: tuple[int, int], crop: Crop) -> Window:
    if crop == "person":
        return person_window(record.person_box, record.size, size, PERSON_MARGIN)
    return picture_window(record.size, size)


def _stacked(arrays: Sequence[Floats], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays) if arrays else np.zeros((0, *shape), np.float32))


def _size(size: Size) -> tuple[int, int]:
    width, height = (size, size) if isinstance(size, int) else size
    if min(width, height) < 1:
        raise UsageError(f"size = {size} must be at least one pixel")
    return width, height


def _known_crop(crop: Crop) -> Crop:
    if crop not in ("person", "image"):
        raise UsageError(f"crop = '{crop}' is unknown; choose person or image")
    return crop

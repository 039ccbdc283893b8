"""Targets and references of the adapter, or what the cache has of them: then no picture is decoded.

Legend: B batch, K references.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..shards.dataset import IdentityDataset, Item, View
from ..shards.geometry import picture_window
from ..shards.index import read_index, whole
from ..shards.sampler import Draw
from . import person_masks
from .cache import Space
from .encoders import AdapterCache, photo_key, text_key

NO_PIXELS = np.empty((3, 0, 0), np.uint8)


class CachedDataset(IdentityDataset):
    """An `IdentityDataset` whose batches come from the cache where it has all that they need.

    Each of three things is given in one of two ways, the same for a whole batch: `target` or `latent_mean` and
    `latent_std`; `references` or `reference_mu` and `reference_logvar`; and `text_states` with `text_pooled`, or not.
    Every item has `photo` and `reference_photos`, the keys of its entries (empty for a reference that only fills up).

    Args:
        shards, split, options: as for `IdentityDataset`; the target's crop is the picture, a reference's the person.
        cache: None gives the items of `IdentityDataset`.
        caption_fallback: text of photos without a caption.
        pictures: decode references also where their posteriors are cached, because a loss looks at them.
        mask: other than `none`: every item has `person_mask`, `[1, h, w]` in 0..1, where its person is in the target.
    """

    def __init__(
        self,
        shards: Path,
        split: str,
        cache: AdapterCache | None,
        caption_fallback: str,
        pictures: bool = False,
        mask: person_masks.Kind = "none",
        **options: Any,  # noqa: ANN401  (those of IdentityDataset)
    ) -> None:
        super().__init__(shards, split, crop="image", reference_crop="person", pixels="uint8", **options)
        self._cache, self._fallback, self._pictures, self._mask = cache, caption_fallback, pictures, mask
        self._photos = _photo_digests(shards, split) if cache else []

    def __getitem__(self, item: int | Draw) -> Item:
        """Return an item as it is in a batch of its own."""
        if self._cache is None:
            return super().__getitem__(item)
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int | Draw]) -> list[Item]:
        """Return the items of a batch."""
        if self._cache is None:
            return super().__getitems__(items)
        draws = [item if isinstance(item, Draw) else Draw(int(item), slot=int(item)) for item in items]
        references = [[int(row) for row in self.references(draw)] for draw in draws]
        needed = [row for draw, rows in zip(draws, references, strict=True) for row in (draw.target, *rows)]
        self._reader.prefetch(needed)
        latents = self._cache.latents(draws[0].size or self.size)
        cached = all(self.photo(draw.target) in latents for draw in draws)
        known = all(self.photo(row) in self._cache.posteriors for rows in references for row in rows)
        made = []
        for draw, rows in zip(draws, references, strict=True):
            target = self._target_cached(draw, latents) if cached else self._target(draw)
            made.append({**target, **(self._references_cached(rows) if known else self._references(rows))})
        self._add_text(made)
        return made

    def photo(self, row: int) -> str:
        """Return the key of a row's entries."""
        return self._photos[row]

    def stored_caption(self, row: int) -> str:
        """Return the caption of a row as it lies in its shard."""
        return self._reader.record(row).caption

    def caption(self, text: str) -> str:
        """Return what the text encoders are given for a photo."""
        return text.strip() or self._fallback

    def material(self, row: int, size: tuple[int, int]) -> Item:
        """Return what the entries of a photo are made of: itself as a target of `size`, and as the only reference."""
        reference = self._view(row, self.reference_size, self.reference_crop)
        pixels, keypoints = self._tensor(reference.pixels), torch.from_numpy(reference.keypoints)
        item = {
            "references": pixels[None],
            "reference_keypoints": keypoints[None],
            "reference_photos": [self.photo(row)],
        }
        return {**self._target(Draw(row, size=size)), **item}

    def _target_fields(self, target: View, draw: Draw) -> Item:
        fields = super()._target_fields(target, draw)
        size, record = draw.size or self.size, target.record
        if self._mask == "box":
            window = picture_window(record.size, size)
            fields["person_mask"] = person_masks.of_box(record.person_box, window, size)
        elif self._mask == "person":
            fields["person_mask"] = person_masks.of_keypoints(fields["keypoints"], size)
        return fields

    def _target(self, draw: Draw) -> Item:
        fields = self._target_fields(self._view(draw.target, draw.size or self.size, self.crop), draw)
        return {**fields, "photo": self.photo(draw.target)}

    def _target_cached(self, draw: Draw, latents: Space) -> Item:
        """Return a target with its latents and without pixels; where its keypoints lie was kept with the entry."""
        entry = latents.entry(self.photo(draw.target))
        top, left = entry["crop_top_left"].tolist()
        view = View(NO_PIXELS, entry["keypoints"].numpy(), self._reader.record(draw.target), (top, left))
        fields = self._target_fields(view, draw)
        del fields["target"]
        named = {f"latent_{name}": entry[name] for name in ("mean", "std")}
        return {**fields, **named, "photo": self.photo(draw.target)}

    def _references(self, rows: Sequence[int]) -> Item:
        views = [self._view(row, self.reference_size, self.reference_crop) for row in rows]
        return {**self._reference_fields(views), "reference_photos": self._reference_photos(rows)}

    def _references_cached(self, rows: Sequence[int]) -> Item:
        """Return references with their posteriors, and without pixels unless a loss looks at them."""
        assert self._cache is not None
        entries = [self._cache.posteriors.entry(self.photo(row)) for row in rows]
        if self._pictures:
            item = self._references(rows)
        else:
            keypoints = [entry["keypoints"].numpy() for entry in entries]
            records = [self._reader.record(row) for row in rows]
            views = [View(NO_PIXELS, *pair, (0, 0)) for pair in zip(keypoints, records, strict=True)]
            item = {**self._reference_fields(views), "reference_photos": self._reference_photos(rows)}
            del item["references"]
        for name in ("mu", "logvar"):
            found = torch.stack([entry[name] for entry in entries])
            item[f"reference_{name}"] = torch.cat([found, found.new_zeros(self.refs - len(rows), found.shape[-1])])
        return item

    def _reference_photos(self, rows: Sequence[int]) -> list[str]:
        return [self.photo(row) for row in rows] + [""] * (self.refs - len(rows))

    def _add_text(self, items: list[Item]) -> None:
        assert self._cache is not None
        keys = [text_key(self.caption(item["caption"])) for item in items]
        if all(key in self._cache.text for key in keys):
            text = self._cache.text.read(keys)
            for row, item in enumerate(items):
                item |= {f"text_{name}": tensor[row] for name, tensor in text.items()}


def _photo_digests(shards: Path, split: str) -> list[str]:
    """Return the key of every live row of a split, in the order of the index."""
    rows = read_index(shards, split, columns=["image_sha256", "json_sha256"])
    columns = [_bytes_of(rows, name) for name in ("image_sha256", "json_sha256")]
    return [photo_key(*pair) for pair in zip(*columns, strict=True)]


def _bytes_of(rows: Any, name: str) -> Iterator[bytes]:  # noqa: ANN401  (pyarrow has no types)
    return (value.as_py() for value in whole(rows, name))

"""What a folder already holds when a pack begins: the ground that an append builds on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from .excluded import RETIRED_BY_CURATION, read_excluded, withdrawn
from .index import load_index
from .journal import JOURNAL
from .manifest import Manifest
from .options import PackConfig
from .record import annotations_digest
from .schema import EXCLUDED_FILE, INDEX_FILE, INDEX_SCHEMA, MANIFEST_FILE, SHARD_NAME
from .store import FolderStore

Pair = tuple[str, str]
"""Slug of an identity and sha256 of a photo."""


@dataclass(frozen=True)
class Base:
    """A dataset to be added to: its manifest and its whole index, retired rows too. An empty one has no manifest."""

    manifest: Manifest | None
    index: pa.Table
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Reason by sha256 of the photos that are never packed."""

    @classmethod
    def empty(cls, excluded: Mapping[str, str]) -> "Base":
        """Return the base of a new dataset."""
        return cls(None, INDEX_SCHEMA.empty_table(), excluded)

    @classmethod
    def load(cls, folder: Path) -> "Base":
        """Read the dataset of a folder, empty when there is none.

        Raises:
            DataError: the folder holds tars that no pack of bolid left there.
        """
        with FolderStore(folder) as store:
            excluded = read_excluded(store)
            if store.exists(MANIFEST_FILE):
                manifest = Manifest.parse(store.read(MANIFEST_FILE), str(folder / MANIFEST_FILE))
                if manifest.excluded and not excluded:
                    raise DataError(
                        f"{folder / EXCLUDED_FILE} is missing; restore it from a copy: it lists {manifest.excluded} "
                        "photos that must not come back"
                    )
                # A pack that was killed just before its manifest left rows of shards that do not count yet.
                index = load_index(store, retired=True, columns=INDEX_SCHEMA.names)
                counted = index.filter(pc.is_in(index["shard"], pa.array(list(manifest.shards))))
                return cls(manifest, counted, {**withdrawn(index), **excluded})
            if store.exists(INDEX_FILE):  # a repack was killed, or is about to begin again
                return cls.empty({**withdrawn(load_index(store, retired=True)), **excluded})
        foreign = [path.name for path in folder.glob("*.tar") if SHARD_NAME.fullmatch(path.name)]
        if foreign and not (folder / JOURNAL).exists():
            raise DataError(
                f"{folder} holds {foreign[0]} but no {MANIFEST_FILE}: it is not a dataset of bolid; "
                "choose another folder with --out"
            )
        return cls.empty(excluded)

    def require_options(self, config: PackConfig, folder: Path) -> None:
        """Check that the samples to come will be made like those that are there.

        Raises:
            DataError: an option differs from the one that the dataset was packed with.
        """
        if self.manifest is None:
            return
        old, new = self.manifest.options.model_dump(), config.model_dump()
        changed = [name for name in old if name != "shard_size" and old[name] != new[name]]
        if changed:
            raise DataError(
                f"{folder} was packed with {', '.join(f'{name} = {old[name]}' for name in changed)}; "
                "use the same options to append, --repack to write everything anew, or another --out"
            )

    @cached_property
    def identity_numbers(self) -> dict[str, int]:
        """Number of every identity, by slug."""
        return dict(zip(self._slugs, self.index["identity"].to_pylist(), strict=True))

    @cached_property
    def identity_splits(self) -> dict[str, str]:
        """Split of every identity, by slug."""
        return dict(zip(self._slugs, self.index["split"].to_pylist(), strict=True))

    @cached_property
    def next_numbers(self) -> dict[str, int]:
        """First free photo number of every identity, by slug."""
        return {slug: 1 + number for slug, number in zip(self._slugs, self._numbers, strict=True)}

    @cached_property
    def photos(self) -> set[Pair]:
        """(slug, sha256) of every sample, retired ones too."""
        return set(zip(self._slugs, self.index["sha256"].to_pylist(), strict=True))

    def rows_of_photos(self, shas: Collection[str]) -> list[tuple[str, str]]:
        """Return (sha256, slug) of every sample, retired ones too, that is one of these photos."""
        if not self.index.num_rows:
            return []
        same = self.index.select(["sha256", "identity_slug"]).filter(
            pc.is_in(self.index["sha256"], pa.array(list(shas), pa.string()))
        )
        return list(zip(same["sha256"].to_pylist(), same["identity_slug"].to_pylist(), strict=True))

    @property
    def packs(self) -> int:
        """Number of packs that wrote to the dataset."""
        return self.manifest.packs if self.manifest else 0

    def next_shard(self, split: str) -> int:
        """Return the first free shard number of a split."""
        names = self.manifest.shards if self.manifest else {}
        numbers = [int(match[2]) for name in names if (match := SHARD_NAME.fullmatch(name)) and match[1] == split]
        return max(numbers, default=-1) + 1

    def stale(self, photos: pa.Table) -> int:
        """Count the live samples about which the curated table now says something else than when they were packed."""
        packed = zip(
            self._slugs,
            self.index["sha256"].to_pylist(),
            self.index["retired"].to_pylist(),
            self.index["annotations"].to_pylist(),
            strict=True,
        )
        said = {(slug, sha256): digest for slug, sha256, retired, digest in packed if not retired}
        if not said:
            return 0
        rows = (row for batch in photos.to_batches(256) for row in batch.to_pylist())
        pairs = (((row["identity"], row["sha256"]), row) for row in rows)
        return sum(annotations_digest(row) != said[pair] for pair, row in pairs if pair in said)

    def following(self, kept: set[Pair]) -> pa.Table:
        """Return the index with `retired` following the curation: what it no longer keeps is retired, and back.

        A sample that is excluded is retired with the reason of its exclusion, under whatever identity it lies.
        """
        if not self.index.num_rows:
            return self.index
        reasons = np.array(self.index["retired_reason"].to_pylist(), dtype=object)
        retired = self.index["retired"].to_numpy().copy()
        pairs = zip(self._slugs, self.index["sha256"].to_pylist(), strict=True)
        wanted = np.fromiter((pair in kept for pair in pairs), bool, len(retired))
        gone, back = ~retired & ~wanted, retired & wanted & (reasons == RETIRED_BY_CURATION)
        reasons[gone], reasons[back] = RETIRED_BY_CURATION, ""
        retired = (retired | gone) & ~back
        for row, sha256 in enumerate(self.index["sha256"].to_pylist() if self.excluded else []):
            if sha256 in self.excluded:
                retired[row], reasons[row] = True, self.excluded[sha256]
        columns = {"retired": retired, "retired_reason": reasons.tolist()}
        table = self.index
        for name, values in columns.items():
            known = INDEX_SCHEMA.field(name)
            table = table.set_column(table.schema.get_field_index(name), known, pa.array(values, known.type))
        return table

    @cached_property
    def _slugs(self) -> list[str]:
        slugs: list[str] = self.index["identity_slug"].to_pylist()
        return slugs

    @cached_property
    def _numbers(self) -> list[int]:
        numbers: list[int] = self.index["number"].to_pylist()
        return numbers

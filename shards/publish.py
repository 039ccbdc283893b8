"""The last step of a pack: index, cards, manifest, and the removal of what is left over."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .. import atomic
from ..errors import DataError
from .base import Base
from .card import card_text
from .croissant import croissant_text
from .curated import fingerprint
from .journal import Written
from .manifest import Manifest, ShardEntry, SplitEntry
from .options import PackConfig
from .schema import CARD_FILE, CROISSANT_FILE, EXCLUDED_FILE, INDEX_FILE, INDEX_SCHEMA, SHARD_NAME, SPLITS

ROW_GROUP = 2**20


def publish(
    folder: Path,
    config: PackConfig,
    base: Base,
    old: pa.Table,
    written: Mapping[str, Written],
    photos: pa.Table,
) -> Manifest:
    """Write index, cards and manifest, in this order.

    Args:
        folder: of the dataset, with all shards in place.
        config: options of the pack.
        base: what was there before.
        old: the index rows of `base`, `retired` brought up to date.
        written: the shards of this pack.
        photos: the kept rows of the curated table.
    """
    index = _sorted(pa.concat_tables([_plain(table) for table in (old, *(one.rows for one in written.values()))]))
    if not index.num_rows or pc.all(index["retired"]).as_py():
        raise DataError(f"{folder} would hold no live sample: all of them are retired; pack other photos")
    write_index(folder, index)
    shards = {**(base.manifest.shards if base.manifest else {}), **_entries(written, base.packs)}
    manifest = Manifest(
        options=config,
        curation=fingerprint(photos),
        packs=base.packs + (1 if written else 0),
        retired=pc.sum(index["retired"]).as_py() or 0,
        index_sha256=_sha256(folder / INDEX_FILE),
        excluded=len(base.excluded),
        excluded_sha256=_sha256(folder / EXCLUDED_FILE) if base.excluded else "",
        splits=split_entries(index, shards),
        shards=dict(sorted(shards.items())),
    )
    atomic.write_text(folder / CARD_FILE, card_text(manifest, photos))
    atomic.write_text(folder / CROISSANT_FILE, croissant_text(manifest))
    manifest.write(folder)
    return manifest


def write_index(folder: Path, index: pa.Table) -> None:
    """Write `index.parquet`, whole or not at all; the same rows give the same bytes."""
    with atomic.replacing(folder / INDEX_FILE) as temporary:
        pq.write_table(
            index.cast(INDEX_SCHEMA),
            temporary,
            row_group_size=ROW_GROUP,
            compression={name: "none" if _is_digest(name) else "zstd" for name in INDEX_SCHEMA.names},
            use_dictionary=[field.name for field in INDEX_SCHEMA if pa.types.is_dictionary(field.type)],
        )


def _is_digest(name: str) -> bool:
    return name == "digest" or name.endswith("sha256")


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Delete temporary files of killed packs, and shards of an earlier pack that the dataset no longer has."""
    for temporary in folder.glob(f".*{atomic.TEMPORARY_SUFFIX}"):
        temporary.unlink()
    for path in folder.glob("*.tar"):
        if SHARD_NAME.fullmatch(path.name) and path.name not in manifest.shards:
            path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(table: pa.Table) -> pa.Table:
    """Turn dictionaries into strings, so that tables with different dictionaries can be joined."""
    fields = [
        pa.field(field.name, field.type.value_type, nullable=False) if pa.types.is_dictionary(field.type) else field
        for field in INDEX_SCHEMA
    ]
    return table.cast(pa.schema(fields))


def _sorted(index: pa.Table) -> pa.Table:
    return index.sort_by([("identity", "ascending"), ("number", "ascending")]).combine_chunks()


def _entries(written: Mapping[str, Written], pack: int) -> dict[str, ShardEntry]:
    return {
        name: ShardEntry(
            split=one.rows["split"][0].as_py(),
            bytes=one.bytes,
            sha256=one.sha256,
            samples=one.rows.num_rows,
            identities=pc.count_distinct(one.rows["identity"]).as_py(),
            pack=pack,
        )
        for name, one in written.items()
    }


def split_entries(index: pa.Table, shards: Mapping[str, ShardEntry]) -> dict[str, SplitEntry]:
    """Count what every split holds, by the index and the entries of its shards."""
    live = index.filter(pc.invert(index["retired"]))
    entries = {}
    for split in SPLITS:
        rows = live.filter(pc.equal(live["split"], split))
        tars = [entry for entry in shards.values() if entry.split == split]
        entries[split] = SplitEntry(
            identities=pc.count_distinct(rows["identity"]).as_py(),
            samples=rows.num_rows,
            shards=len(tars),
            bytes=sum(entry.bytes for entry in tars),
        )
    return entries

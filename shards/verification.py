"""Is a dataset what its manifest and its index say? Every byte is read once."""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import progress
from ..errors import DataError
from .excluded import read_excluded
from .index import load_index, read_manifest
from .manifest import Manifest, ShardEntry
from .publish import split_entries
from .reader import parse
from .schema import (
    EXCLUDED_FILE,
    INDEX_FILE,
    INDEX_SCHEMA,
    MANIFEST_FILE,
    META_FIELDS,
    PARTS,
    SHARD_NAME,
    SPLITS,
    sample_digest,
    sample_key,
)
from .store import FolderStore, Store, open_store
from .tar import members

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be; shard and key are empty where it concerns the whole dataset."""

    shard: str
    key: str
    text: str

    def __str__(self) -> str:
        """Say where and what."""
        place = ", ".join(part for part in (self.shard, self.key) if part)
        return f"{place}: {self.text}" if place else self.text


def require_sound(shards: Path | str) -> None:
    """Check a dataset, see `verify`.

    Raises:
        DataError: there are problems; the first ones are told, with shard and key.
    """
    problems = verify(shards)
    if problems:
        told = "\n".join(f"  {problem}" for problem in problems[:10])
        raise DataError(
            f"{shards}: {len(problems)} problems, the first are\n{told}\n"
            "restore the named shards from a copy, or write the dataset again with: bolid pack --repack"
        )


def tell_verified(shards: Path | str) -> None:
    """Check a dataset and print what was found: every problem, or that it is sound.

    Raises:
        DataError: there are problems.
    """
    problems = verify(shards)
    for problem in problems:
        progress.result("problem", str(problem), shard=problem.shard, key=problem.key, problem=problem.text)
    if problems:
        raise DataError(
            f"{shards}: {len(problems)} problems; restore the named shards from a copy, or write the dataset again "
            "with: bolid pack --repack"
        )
    entries = read_manifest(shards).shards.values()
    counts = {name: sum(getattr(entry, name) for entry in entries) for name in ("samples", "bytes")}
    progress.result(
        "sound",
        f"{shards} is sound: {len(entries)} shards, {counts['samples']} samples, {counts['bytes'] / 1e6:.1f} MB",
        shards=len(entries),
        **counts,
    )


def verify(shards: Path | str) -> list[Problem]:
    """Compare a dataset with its manifest and its index: digests, keys, parts, offsets, splits, identities.

    Returns:
        the problems, none for a sound dataset.

    Raises:
        DataError: there is no finished dataset, or manifest or index cannot be read at all.
    """
    store = open_store(shards)
    manifest = Manifest.parse(store.read(MANIFEST_FILE), f"{store.name}/{MANIFEST_FILE}")
    index = load_index(store, retired=True, columns=INDEX_SCHEMA.names)
    problems = [
        *_index_problems(store, manifest, index),
        *_grouping_problems(index),
        *_exclusion_problems(store, manifest, index),
    ]
    problems += _stray_files(store, manifest)
    with progress.bar("verify", len(manifest.shards), "shards") as bar:
        for name, entry in manifest.shards.items():
            rows = index.filter(pc.equal(index["shard"], name)).sort_by("image_offset")
            problems += _shard_problems(store, name, entry, rows)
            bar.advance(1, name)
    return problems


def _index_problems(store: Store, manifest: Manifest, index: pa.Table) -> Iterator[Problem]:
    if hashlib.sha256(store.read(INDEX_FILE)).hexdigest() != manifest.index_sha256:
        yield Problem("", "", f"{INDEX_FILE} is not the one that {MANIFEST_FILE} names")
    unknown = set(pc.unique(index["shard"].cast(pa.string())).to_pylist()) - set(manifest.shards)
    for name in sorted(unknown):
        yield Problem(name, "", f"the index has samples in it, but {MANIFEST_FILE} does not name it")
    yield from _count_problems(manifest, index)


def _count_problems(manifest: Manifest, index: pa.Table) -> Iterator[Problem]:
    """Compare every count of the manifest with what the index holds."""
    splits = split_entries(index, manifest.shards)
    retired = pc.sum(index["retired"]).as_py() or 0
    said: dict[str, object] = {f"splits.{split}": manifest.splits.get(split) for split in SPLITS}
    found: dict[str, object] = {f"splits.{split}": splits[split] for split in SPLITS}
    for name, one, other in [("retired", manifest.retired, retired), *((n, said[n], found[n]) for n in said)]:
        if one != other:
            yield Problem("", "", f"{MANIFEST_FILE} says {name} = {one}, the index holds {other}")
    rows = index.select(["shard", "identity"]).group_by("shard")
    counted = rows.aggregate([("identity", "count"), ("identity", "count_distinct")]).to_pylist()
    counts = {row["shard"]: (row["identity_count"], row["identity_count_distinct"]) for row in counted}
    for shard, entry in manifest.shards.items():
        if (entry.samples, entry.identities) != counts.get(shard, (0, 0)):
            yield Problem(
                shard, "", f"{MANIFEST_FILE} counts {entry.samples} samples of {entry.identities} people in it"
            )
        if not (match := SHARD_NAME.fullmatch(shard)) or match[1] != entry.split:
            yield Problem(shard, "", f"{MANIFEST_FILE} calls it a shard of {entry.split}")


def _grouping_problems(index: pa.Table) -> Iterator[Problem]:
    keys = index.group_by("key").aggregate([([], "count_all")])
    for key in keys.filter(pc.greater(keys["count_all"], 1))["key"].to_pylist():
        yield Problem("", key, "the key is not unique")
    plain = pa.table({name: index[name].cast(pa.string()) for name in ("split", "shard")})
    plain = plain.append_column("identity", index["identity"]).append_column("pack", index["pack"])
    yield from _several(plain, ["identity"], "split", "is in several splits")
    plain = plain.append_column("sha256", index["sha256"])
    for photo in _in_several(plain.filter(pc.invert(index["retired"])), ["sha256"], "split"):
        yield Problem("", f"photo {photo}", "is in several splits")
    yield from _several(plain, ["identity", "pack"], "shard", "is in several shards of one pack")


def _several(table: pa.Table, group: list[str], column: str, text: str) -> Iterator[Problem]:
    for identity in _in_several(table, group, column):
        yield Problem("", f"identity {identity}", text)


def _in_several(table: pa.Table, group: list[str], column: str) -> list[Any]:
    """Return the first value of the groups in which a column has several values."""
    counted = table.group_by(group).aggregate([(column, "count_distinct")])
    found: list[Any] = counted.filter(pc.greater(counted[f"{column}_count_distinct"], 1))[group[0]].to_pylist()
    return found


def _exclusion_problems(store: Store, manifest: Manifest, index: pa.Table) -> Iterator[Problem]:
    excluded = read_excluded(store)
    found = hashlib.sha256(store.read(EXCLUDED_FILE)).hexdigest() if excluded else ""
    if found != manifest.excluded_sha256:
        yield Problem("", "", f"{EXCLUDED_FILE} is not the one that {MANIFEST_FILE} names")
    live = index.filter(pc.invert(index["retired"]))
    back = live.filter(pc.is_in(live["sha256"], pa.array(list(excluded), pa.string())))
    for row in back.select(["shard", "key"]).to_pylist():
        yield Problem(row["shard"], row["key"], f"its photo is excluded by {EXCLUDED_FILE} and yet not retired")


def _stray_files(store: Store, manifest: Manifest) -> Iterator[Problem]:
    if isinstance(store, FolderStore):
        for path in sorted(Path(store.name).glob("*.tar")):
            if SHARD_NAME.fullmatch(path.name) and path.name not in manifest.shards:
                yield Problem(path.name, "", f"{MANIFEST_FILE} does not name it; delete it")


def _shard_problems(store: Store, name: str, entry: ShardEntry, rows: pa.Table) -> Iterator[Problem]:
    yield from _order_problems(name, entry, rows)
    try:
        if not store.exists(name):
            yield Problem(name, "", "the file is missing")
            return
        with store.open(name) as source:
            file = _Hashing(source)
            yield from _member_problems(name, file, rows)
            file.read_rest()
    except OSError as error:  # a bad place on the disk, or a network that gave up
        yield Problem(name, "", f"it cannot be read to its end: {error}")
        return
    if (file.size, file.digest) != (entry.bytes, entry.sha256):
        yield Problem(name, "", f"its sha256 or size ({file.size} bytes) is not the one in {MANIFEST_FILE}")


def _order_problems(name: str, entry: ShardEntry, rows: pa.Table) -> Iterator[Problem]:
    identities = rows["identity"].to_pylist()
    begun = [one for one, before in zip(identities, [None, *identities], strict=False) if one != before]
    for identity in {one for one in begun if begun.count(one) > 1}:
        yield Problem(name, f"identity {identity}", "its samples are not side by side")
    for split in set(rows["split"].to_pylist()) - {entry.split}:
        yield Problem(name, "", f"the index has samples of {split} in a shard of {entry.split}")


def _member_problems(name: str, file: "_Hashing", rows: pa.Table) -> Iterator[Problem]:
    found = members(file)
    sample: list[bytes] = []
    for row, part in ((row, part) for row in rows.to_pylist() for part in PARTS):
        try:
            member = next(found, None)
        except tarfile.TarError as error:
            yield Problem(name, row["key"], f"from its {part} on it is no tar any more: {error}")
            return
        if member is None:
            yield Problem(name, row["key"], f"the tar ends before its {part}")
            return
        yield from _part_problems(name, row, part, member.name, member.offset, member.data, member.canonical)
        sample = [*sample, member.data] if part != PARTS[0] else [member.data]
        if part == PARTS[-1]:
            yield from _content_problems(name, row, sample)
    try:
        for member in found:
            yield Problem(name, member.name, "the index does not know this file")
    except tarfile.TarError as error:
        yield Problem(name, "", f"after its last sample it is no tar any more: {error}")


def _part_problems(
    shard: str, row: Row, part: str, name: str, offset: int, data: bytes, canonical: bool
) -> Iterator[Problem]:
    key = row["key"]
    wanted = f"{key}.{row['image_suffix'] if part == 'image' else part}"
    if name != wanted or key != sample_key(row["identity"], row["number"]):
        yield Problem(shard, key, f"the tar has {name} where the index has {wanted}")
    if not canonical:
        yield Problem(shard, key, f"the tar header of {name} has a time, an owner or a mode that bolid does not write")
    if (offset, len(data)) != (row[f"{part}_offset"], row[f"{part}_size"]):
        yield Problem(shard, key, f"{name} lies at {offset}+{len(data)}, not where the index says")
    if hashlib.sha256(data).digest() != row[f"{part}_sha256"]:
        yield Problem(shard, key, f"the bytes of {name} changed: their sha256 is not the one in the index")


def _content_problems(shard: str, row: Row, sample: list[bytes]) -> Iterator[Problem]:
    key = row["key"]
    try:
        record = parse(key, *sample)
    except (ValueError, KeyError, TypeError, EOFError, json.JSONDecodeError) as error:
        yield Problem(shard, key, f"a part cannot be parsed: {error!r}")
        return
    if sample_digest(row[f"{part}_sha256"] for part in PARTS) != row["digest"]:
        yield Problem(shard, key, "its digest in the index is not that of its four sha256")
    if list(record.meta) != list(META_FIELDS):
        yield Problem(shard, key, "its JSON has other keys than the format")
    for name in ("key", "identity", "identity_slug", "sha256", "width", "height", "has_face", "pose_confidence"):
        said = record.meta.get(name)
        if said != row[name] and not (isinstance(said, float) and np.float32(said) == np.float32(row[name])):
            yield Problem(
                shard, key, f"'{name}' is {record.meta.get(name)!r} in its JSON and {row[name]!r} in the index"
            )


class _Hashing:
    """A reader that keeps the digest and the number of the bytes that went through it."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source, self._sha256, self.size = source, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data: bytes = self._source.read(size)
        self._sha256.update(data)
        self.size += len(data)
        return data

    def read_rest(self) -> None:
        """Read to the end, a piece at a time."""
        while self.read(2**20):
            pass

    @property
    def digest(self) -> str:
        """The sha256 of what was read, hexadecimal."""
        return self._sha256.hexdigest()

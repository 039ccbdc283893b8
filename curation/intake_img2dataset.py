"""An output folder of img2dataset as a source of photos: its formats `files`, `webdataset` and `parquet`.

A shard is `00000.parquet` with a row a sample (also of those that were not downloaded), beside it the folder `00000` or
the archive `00000.tar` with `<key>.<jpg|png|webp>` and `<key>.json`, or the bytes are a column of the table itself. A
shard whose writing was cut short has a table without an end: its samples are then read from their .json.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from ..config import near_match
from ..crawler.address import canonical
from ..crawler.from_files import FilePhoto
from ..crawler.site import clean_slug
from ..crawler.url_list import words
from ..errors import UsageError
from .intake_folders import NO_IDENTITY
from .intake_source import Found, Refused, mark, opened, unreadable

IMAGES = ("jpg", "png", "webp")
"""What img2dataset calls photos."""
_SHARD = re.compile(r"(\d+)\.(parquet|tar|tfrecord)")
_BATCH = 64
_DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError)

Meta = Mapping[str, Any]
Shard = Mapping[str, Meta]
"""What is said of each sample, by its key."""


@dataclass(frozen=True)
class _Reader:
    """How samples become photos: the column of the identity, and the address of what they lie in."""

    column: str
    container: Path

    def sample(
        self, key: str, meta: Meta, address: str, marked: str, open_: Callable[[], IO[bytes]]
    ) -> Found | Refused:
        """Return the photo of a sample, or why it has none."""
        name = words(meta.get(self.column)).strip()
        slug = clean_slug(name)
        if slug is None:
            return Refused(address, "rejected", NO_IDENTITY, f"'{self.column}' is empty")
        url = canonical("", words(meta.get("url"))) or address
        photo = FilePhoto(slug, name, address, url, self.container.as_uri(), marked, key.encode())
        return Found(photo, open_)


def is_output(folder: Path) -> bool:
    """Say whether img2dataset wrote this folder."""
    return any(_SHARD.fullmatch(path.name) for path in folder.iterdir())


def require_column(folder: Path, column: str | None) -> str:
    """Return the column of the identity.

    Raises:
        UsageError: none was named, it is not there, or the output has no photos that can be read.
    """
    known = _columns(folder)
    listed = f"(columns: {', '.join(known)})"
    if any(path.suffix == ".tfrecord" for path in folder.iterdir()):
        raise UsageError(
            f"{folder} holds TFRecords; write it with img2dataset --output_format webdataset, then take it"
        )
    if column is None:
        raise UsageError(
            f"{folder} is an output of img2dataset: add --identity-column NAME, whose photo each is {listed}"
        )
    if column not in known:
        raise UsageError(f"{folder} has no column '{column}'{near_match(column, known)}; name another {listed}")
    return column


def read(folder: Path, column: str) -> Iterator[Found | Refused]:
    """Yield the samples of all shards in the order of their keys; `folder` is absolute."""
    for stem in sorted({found[1] for path in folder.iterdir() if (found := _SHARD.fullmatch(path.name))}):
        table, archive, files = folder / f"{stem}.parquet", folder / f"{stem}.tar", folder / stem
        shard = _shard(table, column)
        if archive.is_file():
            yield from _from_archive(archive, shard, column)
        elif files.is_dir():
            yield from _from_folder(files, shard, column)
        elif shard is not None and _bytes_column(table) is not None:
            yield from _from_table(table, column)
        else:
            yield Refused(table.as_uri(), "failed", "damaged", "no photos beside it, and none in it")


def _columns(folder: Path) -> list[str]:
    """Return the columns of the first table that can be read, else the keys of the first .json."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            return [name for name in pq.read_schema(path).names if name not in IMAGES]
        except (pa.ArrowInvalid, OSError):
            continue
    for path in sorted(folder.glob("*/*.json")):
        return list(_json(path.read_bytes()))
    for path in sorted(folder.glob("*.tar")):
        members, _ = _members(path)
        for parts in members.values():
            if "json" in parts:
                return list(_json(_section(path, *parts["json"]).read()))
    return []


def _shard(table: Path, column: str) -> dict[str, Meta] | None:
    """Return what a shard's table says of its samples; None where it cannot be read."""
    try:
        known = pq.read_schema(table).names
        wanted = [name for name in ("key", "url", "status", "error_message", column) if name in known]
        rows = pq.read_table(table, columns=wanted).to_pylist()
    except (pa.ArrowInvalid, OSError):
        return None
    return {row["key"]: row for row in sorted(rows, key=lambda row: str(row["key"]))}


def _not_downloaded(shard: Shard, address: Path) -> Iterator[Refused]:
    for key, meta in shard.items():
        if not _downloaded(meta):
            yield Refused(_within(address, key), "rejected", str(meta["status"]), str(meta.get("error_message") or ""))


def _downloaded(meta: Meta) -> bool:
    return bool(meta.get("status", "success") == "success")


def _within(container: Path, key: str) -> str:
    return f"{container.as_uri()}#{quote(key)}"


def _from_folder(files: Path, shard: Shard | None, column: str) -> Iterator[Found | Refused]:
    reader = _Reader(column, files)
    photos = {path.stem: path for path in sorted(files.iterdir()) if path.suffix[1:] in IMAGES}
    yield from _not_downloaded(shard or {}, files)
    for key in sorted(photos.keys() | {key for key, meta in (shard or {}).items() if _downloaded(meta)}):
        path = photos.get(key)
        if path is None:
            yield Refused(_within(files, key), "failed", "missing", "the table has it, the folder does not")
            continue
        try:
            meta = shard[key] if shard is not None and key in shard else _json(path.with_suffix(".json").read_bytes())
            yield reader.sample(key, meta, path.as_uri(), mark(path.stat()), partial(opened, path))
        except OSError as error:
            yield unreadable(path, error)


def _from_archive(archive: Path, shard: Shard | None, column: str) -> Iterator[Found | Refused]:
    reader = _Reader(column, archive)
    members, damage = _members(archive)
    try:
        marked = mark(archive.stat())
    except OSError as error:
        yield unreadable(archive, error)
        return
    yield from _not_downloaded(shard or {}, archive)
    for key in sorted(members.keys() | {key for key, meta in (shard or {}).items() if _downloaded(meta)}):
        parts = members.get(key, {})
        image = next((parts[kind] for kind in IMAGES if kind in parts), None)
        if image is None:
            yield Refused(_within(archive, key), "failed", "missing", damage or "the archive does not have it")
            continue
        try:
            meta = shard[key] if shard is not None and key in shard else _json(_section(archive, *parts["json"]).read())
        except (OSError, KeyError):
            meta = {}
        yield reader.sample(key, meta, _within(archive, key), marked, partial(_section, archive, *image))
    if damage and shard is None:
        yield Refused(archive.as_uri(), "failed", "damaged", damage)


def _from_table(table: Path, column: str) -> Iterator[Found | Refused]:
    reader, marked, image = _Reader(column, table), mark(table.stat()), _bytes_column(table)
    with pq.ParquetFile(table) as samples:
        for batch in samples.iter_batches(_BATCH):
            for meta in batch.to_pylist():
                key, data = str(meta["key"]), meta[image]
                if data is None:
                    yield from _not_downloaded({key: meta | {"status": meta.get("status") or "missing"}}, table)
                else:
                    yield reader.sample(key, meta, _within(table, key), marked, partial(io.BytesIO, data))


def _bytes_column(table: Path) -> str | None:
    schema = pq.read_schema(table)
    return next((name for name in IMAGES if name in schema.names and pa.types.is_binary(schema.field(name).type)), None)


Place = tuple[int, int]


def _members(archive: Path) -> tuple[dict[str, dict[str, Place]], str]:
    """Return where the files of each sample lie, (first byte, length) by kind, and what is wrong with the archive."""
    found: dict[str, dict[str, Place]] = {}
    try:
        with tarfile.open(archive, "r:") as entries:
            for member in entries:
                key, _, kind = Path(member.name).name.partition(".")
                if member.isreg() and kind:
                    found.setdefault(key, {})[kind] = (member.offset_data, member.size)
    except _DAMAGED as error:
        return found, f"the archive is damaged: {error}"
    return found, ""


def _section(file: Path, begin: int, length: int) -> IO[bytes]:
    """Return a file over some bytes of another.

    Raises:
        OSError: it cannot be read, or ends before them.
    """
    with opened(file) as whole:
        whole.seek(begin)
        data = whole.read(length)
    if len(data) < length:
        raise OSError(f"{file.name} ends within it")
    return io.BytesIO(data)


def _json(data: bytes) -> dict[str, Any]:
    """Return the fields of a sample; none where it is damaged."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

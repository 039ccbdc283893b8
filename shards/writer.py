"""`bolid pack`: the curated photos become shards, an index, a manifest and a card.

Order of writing, so that a kill at any moment leaves either the old dataset or a pack that can be continued:
shards (each whole or not at all, then its journal entry), index, cards, and the manifest last. Writing everything
anew takes the manifest away first: without one there is no dataset.
"""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import atomic, progress
from ..errors import DataError
from ..workspace import Workspace
from . import curated
from .base import Base, Pair
from .buffers import Buffers
from .excluded import write_excluded
from .journal import Journal, Written, pack_fingerprint
from .layout import ShardPlan, plan_shards
from .manifest import Manifest
from .options import PackConfig
from .outbox import Outbox
from .publish import publish, remove_leftovers
from .samples import Sample, Task, prepare
from .schema import EXCLUDED_FILE, INDEX_SCHEMA, MANIFEST_FILE, PARTS
from .store import local_folder
from .tar import TarWriter

LOCK = ".lock"
THREADS = min(8, cpu_count() or 1)
TOGETHER = 4
"""Samples that a thread prepares in one go: handed over one by one, they cost twice as many context switches."""
AHEAD = 2
"""Such portions that are prepared ahead of the writer, by thread."""
ROWS_AT_ONCE = 256
"""Rows of the photo table that are Python objects at a time; one with its embedding is large."""

I_ = TypeVar("I_")
O_ = TypeVar("O_")


@dataclass(frozen=True)
class PackSummary:
    """What a dataset holds after a pack; counts by split are of live samples.

    Attributes:
        added: samples that this pack wrote or found finished by a killed run.
        retired: samples in the shards that readers skip.
        stale: samples whose annotations in the curated table changed since they were packed (see `--repack`).
        left_out: kept photos that hang in galleries of two splits, where one of these has them already.
    """

    out: Path | str
    identities: dict[str, int]
    samples: dict[str, int]
    shards: int
    bytes: int
    seconds: float
    added: int = 0
    retired: int = 0
    stale: int = 0
    left_out: int = 0


def pack(
    workspace: Workspace, config: PackConfig, out: Path | str | None = None, *, repack: bool = False
) -> PackSummary:
    """Write the kept photos of a workspace as shards; photos that the dataset already holds are not written again.

    Args:
        workspace: holds `curated.parquet` and the images.
        config: options.
        out: folder or address of the dataset, by default `workspace.shards`.
        repack: write everything anew.

    Raises:
        WorkspaceError: nothing was curated yet, another pack is at work in `out`, the disk is full, or an address
            cannot be reached.
        DataError: nothing is kept, files are missing or damaged, or `out` was packed with other options.
        UsageError: an address needs a package that is not installed.
    """
    folder = workspace.shards if out is None else local_folder(out)
    if folder is not None:
        return pack_folder(workspace, config, folder, repack=repack)
    begun = time.monotonic()
    outbox = Outbox(str(out), workspace)
    with atomic.locked(outbox.folder.with_suffix(".lock"), f"the packing of {out}"):
        outbox.begin()
        summary = pack_folder(workspace, config, outbox.folder, repack=repack)
        outbox.send()
        outbox.discard()
    return replace(summary, out=outbox.url, seconds=time.monotonic() - begun)


def pack_folder(workspace: Workspace, config: PackConfig, out: Path, *, repack: bool = False) -> PackSummary:
    """Write shards into a folder, see `pack`."""
    begun = time.monotonic()
    table = workspace.required(workspace.curated_table, "bolid curate")
    with atomic.locked(out / LOCK, f"the packing of {out}"):
        kept = curated.kept_photos(table)
        base = Base.load(out)
        photos = _allowed(kept, base.excluded, out)
        if repack:
            base = Base.empty(base.excluded)
        base.require_options(config, out)
        stale = _told_stale(base.stale(photos))
        new = _without(photos, base.photos)
        curated.require_images(workspace, new)
        if base.excluded:
            write_excluded(out, base.excluded)  # before a repack forgets why they were retired
        if repack:
            (out / MANIFEST_FILE).unlink(missing_ok=True)
        shards = plan_shards(new, config, base)
        left_out = _told_left_out(new.num_rows - sum(len(shard.places) for shard in shards))
        written = _write_shards(workspace, config, out, photos, new, base, shards)
        manifest = publish(out, config, base, base.following(_pairs(photos)), written, photos)
        remove_leftovers(out, manifest)
        Journal.remove(out)
    added = sum(found.rows.num_rows for found in written.values())
    counts = {"added": added, "stale": stale, "left_out": left_out}
    return _summary(out, manifest, counts, time.monotonic() - begun)


def _write_shards(
    workspace: Workspace,
    config: PackConfig,
    out: Path,
    photos: pa.Table,
    new: pa.Table,
    base: Base,
    shards: Collection[ShardPlan],
) -> dict[str, Written]:
    ground = base.manifest.index_sha256 if base.manifest else ""
    journal = Journal(out, pack_fingerprint(curated.fingerprint(photos), config, ground))
    written: dict[str, Future[Written]] = {}
    with (
        progress.bar("pack", sum(len(shard.places) for shard in shards), "photos") as bar,
        ThreadPoolExecutor(1, "commit") as committer,
        ThreadPoolExecutor(THREADS, "pack") as pool,
    ):
        buffers = Buffers()
        for shard in shards:
            found = journal.find(shard.name)
            if found is None:
                samples = _in_order(pool, lambda task: prepare(task, workspace, config, buffers), _tasks(new, shard))
                commit = _write(out / shard.name, shard, samples, base.packs, buffers)
                for earlier in written.values():
                    earlier.result()  # one shard is synced while one is written, no more
                written[shard.name] = committer.submit(_committed, journal, shard.name, commit)
            else:
                written[shard.name] = _known(found)
            bar.advance(len(shard.places), shard.name)
        return {name: future.result() for name, future in written.items()}


@dataclass(frozen=True)
class Unsynced:
    """A shard that is written under a temporary name; closing `naming` syncs it and gives it its own."""

    written: Written
    naming: contextlib.ExitStack


def _write(path: Path, shard: ShardPlan, samples: Iterable[Sample], pack_number: int, buffers: Buffers) -> Unsynced:
    place = {"split": shard.split, "shard": shard.name, "pack": pack_number}
    rows = []
    with contextlib.ExitStack() as naming:
        temporary = naming.enter_context(atomic.replacing(path))
        with temporary.open("wb", buffering=0) as file, TarWriter(file, buffers.give_back) as tar:
            for sample in samples:
                offsets = {f"{part}_offset": tar.add(sample.member(part), sample.parts[part]) for part in PARTS}
                rows.append({**sample.columns, **offsets, **place})
            digest = tar.finish()
        written = Written(pa.Table.from_pylist(rows, INDEX_SCHEMA), tar.size, digest)
        return Unsynced(written, naming.pop_all())


def _known(found: Written) -> Future[Written]:
    future: Future[Written] = Future()
    future.set_result(found)
    return future


def _committed(journal: Journal, name: str, shard: Unsynced) -> Written:
    """Give a shard its name, then write it down in the journal."""
    shard.naming.close()
    journal.add(name, shard.written)
    return shard.written


def _tasks(photos: pa.Table, shard: ShardPlan) -> Iterator[Task]:
    for start in range(0, len(shard.places), ROWS_AT_ONCE):
        places = shard.places[start : start + ROWS_AT_ONCE]
        rows = photos.take([place.row for place in places]).to_pylist()
        yield from (Task(row, place.identity, place.number) for row, place in zip(rows, places, strict=True))


def _in_order(pool: ThreadPoolExecutor, work: Callable[[I_], O_], items: Iterable[I_]) -> Iterator[O_]:
    """Map over a thread pool, results in the order of the items, a bounded number of them ahead."""
    waiting: deque[Future[list[O_]]] = deque()
    left = iter(items)
    try:
        while portion := list(itertools.islice(left, TOGETHER)):
            waiting.append(pool.submit(lambda items: [work(item) for item in items], portion))
            if len(waiting) > AHEAD * THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _pairs(photos: pa.Table) -> set[Pair]:
    return set(zip(photos["identity"].to_pylist(), photos["sha256"].to_pylist(), strict=True))


def _without(photos: pa.Table, pairs: Collection[Pair]) -> pa.Table:
    if not pairs:
        return photos
    slugs, shas = photos["identity"].to_pylist(), photos["sha256"].to_pylist()
    keep = np.fromiter((pair not in pairs for pair in zip(slugs, shas, strict=True)), bool, photos.num_rows)
    return photos.filter(pa.array(keep)).combine_chunks()


def _allowed(photos: pa.Table, excluded: Mapping[str, str], out: Path) -> pa.Table:
    """Return the photos that are not excluded.

    Raises:
        DataError: all of them are.
    """
    if not excluded:
        return photos
    allowed = photos.filter(pc.invert(pc.is_in(photos["sha256"], pa.array(list(excluded), pa.string()))))
    if not allowed.num_rows:
        raise DataError(f"all kept photos are excluded by {out / EXCLUDED_FILE}; crawl and curate other photos")
    if left_out := photos.num_rows - allowed.num_rows:
        progress.say(f"{left_out} kept photos are left out: {out / EXCLUDED_FILE} excludes them", excluded=left_out)
    return allowed.combine_chunks()


def _told_stale(count: int) -> int:
    if count:
        progress.warn(
            f"{count} packed photos have other annotations in the curated table than when they were packed; they stay "
            "as they are, write everything anew with: bolid pack --repack"
        )
    return count


def _told_left_out(count: int) -> int:
    if count:
        progress.warn(
            f"{count} kept photos are left out: the same bytes hang in the gallery of somebody of another split, and "
            "nobody changes the split; --repack deals all people anew and puts those who share a photo together"
        )
    return count


def _summary(out: Path, manifest: Manifest, counts: Mapping[str, int], seconds: float) -> PackSummary:
    return PackSummary(
        out=out,
        identities={split: entry.identities for split, entry in manifest.splits.items()},
        samples={split: entry.samples for split, entry in manifest.splits.items()},
        shards=len(manifest.shards),
        bytes=sum(entry.bytes for entry in manifest.shards.values()),
        seconds=seconds,
        retired=manifest.retired,
        **counts,
    )

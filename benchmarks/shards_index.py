"""An index of many rows: how long it takes to open, how much memory, how long the next batch takes.

python benchmarks/shards_index.py make FOLDER ROWS     writes index and manifest, no tars
python benchmarks/shards_index.py open FOLDER CHECK    prints JSON; CHECK is 0 or 1
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.shards.manifest import Manifest, ShardEntry, SplitEntry
from bolid.shards.options import PackConfig
from bolid.shards.publish import ROW_GROUP
from bolid.shards.schema import INDEX_FILE, INDEX_SCHEMA, PARTS, sample_key, shard_name

PHOTOS = 50
PER_SHARD = 1500
BATCH = 16


def make(folder: Path, rows: int) -> None:
    """Write the index of a dataset whose tars are not needed to open it."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-rows // PER_SHARD)
    options = {name: "none" if "digest" in name or "sha256" in name else "zstd" for name in INDEX_SCHEMA.names}
    words = [field.name for field in INDEX_SCHEMA if pa.types.is_dictionary(field.type)]
    with pq.ParquetWriter(folder / INDEX_FILE, INDEX_SCHEMA, compression=options, use_dictionary=words) as file:
        for start in range(0, rows, ROW_GROUP):
            file.write_table(_rows(start, min(ROW_GROUP, rows - start)), row_group_size=ROW_GROUP)
    entry = ShardEntry(split="train", bytes=1, sha256="0" * 64, samples=PER_SHARD, identities=30, pack=0)
    Manifest(
        options=PackConfig(),
        curation="",
        packs=1,
        retired=0,
        index_sha256="",
        splits={"train": SplitEntry(identities=rows // PHOTOS, samples=rows, shards=shards, bytes=shards)},
        shards={shard_name("train", number): entry for number in range(shards)},
    ).write(folder)


def _rows(start: int, count: int) -> pa.Table:
    rows = np.arange(start, start + count)
    identity, number = rows // PHOTOS, rows % PHOTOS
    sizes = np.random.default_rng(start).integers(200_000, 500_000, count)
    columns: dict[str, object] = {
        "key": [sample_key(one, two) for one, two in zip(identity.tolist(), number.tolist(), strict=True)],
        "identity": identity,
        "number": number,
        "identity_slug": [f"person_{one:07d}" for one in identity.tolist()],
        "split": ["train"] * count,
        "shard": [shard_name("train", row // PER_SHARD) for row in rows.tolist()],
        "pack": np.zeros(count, np.int16),
        "sha256": _text(os.urandom(32 * count).hex().encode(), 64),
        "annotations": _fixed(os.urandom(8 * count), 8),
        "width": np.full(count, 1000),
        "height": np.full(count, 1400),
        "pose_confidence": np.zeros(count),
        "has_face": np.zeros(count, bool),
        "retired": np.zeros(count, bool),
        "retired_reason": [""] * count,
        "image_suffix": ["jpg"] * count,
        "digest": _fixed(os.urandom(16 * count), 16),
    }
    for part in PARTS:
        columns[f"{part}_offset"] = rows % PER_SHARD * 350_000
        columns[f"{part}_size"] = sizes if part == "image" else np.full(count, 1000)
        columns[f"{part}_sha256"] = _fixed(os.urandom(32 * count), 32)
    arrays = [
        column if isinstance(column := columns[field.name], pa.Array) else pa.array(column).cast(field.type)
        for field in INDEX_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA)


def _fixed(data: bytes, width: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(data)])


def _text(data: bytes, width: int) -> pa.Array:
    offsets = np.arange(0, len(data) + 1, width, dtype=np.int32)
    return pa.StringArray.from_buffers(len(data) // width, pa.py_buffer(offsets), pa.py_buffer(data))


def measure(folder: Path, check: float) -> dict[str, float]:
    """Open the dataset and its sampler in this process and take the time."""
    from bolid.shards import IdentityBatchSampler, IdentityDataset

    imported = _peak()
    begun, used = time.perf_counter(), time.process_time()
    people = IdentityDataset(folder, refs=4, check=check)
    opened, open_cpu = time.perf_counter(), time.process_time() - used
    open_gb = _peak()
    order = IdentityBatchSampler(people.index, BATCH)
    sampler = time.perf_counter()
    batches = iter(order)
    next(batches)
    first = time.perf_counter()
    times = []
    for _ in range(2000):
        before = time.perf_counter()
        draws = next(batches)
        for draw in draws:
            people.references(draw)
        times.append(time.perf_counter() - before)
    return {
        "rows": len(people),
        "open_s": opened - begun,
        "open_cpu_s": open_cpu,
        "open_gb": open_gb,
        "sampler_s": sampler - opened,
        "first_batch_s": first - sampler,
        "next_batch_ms": float(np.median(times)) * 1e3,
        "next_batch_99_ms": float(np.quantile(times, 0.99)) * 1e3,
        "peak_gb": _peak(),
        "imports_gb": imported,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(measure(Path(sys.argv[2]), float(sys.argv[3]))))

"""What the shards' benchmarks run on: photo-like JPEGs made by code, and rounds that alternate what is compared."""

import hashlib
import io
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.shards import PackConfig, pack
from bolid.workspace import Workspace
from PIL import Image

PHOTO_SIZE = (1000, 1400)
SIDE = 512
SHARD_SIZE = 32 * 2**20


def photo(seed: int) -> bytes:
    """Return a JPEG of 1000×1400 with the bytes of a photo (about 300 kB): soft shapes, edges and sensor noise."""
    width, height = PHOTO_SIZE
    random = np.random.default_rng(seed)
    soft = Image.fromarray(random.integers(0, 255, (44, 32, 3), dtype=np.uint8)).resize(PHOTO_SIZE, Image.BICUBIC)
    noise = random.integers(-12, 13, (height, width, 1), dtype=np.int16)
    pixels = (np.asarray(soft).astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    for _ in range(12):
        left, top = random.integers(0, width - 200), random.integers(0, height - 200)
        pixels[top : top + random.integers(20, 200), left : left + random.integers(20, 200)] //= 2
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=82)
    return file.getvalue()


@dataclass(frozen=True)
class Material:
    """The same photos three times: a curated workspace, packed shards, and a folder a person."""

    workspace: Workspace
    shards: Path
    folders: Path
    photos: int
    bytes: int


def make(root: Path, people: int, photos: int) -> Material:
    """Make the photos, pack them, and lay them out as folders."""
    workspace, folders = Workspace(root / "work"), root / "folders"
    rows, total = [], 0
    for number in range(people * photos):
        data, slug = photo(number), f"person_{number // photos:04d}"
        total += len(data)
        sha256 = hashlib.sha256(data).hexdigest()
        for path in (workspace.image(sha256, "jpg"), folders / slug / f"{number:06d}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        rows.append(_row(sha256, slug, len(data)))
    pq.write_table(pa.Table.from_pylist(rows), workspace.curated_table)
    shards = pack(workspace, PackConfig(split=(1, 0, 0), shard_size=SHARD_SIZE)).out
    os.sync()
    return Material(workspace, Path(shards), folders, people * photos, total)


def _row(sha256: str, slug: str, size: int) -> dict[str, object]:
    return {
        "sha256": sha256,
        "identity": slug,
        "identity_name": slug,
        "url": f"https://gallery.example/{slug}/{sha256[:12]}.jpg",
        "page_url": f"https://gallery.example/{slug}/",
        "width": PHOTO_SIZE[0],
        "height": PHOTO_SIZE[1],
        "bytes": size,
        "format": "jpeg",
        "fetched_at": 1_700_000_000.0,
        "etag": None,
        "robots": "allowed",
        "rights": "made by code",
        "keep": True,
        "caption": "a soft pattern with rectangles",
    }


def chill(paths: Iterable[Path]) -> None:
    """Ask the system to forget the content of files; they must have been synced."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def alternate(rounds: int, runs: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run everything once a round, in turn, so that other load on the machine meets all alike; return the figures."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)
        for name in names if number % 2 == 0 else reversed(names):
            figures[name].append(runs[name]())
    return figures


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def tell(title: str, figures: Mapping[str, list[float]], unit: str) -> None:
    """Print least, median and most of each."""
    print(f"\n{title} ({unit}; least / median / most of {len(next(iter(figures.values())))} alternating rounds)")
    for name, values in figures.items():
        print(f"  {name:<58} {min(values):9.1f} {statistics.median(values):9.1f} {max(values):9.1f}")


def verdict(name: str, ratios: list[float], target: float) -> None:
    """Print the median over the rounds of a ratio, its range, and whether the target is met."""
    median = statistics.median(ratios)
    met = "met" if median >= target else "MISSED"
    print(f"  -> {name}: {median:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), target {target:g}x: {met}")


def ratios(figures: Mapping[str, list[float]], ours: str, other: str) -> list[float]:
    """Return ours / other, round by round."""
    return [one / two for one, two in zip(figures[ours], figures[other], strict=True)]

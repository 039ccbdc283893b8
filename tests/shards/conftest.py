"""A small workspace as the curation leaves it, made of generated pictures."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.shards import PackConfig, PackSummary, pack
from bolid.workspace import Workspace
from PIL import Image

EVEN = (0.6, 0.2, 0.2)


def pattern(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth colour pattern, another one for each seed."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin((x * (1 + seed % 5) + y * (channel + 1)) / 17 + seed) for channel in range(3)]
    return Image.fromarray(((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8))


def encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """What NumPy writes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@dataclass
class Curation:
    """Photos added one by one, then written as `curated.parquet`."""

    workspace: Workspace
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, identity: str, data: bytes, name: str = "jpg", keep: bool = True, **columns: Any) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.workspace.image(sha256, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        self.rows.append(
            {
                "sha256": sha256,
                "identity": identity,
                "identity_name": identity.replace("_", " ").title(),
                "url": f"https://gallery.example/{identity}/{sha256[:8]}.{name}",
                "page_url": f"https://gallery.example/{identity}/",
                "width": width,
                "height": height,
                "bytes": len(data),
                "format": name,
                "fetched_at": 1_700_000_000.5,
                "etag": None,
                "robots": "allowed",
                "rights": "© the photographer",
                "keep": keep,
                "reject_stage": None if keep else "resolution",
                "reject_reason": None if keep else "too small",
                **columns,
            }
        )
        return sha256

    def add_people(self, people: int, photos: int, size: tuple[int, int] = (48, 64), first: int = 0) -> None:
        for identity in range(first, first + people):
            for number in range(photos):
                seed = identity * 1000 + number
                self.add(f"person_{identity:03d}", encoded(pattern(seed, size), "JPEG", quality=90))

    def write(self) -> Workspace:
        path = self.workspace.curated_table
        path.parent.mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys(name for row in self.rows for name in row)
        rows = [{name: row.get(name) for name in names} for row in self.rows]
        pq.write_table(pa.Table.from_pylist(rows), path)
        return self.workspace


@pytest.fixture
def curation(tmp_path: Path) -> Curation:
    return Curation(Workspace(tmp_path / "work"))


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackSummary:
    """Eight people with five photos each in several shards; tests must not change it."""
    curation = Curation(Workspace(tmp_path_factory.mktemp("packed")))
    curation.add_people(people=8, photos=5)
    return pack(curation.write(), PackConfig(shard_size=60_000, split=EVEN))

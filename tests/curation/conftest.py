import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bolid.curation import engine_local
from bolid.workspace import Workspace
from PIL import Image


def photo(seed: int, size: tuple[int, int] = (64, 80)) -> bytes:
    """A JPEG of smooth random colours: photos of different seeds have unrelated perceptual hashes."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture
def done_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos were in each task that the local engine's workers finished."""
    sizes: list[int] = []
    keep = engine_local._Writer.keep

    def noting(writer: engine_local._Writer, done: engine_local._Done) -> None:
        sizes.append(len(done.task.items))
        keep(writer, done)

    monkeypatch.setattr(engine_local._Writer, "keep", noting)
    return sizes


Photos = Sequence[tuple[str, bytes]]


@pytest.fixture
def crawled(tmp_path: Path) -> Callable[[Photos], Workspace]:
    """Make a workspace as a crawl leaves it, of (identity, bytes) pairs."""
    return functools.partial(shelve, tmp_path)


def shelve(folder: Path, photos: Photos) -> Workspace:
    workspace = Workspace(folder / "data")
    rows = []
    for number, (identity, data) in enumerate(photos):
        sha256 = hashlib.sha256(data).hexdigest()
        path = workspace.photo(sha256, "JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row = {
            "sha256": sha256,
            "identity": identity,
            "identity_name": identity.title(),
            "url": f"http://x/{number}",
        }
        row |= {"page_url": "http://x", "width": 64, "height": 80, "bytes": len(data), "format": "JPEG"}
        row |= {"fetched_at": pd.Timestamp(2026, 1, 1, tz="UTC"), "etag": None, "robots": "allowed", "rights": None}
        rows.append(row)
    pd.DataFrame(rows).to_parquet(workspace.images_table)
    return workspace

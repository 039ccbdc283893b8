"""Photos of procedural people to learn from, rendered once and kept beside the training run.

Worlds are told apart by their seed: networks learn from `TRAINING` seeds only, so every other seed is a world of people
that no network has seen. The judges learn from a world of their own, which the base never sees.
"""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import atomic, progress
from ...processes import WorkerPool
from .. import people

TRAINING: dict[str, int] = {"pose": 910_001, "face": 910_002, "base": 910_003, "judges": 910_004}
"""Seed of the world that each network learns from."""

CHUNK = 64
"""Photos a worker renders, and a file holds."""


class Shot(NamedTuple):
    """One photo to take: (identity, n) in a world, its size (width, height) and `people.take_photo`'s overrides."""

    seed: int
    identity: int
    n: int
    size: tuple[int, int]
    overrides: tuple[tuple[str, Any], ...] = ()


Crop = Callable[[people.Photo], Any]
"""What is kept of a photo; a function of a module, so that workers can import it."""


def rendered(shots: Sequence[Shot], keep: Crop, folder: Path, workers: int | None = None) -> Iterator[Any]:
    """Yield what `keep` makes of each shot, in order, from files of an earlier run where there are any.

    Args:
        shots: what to render.
        keep: called with each photo in a worker; its result must pickle.
        folder: where the results are kept; a killed run goes on from its finished chunks.
        workers: processes; None means one a core.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [shots[i : i + CHUNK] for i in range(0, len(shots), CHUNK)]
    files = [folder / f"{_name(chunk, keep)}.pkl" for chunk in chunks]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    with WorkerPool(workers) as pool, progress.bar("render", len(missing)) as bar:
        for done in as_completed([pool.submit(_render, chunks[i], keep, files[i]) for i in missing]):
            done.result()
            bar.advance(1)
    for file in files:
        yield from pickle.loads(file.read_bytes())


def _name(chunk: Sequence[Shot], keep: Crop) -> str:
    text = json.dumps([keep.__module__, keep.__qualname__, [list(shot) for shot in chunk]], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _render(chunk: Sequence[Shot], keep: Crop, file: Path) -> None:
    kept = [
        keep(people.take_photo(shot.seed, shot.identity, shot.n, size=shot.size, **dict(shot.overrides)))
        for shot in chunk
    ]
    with atomic.replacing(file) as temporary:
        temporary.write_bytes(pickle.dumps(kept, protocol=5))


def as_tensor_order(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images [N, H, W, 3] as [N, 3, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))

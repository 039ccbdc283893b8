"""People to train and to measure the method on, rendered and packed as a crawled gallery would be.

Two worlds that no network of the demo has seen: one to learn from, one held out. Photos are 128 x 128, as the demo's
base wants them, and every second one is of the whole body.

Keypoints and face embeddings are the people's truth, not what the demo's networks find: these were made for photos of
400 pixels and more, in which a face is not ten pixels high, and it is the two trainings that are measured here. A
hidden joint has a lower confidence. A face embedding is a fixed linear map of all traits that a face is drawn from,
where at least half of the face shows; it says nothing of the body, which has a random stream of its own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .. import atomic
from ..shards.index import read_index
from ..shards.options import PackConfig
from ..shards.plan import position
from ..shards.schema import FACE_DIMENSIONS
from ..shards.writer import pack
from ..workspace import Workspace
from . import people
from .people.face import BEARDS, EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, FaceTraits
from .train import corpus

Floats = NDArray[np.float32]

TRAINING, HELD_OUT = 940_001, 940_002
"""Seeds of the two worlds; `corpus.TRAINING` has those that the demo's networks learned from."""
SIDE = 128
"""Pixels of a photo's side."""
JPEG_QUALITY = 95
CONFIDENCE = (0.0, 0.6, 0.95)
"""Of a keypoint outside the photo, hidden in it, and visible; a bone counts from 0.5 at both ends."""
FACE_SHOWN = 0.5
HALVES = PackConfig(split=(0.5, 0.5, 0.0))
POSE_MODEL = "truth of bolid.demo.people"
_CENSUS = 256


class World(NamedTuple):
    """Who is photographed: `people` identities from 0 on of the world `seed`, `photos` of each."""

    seed: int
    people: int
    photos: int


class Example(NamedTuple):
    """What is kept of a photo: its file, and of its truth what a shard or a probe asks for.

    keypoints: float32 [17, 3], x and y in pixels and visibility 0..2.
    """

    seed: int
    identity: int
    jpeg: bytes
    keypoints: Floats
    person_box: tuple[float, float, float, float]
    face_visible: float
    pose: str
    view: str
    framing: str
    attributes: dict[str, str]
    caption: str

    @property
    def sha256(self) -> str:
        """Of the file, hexadecimal."""
        return hashlib.sha256(self.jpeg).hexdigest()


def keep(photo: people.Photo) -> Example:
    """Return what is kept of a photo."""
    truth = photo.truth
    return Example(
        truth.seed,
        truth.identity,
        people.encode_jpeg(photo.image, JPEG_QUALITY),
        truth.keypoints,
        truth.person_box,
        truth.face_visible,
        truth.pose,
        truth.view,
        truth.framing,
        truth.attributes,
        truth.caption,
    )


def photographed(world: World, folder: Path, workers: int | None = None) -> list[Example]:
    """Return the photos of a world, identity after identity; those of an earlier run come from `folder`."""
    whole = (("framing", "full"),)
    shots = [
        corpus.Shot(world.seed, who, n, (SIDE, SIDE), whole if n % 2 else ())
        for who in range(world.people)
        for n in range(world.photos)
    ]
    return list(corpus.rendered(shots, keep, folder, workers))


def packed(training: Sequence[Example], held_out: Sequence[Example], workspace: Workspace) -> Path:
    """Pack two sets of photos, one as the split `train` and one as `val`; return the folder of the shards."""
    rows = [_row(example, split, workspace) for split, of in (("train", training), ("val", held_out)) for example in of]
    with atomic.replacing(workspace.curated_table) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    pack(workspace, HALVES)
    return workspace.shards


def in_order(shards: Path, examples: Sequence[Example], split: str = "val") -> list[Example]:
    """Return the examples of a split in the order in which readers of the shards count them."""
    found = {example.sha256: example for example in examples}
    return [found[sha256] for sha256 in read_index(shards, split, columns=["sha256"])["sha256"].to_pylist()]


def shapes(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Return the measures [N, S] in metres of the people on some photos, in the order of `people.SHAPE_NAMES`."""
    return np.stack([people.make_person(e.seed, e.identity).shape for e in examples]).astype(np.float64)


def face_embedding(seed: int, identity: int) -> Floats:
    """Return what stands for a perfect face network: float32 [512] of unit length, the same in every photo."""
    mean, spread, directions = _face_space()
    vector = ((_face_numbers(people.make_person(seed, identity).face) - mean) / spread) @ directions
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@lru_cache(maxsize=1)
def _face_space() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of the faces of some people whom no photo shows, and the directions that their numbers take."""
    known = np.stack([_face_numbers(people.make_person(TRAINING, 1_000_000 + i).face) for i in range(_CENSUS)])
    directions = np.random.default_rng(0).standard_normal((known.shape[1], FACE_DIMENSIONS))
    return known.mean(0), known.std(0) + 1e-6, directions


def _face_numbers(face: FaceTraits) -> NDArray[np.float64]:
    words = ("skin", "skin_shift", "eyes", "hair", "hair_style", "beard")
    numbers = [float(value) for name, value in asdict(face).items() if name not in words]
    colours = [*face.skin_colour, *EYE_COLOURS[face.eyes], *HAIR_COLOURS[face.hair]]
    kinds = [float(face.hair_style == name) for name in HAIR_STYLES] + [float(face.beard == name) for name in BEARDS]
    return np.array([*numbers, *colours, *kinds])


@lru_cache(maxsize=65536)
def _name(seed: int, identity: int, split: str) -> str:
    """Return a name for a person with which packing deals them to the split that their world is for."""
    names = (f"world-{seed}-person-{identity:05d}-{suffix}" for suffix in count())
    edge = HALVES.split[1]
    return next(name for name in names if (position(name, HALVES.split_key) < edge) == (split == "val"))


def _row(example: Example, split: str, workspace: Workspace) -> dict[str, object]:
    """Write a photo's file and return its row of the curated table."""
    sha256 = example.sha256
    file = workspace.image(sha256, "jpg")
    if not file.exists():
        atomic.write_bytes(file, example.jpeg)
    keypoints = example.keypoints.copy()
    keypoints[:, 2] = np.take(CONFIDENCE, keypoints[:, 2].astype(int))
    seen = example.face_visible >= FACE_SHOWN
    return {
        "sha256": sha256,
        "identity": _name(example.seed, example.identity, split),
        "format": "jpeg",
        "bytes": len(example.jpeg),
        "keep": True,
        "width": SIDE,
        "height": SIDE,
        "caption": example.caption,
        "keypoints": keypoints.tolist(),
        "person_box": list(example.person_box),
        "pose_confidence": float(keypoints[5:, 2].mean()),
        "pose_model": POSE_MODEL,
        "view": example.view,
        "framing": example.framing,
        "face_embedding": face_embedding(example.seed, example.identity).tolist() if seen else None,
    }

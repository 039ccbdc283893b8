"""What the pose network learns from: small photos of people, some of two people, and empty rooms, in YOLO's layout.

Half of the photos are rendered at double size and then thinned to every second pixel: ultralytics shrinks a large photo
by bilinear samples without a filter before them, so that edges are as rough as in those.
"""

import io
import json
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ... import atomic, progress
from .. import people
from ..people.camera import FRAMINGS
from ..people.pose import COCO_KEYPOINTS, POSES
from . import corpus

LONG_SIDE = 256
_RATIOS = (5 / 4, 4 / 3, 1.4, 3 / 2)
_COMPANIONS = 1_000_000  # the identities that only stand beside others begin here

FLIP = [
    COCO_KEYPOINTS.index(_other)
    for _other in (name.replace("left", "*").replace("right", "left").replace("*", "right") for name in COCO_KEYPOINTS)
]
"""Index of the keypoint that each becomes in a mirrored picture."""


@dataclass(frozen=True)
class Sample:
    """A picture uint8 [H, W, 3] and its people [N, 4 + 51]: box x0, y0, x1, y1, keypoints x, y, visibility; pixels."""

    image: NDArray[np.uint8]
    people: NDArray[np.float32]


def shots(seed: int, count: int) -> list[corpus.Shot]:
    """A photo each of `count` identities at `LONG_SIDE`, or twice that; see the module."""
    rng = np.random.default_rng((seed, 1))
    return [_shot(rng, seed, identity, (LONG_SIDE + 8) * (1 + int(rng.integers(2)))) for identity in range(count)]


def large_shots(seed: int, count: int, *, large: int) -> list[corpus.Shot]:
    """The same with 528 pixels on the longer side, and for the first `large` photos, 1250 to 1800."""
    rng = np.random.default_rng((seed, 1))
    sides = [int(rng.integers(1250, 1801)) if identity < large else 528 for identity in range(count)]
    return [_shot(rng, seed, identity, side) for identity, side in enumerate(sides)]


def _shot(rng: np.random.Generator, seed: int, identity: int, long: int) -> corpus.Shot:
    """All poses and framings; every seventh photo with a second person, unless the first lies or leans."""
    pose, framing = str(rng.choice(POSES, p=_POSE_SHARES)), str(rng.choice(FRAMINGS, p=_FRAMING_SHARES))
    overrides: list[tuple[str, Any]] = [("pose", pose), ("framing", framing)]
    two = identity % 7 == 6 and pose not in ("lying", "leaning")
    if two:
        overrides.append(("companions", (_COMPANIONS + identity,)))
    wide = pose == "lying" or (two and framing in ("portrait", "half"))
    return corpus.Shot(seed, identity, 0, room_size(rng, long, 0.8 if wide else 0.2), tuple(overrides))


_POSE_SHARES = (0.24, 0.16, 0.18, 0.14, 0.12, 0.16)
_FRAMING_SHARES = (0.40, 0.22, 0.20, 0.18)


def room_size(rng: np.random.Generator, long: int, landscape: float = 0.2) -> tuple[int, int]:
    """A format (width, height) with `long` pixels on the longer side."""
    short = round(long / float(rng.choice(_RATIOS)))
    return (long, short) if rng.random() < landscape else (short, long)


def keep_sample(photo: people.Photo) -> Sample:
    """The photo and its truth at about `LONG_SIDE` pixels, small pictures as they are and large ones thinned."""
    rows = people_rows(photo.truth)
    if max(photo.truth.width, photo.truth.height) < 2 * LONG_SIDE:
        return Sample(photo.image, rows)
    # Pixel i of the thinned picture is pixel 2i: its middle, i + 0.5, was at 2i + 0.5.
    boxes, points = rows[:, :4] / 2, rows[:, 4:].reshape(-1, 17, 3).copy()
    points[..., :2] = np.where(points[..., 2:] > 0, points[..., :2] / 2 + 0.25, 0)
    image = np.ascontiguousarray(photo.image[::2, ::2])
    return Sample(image, np.concatenate([boxes, points.reshape(-1, 51)], 1))


def people_rows(truth: people.PhotoTruth) -> NDArray[np.float32]:
    """Box and keypoints [people, 4 + 51] of everybody of whom something shows."""
    seen = [t for t in (truth, *truth.companions) if t.person_box[2] > 0]
    rows = [np.concatenate([np.array(t.person_box, np.float32), t.keypoints.ravel()]) for t in seen]
    return np.array(rows, np.float32).reshape(-1, 55)


def empty_rooms(seed: int, count: int, folder: Path) -> Iterator[Sample]:
    """Rooms without people, kept in `folder` as the renders of people are."""
    file = folder / f"rooms-{seed}-{count}.pkl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng((seed, 2))
        rooms = []
        with progress.bar("empty rooms", count) as bar:
            for n in range(count):
                doubled = 1 + int(rng.integers(2))
                size = room_size(rng, (LONG_SIDE + 8) * doubled)
                rooms.append(people.empty_room(seed, n, size=size)[::doubled, ::doubled])
                bar.advance()
        atomic.write_bytes(file, pickle.dumps(rooms, protocol=5))
    for room in pickle.loads(file.read_bytes()):
        yield Sample(np.ascontiguousarray(room), np.zeros((0, 55), np.float32))


def write_dataset(samples: Iterator[Sample], folder: Path, seed: int) -> tuple[Path, int]:
    """Write `images/`, `labels/` and `data.yaml` as ultralytics reads them; returns the path of the last, and how many.

    Pictures become JPEG files of all qualities, some blurred a little before: neither may matter to the network.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "labels"):
        for split in ("train", "val"):
            (folder / part / split).mkdir(parents=True)
    rng = np.random.default_rng((seed, 3))
    count = 0
    for count, sample in enumerate(samples, 1):
        name = f"{'train' if count % 100 else 'val'}/{count:06d}"
        (folder / "images" / f"{name}.jpg").write_bytes(_spoilt(sample.image, rng))
        (folder / "labels" / f"{name}.txt").write_text(_label(sample))
    description = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/val",
        "kpt_shape": [17, 3],
        "flip_idx": FLIP,
        "names": {0: "person"},
        "kpt_names": {0: list(COCO_KEYPOINTS)},
    }
    data = folder / "data.yaml"
    data.write_text(json.dumps(description))  # JSON is YAML
    return data, count


def _spoilt(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    picture = Image.fromarray(image)
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.2))))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(45, 98)), subsampling=0)
    return buffer.getvalue()


def _label(sample: Sample) -> str:
    height, width = sample.image.shape[:2]
    lines = []
    for row in sample.people:
        x0, y0, x1, y1 = row[:4] / (width, height, width, height)
        points = row[4:].reshape(17, 3) / (width, height, 1)
        numbers: Sequence[float] = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, *points.ravel()]
        lines.append("0 " + " ".join(f"{number:.6g}" for number in numbers))
    return "\n".join(lines) + "\n" * bool(lines)

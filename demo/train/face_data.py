"""What the face networks learn from: photos with every face in them, empty rooms, and heads from close by.

Whole photos are of a size that the detector reads without enlarging; faces in them are 15 to 200 pixels high. Heads are
rendered through the photo's own camera, narrowed to the head: many identities for the price of a few whole photos.
"""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import atomic, progress
from ...processes import WorkerPool
from .. import people
from ..people.camera import Camera
from ..people.photo import make_person
from ..people.render import develop, render
from ..people.staging import build_scene, draw_plan
from ..people.truth import PhotoTruth, face_truth
from .corpus import CHUNK, TRAINING, Shot, rendered

SIZES: tuple[tuple[int, int], ...] = ((396, 528), (396, 528), (420, 560), (400, 600), (560, 420))
"""(width, height) of the detector's photos; none so small that the renderer would sample it twice."""

TURNED = 90.0
"""Heads for the recogniser are turned this many degrees at most, to each side."""


class Mark(NamedTuple):
    """One face of a photo: box x0, y0, x1, y1, landmarks float32 [5, 2] (pixels) and its visible share 0..1."""

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    visible: float


class Picture(NamedTuple):
    """A JPEG and the faces in it; `identity` is the main person, -1 in an empty room."""

    jpeg: bytes
    marks: tuple[Mark, ...]
    identity: int

    def image(self) -> NDArray[np.uint8]:
        """The pixels [H, W, 3] RGB."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def photos(count: int, folder: Path, workers: int | None = None) -> Iterator[Picture]:
    """Yield whole photos of people of all framings, one in six with a companion."""
    yield from rendered([_shot(i) for i in range(count)], keep_picture, folder / "photos", workers)


def _shot(i: int) -> Shot:
    seed = TRAINING["face"]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 501, i))))
    size = SIZES[int(rng.integers(len(SIZES)))]
    beside = (("companions", (int(rng.integers(100_000, 200_000)),)),) if rng.random() < 1 / 6 else ()
    return Shot(seed, 100_000 + i, 0, size, beside)


def keep_picture(photo: people.Photo) -> Picture:
    """The photo as JPEG with the faces of all people in it."""
    truths = (photo.truth, *photo.truth.companions)
    return Picture(
        people.encode_jpeg(photo.image, 94), tuple(mark for t in truths for mark in _marks(t)), photo.truth.identity
    )


def _marks(truth: PhotoTruth) -> list[Mark]:
    if truth.face_box is None or truth.face_landmarks is None:
        return []
    return [Mark(truth.face_box, truth.face_landmarks, truth.face_visible)]


def rooms(count: int, folder: Path, workers: int | None = None) -> Iterator[Picture]:
    """Yield rooms with nobody in them."""
    yield from _cached(_room, list(range(count)), folder / "rooms", workers)


def _room(n: int) -> Picture:
    image = people.empty_room(TRAINING["face"], n, size=SIZES[n % len(SIZES)])
    return Picture(people.encode_jpeg(image, 94), (), -1)


def heads(identities: int, each: int, folder: Path, workers: int | None = None) -> Iterator[Picture]:
    """Yield ``each`` heads of every identity from 0 on, in order."""
    wanted = [(identity, n) for identity in range(identities) for n in range(each)]
    yield from _cached(_head, wanted, folder / "heads", workers)


def _head(which: tuple[int, int]) -> Picture:
    return head_photo(TRAINING["face"], *which)


def head_photo(seed: int, identity: int, n: int) -> Picture:
    """A photo of one person's head, 72 to 160 pixels high, in any pose, clothes, place and light, turned within
    `TURNED` degrees."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 502, identity, n))))
    yaw = float(np.clip(rng.normal(0, 24), -TURNED, TURNED) if rng.random() < 0.55 else rng.uniform(-TURNED, TURNED))
    plan = draw_plan(rng, (750, 1000), {"yaw": yaw}, together=False)
    person = make_person(seed, identity)
    scene = build_scene([plan], [(person.measures, person.face)])
    high = float(np.exp(rng.uniform(np.log(72), np.log(160))))
    camera, zoom = _narrowed(scene.camera, scene.figures[0].face_region(), high)
    scene = replace(scene, camera=camera, legs=False, defocus=scene.defocus * zoom)
    drawn = render(scene)
    grain = rng.standard_normal(camera.size[::-1], np.float32) * np.float32(0.009)
    box, landmarks, visible = face_truth(scene.figures[0], camera, drawn, 1.0)
    marks = () if box is None or landmarks is None else (Mark(box, landmarks, visible),)
    return Picture(people.encode_jpeg(develop(drawn.linear, grain), 94), marks, identity)


def _narrowed(camera: Camera, points: NDArray[np.float64], high: float) -> tuple[Camera, float]:
    """The camera narrowed to points [N, 3], whose longer side then takes ``high`` pixels, and how far it zooms."""
    xy, _ = camera.project(points)
    zoom = high / float(np.ptp(xy, axis=0).max())
    middle = (xy.min(0) + xy.max(0)) / 2
    side = round(1.5 * high / 2) * 2
    centre = (np.array(camera.centre) - middle) * zoom + side / 2
    return Camera(
        camera.eye, camera.axes, camera.focal * zoom, (side, side), (float(centre[0]), float(centre[1]))
    ), zoom


def _cached(
    make: Callable[[Any], Picture], items: Sequence[Any], folder: Path, workers: int | None
) -> Iterator[Picture]:
    """Yield what ``make`` gives for each item, in order, from files of an earlier run where there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    names = [hashlib.sha256(json.dumps([make.__name__, chunk]).encode()).hexdigest()[:20] for chunk in chunks]
    files = [folder / f"{name}.pkl" for name in names]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    with WorkerPool(workers) as pool, progress.bar("render", len(missing)) as bar:
        for done in as_completed([pool.submit(_write, make, chunks[i], files[i]) for i in missing]):
            done.result()
            bar.advance(1)
    for file in files:
        yield from pickle.loads(file.read_bytes())


def _write(make: Callable[[Any], Picture], chunk: Sequence[Any], file: Path) -> None:
    made = [make(item) for item in chunk]
    with atomic.replacing(file) as temporary:
        temporary.write_bytes(pickle.dumps(made, protocol=5))

"""Photos that the judges learn from and are measured on: 128×128, half as they come, half of the whole body."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import people
from . import corpus

SIZE = 128
"""Pixels of a photo's side."""
IDENTITIES = 2816
SHAPE_IDENTITIES = 8448
"""Of the same world: a shape shows little in one photo, and 2816 were learnt by heart."""
PHOTOS = 4
"""Photos of each identity that is learned from; every second one is of the whole body."""
TEST_SEED = 930_004
"""World of the people that the figures are measured on."""
CALIBRATION_SEED = 930_005
CALIBRATION_IDENTITIES = 96
TEST_IDENTITIES = 256
TEST_PHOTOS = 8


class View(NamedTuple):
    """What is kept of a photo: image uint8 [128, 128, 3], shape float32 [22] in metres, and its words."""

    identity: int
    image: NDArray[np.uint8]
    shape: NDArray[np.float32]
    words: dict[str, str]
    caption: str


def keep(photo: people.Photo) -> View:
    """What a judge may learn from a photo."""
    truth = photo.truth
    words = truth.attributes | {"pose": truth.pose, "view": truth.view, "framing": truth.framing}
    return View(truth.identity, photo.image, truth.shape, words, truth.caption)


def shots(seed: int, identities: range, photos: int) -> list[corpus.Shot]:
    """Photos of some identities of a world, identity after identity; the odd ones are of the whole body."""
    whole = (("framing", "full"),)
    size = (SIZE, SIZE)
    return [corpus.Shot(seed, who, n, size, whole if n % 2 else ()) for who in identities for n in range(photos)]


def keypoints(shots_: Sequence[corpus.Shot]) -> NDArray[np.float32]:
    """Keypoints [N, 17, 3] of photos: x, y in -1..1 across the picture, and how much further than the hips' middle.

    Depth is in the same unit, as a length at the hips' distance appears in the picture.
    """
    found = np.empty((len(shots_), 17, 3), np.float32)
    for row, shot in enumerate(shots_):
        camera, points = people.keypoints_in_space(
            shot.seed, shot.identity, shot.n, size=shot.size, **dict(shot.overrides)
        )
        xy, depth = camera.project(points)
        hips = depth[11:13].mean()
        found[row, :, :2] = xy / (SIZE / 2) - 1
        found[row, :, 2] = (depth - hips) * camera.focal / hips / (SIZE / 2)
    return found


def training_views(work: Path, workers: int | None = 1, identities: range = range(IDENTITIES)) -> Iterator[View]:
    """The photos to learn from, rendered where they are not yet."""
    return corpus.rendered(shots(corpus.TRAINING["judges"], identities, PHOTOS), keep, work / "renders", workers)


def calibration_views(work: Path, workers: int | None = 1) -> Iterator[View]:
    """The photos that tell how sure a judge may be: a third world's people, photographed as those to measure on."""
    people_ = range(CALIBRATION_IDENTITIES)
    return corpus.rendered(shots(CALIBRATION_SEED, people_, TEST_PHOTOS), keep, work / "renders", workers)


def unseen_views(work: Path, workers: int | None = 1) -> Iterator[View]:
    """The photos to measure on: another world's people, eight photos each."""
    return corpus.rendered(shots(TEST_SEED, range(TEST_IDENTITIES), TEST_PHOTOS), keep, work / "renders", workers)

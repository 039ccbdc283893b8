"""What the base learns from: photos of one person each at 128x128, each with several captions of its truth."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import people
from ..people.caption import write_caption
from ..people.photo import _PHOTO, _stream
from ..people.staging import draw_plan
from . import corpus

SIDE = 128
CAPTIONS = 8
"""Wordings kept of each photo; the first is the photo's own."""

PHOTOS_PER_PERSON = 8


class Example(NamedTuple):
    """A photo uint8 [128, 128, 3], its captions, and what is true of it."""

    image: NDArray[np.uint8]
    captions: tuple[str, ...]
    attributes: dict[str, str]


class Wording(NamedTuple):
    """Captions of a photo, and what they say by name."""

    captions: tuple[str, ...]
    attributes: dict[str, str]


def wording(seed: int, identity: int, n: int) -> Wording:
    """What `people.take_photo` would write of this photo at 128x128, without rendering it, in several ways.

    The first caption is the photo's own; the others are of the same plan.
    """
    path = (seed, _PHOTO, identity, n)
    plan = draw_plan(_stream(*path), (SIDE, SIDE), {}, together=False)
    words = (plan.outfit, plan.place, plan.pose, plan.view, plan.framing, plan.support, 1)
    more = _stream(*path, 2, 1)
    others = (write_caption(more, *words) for _ in range(CAPTIONS - 1))
    captions = (write_caption(_stream(*path, 2, 0), *words), *others)
    attributes = {"pose": plan.pose, "view": plan.view, "framing": plan.framing, "background": plan.place.kind}
    return Wording(captions, plan.outfit.attributes() | attributes)


def keep(photo: people.Photo) -> Example:
    """What is kept of a photo: the truth's caption and others of the same plan."""
    truth = photo.truth
    captions = wording(truth.seed, truth.identity, truth.n).captions
    attributes = truth.attributes | {"pose": truth.pose, "view": truth.view, "framing": truth.framing}
    return Example(photo.image, (truth.caption, *captions[1:]), attributes)


def shots(seed: int, start: int, count: int) -> list[corpus.Shot]:
    """Photos `start` to `start + count` of a world; eight of each identity, each in its own clothes and place."""
    numbers = (divmod(i, PHOTOS_PER_PERSON) for i in range(start, start + count))
    return [corpus.Shot(seed, identity, n, (SIDE, SIDE)) for identity, n in numbers]


def examples(seed: int, count: int, folder: Path, workers: int | None = None) -> Iterator[Example]:
    """Yield the first `count` photos of a world, from the cache where they were rendered before."""
    yield from corpus.rendered(shots(seed, 0, count), keep, folder, workers)


def pixels(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images as one array [N, 3, H, W]."""
    return corpus.as_tensor_order(np.stack(images))

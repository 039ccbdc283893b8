"""What the demo's gallery site shows: procedural people and the dirt of real galleries, all of it in a truth file.

The truth names, for every address, what is wrong with the photo behind it (`Kind`); nothing that judges photos
may read it, only what compares verdicts with it.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from .. import atomic, progress
from ..errors import UsageError
from ..processes import WorkerPool
from . import people

TRUTH_FILE = "truth.json"
OUTSIDER = 100_000
"""Identities from here on have no gallery of their own: they are the wrong persons and the companions."""


class Kind(StrEnum):
    """What is wrong with a photo of a gallery, if anything."""

    CLEAN = "clean"
    UNDERSIZED = "undersized"
    EXACT_COPY = "exact_copy"
    NEAR_COPY = "near_copy"
    WRONG_PERSON = "wrong_person"
    TWO_PEOPLE = "two_people"
    EMPTY_ROOM = "empty_room"
    BLURRED = "blurred"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not_an_image"


DIRT_OF_24: dict[Kind, int] = {
    Kind.UNDERSIZED: 2,
    Kind.NEAR_COPY: 3,
    Kind.EXACT_COPY: 1,
    Kind.WRONG_PERSON: 1,
    Kind.TWO_PEOPLE: 1,
    Kind.EMPTY_ROOM: 1,
    Kind.BLURRED: 1,
    Kind.TRUNCATED: 1,
    Kind.NOT_AN_IMAGE: 1,
}
"""How many of 24 photos of a gallery are of each kind; the rest are clean."""

STRANGER_YAW = 50.0
"""Degrees by which a wrong person is turned from the camera at most."""
STRANGER_POSE = "standing"
MIN_PHOTOS = 6
"""Fewest photos of a gallery: fewer leave nothing to learn from."""


@dataclass(frozen=True)
class Offer:
    """One photo of a gallery, as the site offers it."""

    identity: int
    slug: str
    name: str
    number: int
    """Its place in the gallery, from 1."""
    kind: Kind
    file: str
    """Path of the bytes, relative to the gallery's folder."""
    copy_of: int | None = None
    """The number of the photo that it repeats."""
    sha256: str = ""
    caption: str = ""

    @property
    def page_path(self) -> str:
        """Path of the picture page on the site."""
        return f"/photos/{self.slug}/{self.number}/"

    @property
    def image_path(self) -> str:
        """Path of the picture itself on the site."""
        return f"/media/{self.slug}/{self.number:04d}.jpg"

    @property
    def thumbnail_path(self) -> str:
        """Path of the small picture on the gallery page."""
        return f"/media/{self.slug}/{self.number:04d}_s.jpg"


def build(folder: Path, identities: int, photos: int, seed: int, workers: int | None = None) -> list[Offer]:
    """Render the galleries into `folder` and write the truth file; an unchanged folder is used as it is.

    Args:
        folder: gets `<slug>/NNNN.jpg`, `<slug>/NNNN_s.jpg` and `truth.json` (written last).
        identities: galleries.
        photos: photos a gallery offers, dirt included.
        seed: the same seed gives the same bytes.
        workers: processes; None = the machine's cores.

    Raises:
        UsageError: fewer than one identity or `MIN_PHOTOS` photos.
    """
    if identities < 1 or photos < MIN_PHOTOS:
        raise UsageError(
            f"a demo needs at least 1 identity and {MIN_PHOTOS} photos, not {identities} and {photos}; "
            "try: bolid demo --identities 8 --photos 24"
        )
    wanted = {"identities": identities, "photos": photos, "seed": seed}
    known = _read_truth(folder, wanted)
    if known is not None:
        return known
    planned = [offer for identity in range(identities) for offer in plan(identity, photos, seed)]
    originals = [offer for offer in planned if offer.copy_of is None]
    copies = [offer for offer in planned if offer.copy_of is not None]
    offers: list[Offer] = []
    with (
        progress.bar("render the gallery site", total=len(planned), unit="photos") as bar,
        WorkerPool(workers) as pool,
    ):
        for batch in (originals, copies):  # a copy reads its original
            futures = [pool.submit(_make, folder, offer, seed) for offer in batch]
            for future in as_completed(futures):
                offers.append(future.result())
                bar.advance()
    offers.sort(key=lambda offer: (offer.identity, offer.number))
    rows = [dataclasses.asdict(offer) for offer in offers]
    atomic.write_text(folder / TRUTH_FILE, json.dumps({**wanted, "photos_offered": rows}, indent=1, ensure_ascii=False))
    return offers


def plan(identity: int, photos: int, seed: int) -> list[Offer]:
    """Decide what a gallery holds: kinds in the shares of `DIRT_OF_24`, in an order drawn from the seed."""
    person = people.make_person(seed, identity)
    generator = np.random.default_rng([seed, identity, 24])
    dirt = [kind for kind, of_24 in DIRT_OF_24.items() for _ in range(max(1, round(of_24 * photos / 24)))]
    turn = identity * (photos // 2) % len(dirt)  # a small gallery has room for some kinds, the next one for others
    dirt = (dirt[turn:] + dirt[:turn])[: photos // 2]
    kinds = np.array([Kind.CLEAN] * (photos - len(dirt)) + dirt, dtype=object)
    generator.shuffle(kinds)
    clean = [number for number, kind in enumerate(kinds, start=1) if kind == Kind.CLEAN]
    offers = []
    for number, kind in enumerate(kinds, start=1):
        source = int(generator.choice(clean)) if kind in (Kind.EXACT_COPY, Kind.NEAR_COPY) else None
        file = f"{person.slug}/{number:04d}.jpg"
        offers.append(Offer(identity, person.slug, person.name, number, Kind(kind), file, source))
    return offers


def _read_truth(folder: Path, wanted: dict[str, int]) -> list[Offer] | None:
    path = folder / TRUTH_FILE
    if not path.exists():
        return None
    truth = json.loads(path.read_text("utf-8"))
    if {key: truth.get(key) for key in wanted} != wanted:
        raise UsageError(f"{folder} holds a site made with other options; choose another --keep DIR or remove it")
    return [Offer(**{**row, "kind": Kind(row["kind"])}) for row in truth["photos_offered"]]


def _make(folder: Path, offer: Offer, seed: int) -> Offer:
    data, caption = _content(folder, offer, seed)
    path = folder / offer.file
    atomic.write_bytes(path, data)
    _write_thumbnail(data, path.with_name(f"{path.stem}_s.jpg"))
    return dataclasses.replace(offer, sha256=hashlib.sha256(data).hexdigest(), caption=caption)


def _content(folder: Path, offer: Offer, seed: int) -> tuple[bytes, str]:
    """Bytes and caption of a photo."""
    generator = np.random.default_rng([seed, offer.identity, offer.number])
    if offer.copy_of is not None:
        original = (folder / offer.slug / f"{offer.copy_of:04d}.jpg").read_bytes()
        return (original if offer.kind == Kind.EXACT_COPY else near_copy(original, generator)), ""
    if offer.kind == Kind.NOT_AN_IMAGE:
        return b"<!doctype html><title>hot linking is not allowed</title><p>Please visit our site.", ""
    if offer.kind == Kind.EMPTY_ROOM:
        return people.encode_jpeg(
            people.empty_room(seed, 1000 * offer.identity + offer.number, size=_size(generator))
        ), ""
    wrong = offer.kind == Kind.WRONG_PERSON
    identity = OUTSIDER + int(generator.integers(1000)) if wrong else offer.identity
    companions = (OUTSIDER + int(generator.integers(1000)),) if offer.kind == Kind.TWO_PEOPLE else ()
    size = _size(generator, undersized=offer.kind == Kind.UNDERSIZED)
    # A stranger seen from behind is nothing that anybody could tell from the photo, and no face is measured that lies.
    posed = {"yaw": float(generator.uniform(-STRANGER_YAW, STRANGER_YAW)), "pose": STRANGER_POSE} if wrong else {}
    photo = people.take_photo(seed, identity, offer.number, size=size, companions=companions, **posed)
    image = photo.image
    if offer.kind == Kind.BLURRED:
        radius = 0.015 * min(size)
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    data = people.encode_jpeg(image)
    if offer.kind == Kind.TRUNCATED:
        data = data[: int(len(data) * generator.uniform(0.3, 0.8))]
    return data, photo.truth.caption


def _size(generator: np.random.Generator, undersized: bool = False) -> tuple[int, int]:
    """Width and height, px; room is left for a copy scaled down that is still large enough."""
    short = int(generator.integers(400, 950)) if undersized else int(generator.integers(1060, 1160))
    long = int(short * generator.choice([1.25, 1.33, 1.4]))
    return (long, short) if generator.random() < 0.15 else (short, long)


def near_copy(original: bytes, generator: np.random.Generator) -> bytes:
    """Rescale, recompress or slightly crop a JPEG: the bytes differ, the photo does not."""
    image = Image.open(io.BytesIO(original)).convert("RGB")
    width, height = image.size
    match int(generator.integers(3)):
        case 0:
            scale = float(generator.uniform(0.95, 0.98))
            image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
            quality = 90
        case 1:
            quality = int(generator.integers(45, 70))
        case _:
            left, top, right, bottom = (int(side * generator.uniform(0, 0.012)) for side in (width, height) * 2)
            image = image.crop((left, top, width - right, height - bottom))
            quality = 90
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _write_thumbnail(data: bytes, path: Path) -> None:
    try:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (320, 320))
        small = image.convert("RGB")
    except OSError:  # truncated or no image at all: real galleries show a placeholder
        small = Image.new("RGB", (180, 240), "#c9ced6")
    small.thumbnail((240, 240))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    atomic.write_bytes(path, buffer.getvalue())


def group_of(offer: Offer) -> tuple[str, int]:
    """Photos that show the same shot have the same group: the original's slug and number."""
    return offer.slug, offer.number if offer.copy_of is None else offer.copy_of


def by_slug(offers: Sequence[Offer]) -> dict[str, list[Offer]]:
    """Galleries by the identity's slug, in the order of the site."""
    galleries: dict[str, list[Offer]] = {}
    for offer in offers:
        galleries.setdefault(offer.slug, []).append(offer)
    return galleries

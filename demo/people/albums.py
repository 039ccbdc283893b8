"""Folders of procedural photos with a table of their truth, written by several processes."""

import argparse
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ... import atomic, progress
from ...errors import BolidError, UsageError
from ...processes import WorkerPool
from .photo import Photo, encode_jpeg, make_person, take_photo
from .shape import SHAPE_NAMES

TRUTH_FILE = "truth.parquet"

_FLOATS = pa.list_(pa.float32())
_TEXTS = pa.map_(pa.string(), pa.string())
_PERSON_FIELDS: list[tuple[str, Any]] = [
    ("seed", pa.int64()),
    ("identity", pa.int64()),
    ("n", pa.int64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("keypoints", _FLOATS),
    ("person_box", _FLOATS),
    ("face_box", _FLOATS),
    ("face_landmarks", _FLOATS),
    ("face_visible", pa.float32()),
    ("yaw", pa.float32()),
    ("view", pa.string()),
    ("framing", pa.string()),
    ("pose", pa.string()),
    ("shape", _FLOATS),
    ("attributes", _TEXTS),
    ("caption", pa.string()),
]
SCHEMA = pa.schema(
    [("path", pa.string()), ("slug", pa.string()), ("name", pa.string()), *_PERSON_FIELDS, ("mask_png", pa.binary())],
    metadata={"shape_names": ",".join(SHAPE_NAMES)},
)
"""One row a photo: keypoints are 17 x (x, y, visibility) in a row, landmarks 5 x (x, y), the mask is a 1-bit PNG."""


@dataclass(frozen=True)
class Order:
    """What to write: photos 0..photos-1 of identities 0..identities-1."""

    identities: int
    photos: int
    out: Path
    seed: int = 0
    size: tuple[int, int] | None = None


def write_albums(order: Order, workers: int = 1) -> int:
    """Write ``<slug>/<n>.jpg`` for each photo and, last, the table `TRUTH_FILE`; returns the number of photos.

    The same files come out, byte for byte, for any number of workers.

    Raises:
        UsageError: a count below 1.
        WorkspaceError: the folder cannot be written.
    """
    if min(order.identities, order.photos, workers) < 1:
        raise UsageError("identities, photos and workers must be 1 or more")
    total = order.identities * order.photos
    jobs = [(i, n) for i in range(order.identities) for n in range(order.photos)]
    rows: list[dict[str, Any]] = []
    with progress.bar("photos", total, "photos") as bar:
        for row in _rows(order, jobs, workers):
            rows.append(row)
            bar.advance(1)
    with atomic.replacing(order.out / TRUTH_FILE) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")
    return total


def _rows(order: Order, jobs: list[tuple[int, int]], workers: int) -> Iterator[dict[str, Any]]:
    write = partial(write_photo, order)
    if workers == 1:
        yield from map(write, jobs)
        return
    with WorkerPool(min(workers, len(jobs))) as pool:
        yield from pool.map(write, jobs, chunksize=max(1, min(8, len(jobs) // (4 * workers))))


def write_photo(order: Order, job: tuple[int, int]) -> dict[str, Any]:
    """Write one photo and return its row of the table."""
    identity, n = job
    person = make_person(order.seed, identity)
    photo = take_photo(order.seed, identity, n, size=order.size)
    path = f"{person.slug}/{n}.jpg"
    atomic.write_bytes(order.out / path, encode_jpeg(photo.image))
    names = {"path": path, "slug": person.slug, "name": person.name}
    return names | photo.truth.as_row() | {"mask_png": encode_mask(photo)}


def encode_mask(photo: Photo) -> bytes:
    """The silhouette as a 1-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(photo.mask).save(buffer, "PNG")
    return buffer.getvalue()


def parse_size(text: str) -> tuple[int, int]:
    """``WxH`` as (width, height).

    Raises:
        UsageError: another form, or a side below 32.
    """
    found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if not found or min(int(v) for v in found.groups()) < 32:
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT with both at least 32, for example 1000x1400")
    return int(found[1]), int(found[2])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:  # noqa: ANN401 - argparse declares NoReturn
        raise UsageError(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m bolid.demo.people",
        description="Write photos of procedural people with their ground truth.",
        epilog="example: python -m bolid.demo.people --identities 50 --photos 40 --out people --workers 2",
    )
    parser.add_argument("--identities", type=int, required=True, help="how many people")
    parser.add_argument("--photos", type=int, required=True, help="photos of each")
    parser.add_argument("--out", type=Path, required=True, help="folder for the photos and the table of their truth")
    parser.add_argument("--seed", type=int, default=0, help="the world (default 0)")
    parser.add_argument("--size", help="WIDTHxHEIGHT (default: drawn for each photo, short side 1000 to 1200)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a wrong argument, others as `bolid.errors` says."""
    try:
        given = _parser().parse_args(arguments)
        size = parse_size(given.size) if given.size else None
        if given.seed < 0:
            raise UsageError(f"seed {given.seed} must be 0 or more")
        order = Order(given.identities, given.photos, given.out, given.seed, size)
        total = write_albums(order, given.workers)
    except BolidError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    progress.say(f"{total} photos and {TRUTH_FILE} in {given.out}", photos=total)
    return 0

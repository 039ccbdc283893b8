"""`bolid shards show`: a sample as a picture, with what is known about it drawn in."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from .. import atomic, progress
from ..errors import DataError
from .geometry import scale_box, scale_keypoints
from .index import find_rows, load_index
from .picture import UNREADABLE
from .reader import Record, SampleReader
from .store import open_store

BONES = (
    (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Pairs of COCO keypoints that a line joins: body first, then head."""
LEFT, RIGHT, MIDDLE = "#ff9f1c", "#2ec4b6", "#ffffff"
PERSON, FACE = "#e71d36", "#ffd60a"
SEEN = 0.3
"""Confidence from which a keypoint is drawn filled; below it is a ring."""
SHEET_SIDE = 320
SHEET_COLUMNS = 6
SHEET_MOST = 48
"""Photos on a contact sheet."""


def show(shards: Path | str, name: str, out: Path) -> list[str]:
    """Draw a sample, or a contact sheet of an identity, and write it to `out`.

    Args:
        shards: folder or address of the dataset.
        name: sample key, or slug or number of an identity.
        out: picture to be written; its suffix says the format.

    Returns:
        lines that say what the samples are.

    Raises:
        UsageError: the dataset has nothing of that name.
        DataError: a sample is damaged.
    """
    store = open_store(shards)
    rows = find_rows(load_index(store), name).slice(0, SHEET_MOST)
    reader = SampleReader(store, rows)
    records = [reader.record(row) for row in range(rows.num_rows)]
    try:
        picture = drawn(records[0]) if len(records) == 1 else contact_sheet(records)
    except UNREADABLE as error:
        raise DataError(
            f"a picture of '{name}' cannot be decoded ({error!r}); check with: bolid shards verify {store.name}"
        ) from error
    with atomic.replacing(out) as temporary:
        picture.save(temporary, Image.registered_extensions().get(out.suffix.lower(), "PNG"))
    return [describe(record) for record in records]


def tell_shown(shards: Path | str, name: str, out: Path) -> None:
    """Draw a sample or an identity, and print what it is and where the picture lies."""
    for line in show(shards, name, out):
        progress.say(line)
    progress.result("shown", str(out), out=str(out))


def drawn(record: Record, longest: int | None = None) -> Image.Image:
    """Return a sample's picture with boxes, bones and keypoints.

    Args:
        record: the sample.
        longest: pixels of the longer side, None leaves the size.
    """
    with Image.open(io.BytesIO(record.image)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    if longest is not None:
        picture.thumbnail((longest, longest))
    scale = picture.width / record.size[0], picture.height / record.size[1]
    pen = ImageDraw.Draw(picture)
    width = max(1, max(picture.size) // 250)
    _draw_box(pen, scale_box(record.person_box, *scale).tolist(), PERSON, width)
    _draw_box(pen, [edge * scale[i % 2] for i, edge in enumerate(record.meta["face_box"])], FACE, width)
    _draw_pose(pen, scale_keypoints(record.keypoints, *scale).tolist(), width)
    return picture


def contact_sheet(records: Sequence[Record]) -> Image.Image:
    """Return the samples side by side, each with its drawing and its key."""
    tiles = [drawn(record, SHEET_SIDE) for record in records]
    columns = min(SHEET_COLUMNS, len(tiles))
    step = SHEET_SIDE + 24
    sheet = Image.new("RGB", (columns * step, -(-len(tiles) // columns) * step), "#202020")
    pen = ImageDraw.Draw(sheet)
    for place, (tile, record) in enumerate(zip(tiles, records, strict=True)):
        left, top = (place % columns) * step + 12, (place // columns) * step + 4
        sheet.paste(tile, (left + (SHEET_SIDE - tile.width) // 2, top))
        pen.text((left, top + SHEET_SIDE + 2), record.key, fill=MIDDLE)
    return sheet


def describe(record: Record) -> str:
    """Return one line about a sample."""
    meta = record.meta
    pose = f"pose {record.view_weight:.2f} ({meta['pose_model']})" if meta["pose_model"] else "pose not measured"
    parts = [
        record.key,
        meta["identity_name"] or meta["identity_slug"],
        f"{record.size[0]}×{record.size[1]}",
        pose,
        "face" if meta["has_face"] else "no face",
        record.caption,
        meta["url"],
    ]
    return " · ".join(part for part in parts if part)


def _draw_box(pen: ImageDraw.ImageDraw, box: Sequence[float], colour: str, width: int) -> None:
    if box[2] > box[0] and box[3] > box[1]:
        pen.rectangle(list(box), outline=colour, width=width)


def _draw_pose(pen: ImageDraw.ImageDraw, keypoints: Sequence[Sequence[float]], width: int) -> None:
    for one, other in BONES:
        (x0, y0, first), (x1, y1, second) = keypoints[one], keypoints[other]
        if min(first, second) > 0:
            pen.line([x0, y0, x1, y1], fill=_side(one, other), width=width)
    for number, (x, y, confidence) in enumerate(keypoints):
        if confidence > 0:
            colour, radius = _side(number, number), 2 * width
            fill = colour if confidence >= SEEN else None
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=colour, width=width)


def _side(one: int, other: int) -> str:
    """Return the colour of a limb: odd COCO numbers are the person's left."""
    if one % 2 != other % 2 or 0 in (one, other):
        return MIDDLE
    return LEFT if one % 2 else RIGHT

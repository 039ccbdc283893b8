"""Sizes found in the first bytes, against those that Pillow finds in the whole file."""

import io
import random
import struct

import pytest
from bolid.crawler.outcome import Failure, Rejection
from bolid.crawler.probe import Probe, Size
from PIL import Image


def encoded(format: str, width: int, height: int, **options: object) -> bytes:
    pixels = random.Random(width).randbytes(40 * 40 * 3)
    image = Image.frombytes("RGB", (40, 40), pixels).resize((width, height))
    out = io.BytesIO()
    image.convert(options.pop("mode", "RGB")).save(out, format, **options)
    return out.getvalue()


def fed(data: bytes, piece: int) -> tuple[Size | None, int]:
    probe = Probe()
    for offset in range(0, len(data), piece):
        size = probe.feed(data[offset : offset + piece])
        if size is not None:
            return size, min(len(data), offset + piece)
    return probe.end(), len(data)


VARIANTS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"mode": "L"}),
    ("JPEG", {"mode": "CMYK"}),
    ("JPEG", {"exif": b"Exif\0\0" + bytes(60_000)}),
    ("JPEG", {"icc_profile": random.Random(1).randbytes(200_000)}),
    ("PNG", {}),
    ("PNG", {"mode": "P"}),
    ("GIF", {"mode": "P"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"mode": "RGBA"}),
    ("WEBP", {"exif": b"Exif\0\0" + bytes(500)}),
    ("AVIF", {}),
    ("AVIF", {"mode": "RGBA"}),
    ("AVIF", {"exif": b"Exif\0\0II*\0\x08\0\0\0" + bytes(500)}),
]


@pytest.mark.parametrize(("format", "options"), VARIANTS)
@pytest.mark.parametrize("piece", [1000, 65536])
def test_as_pillow_sees_it(format, options, piece) -> None:
    data = encoded(format, 321, 1234, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = Size(str(image.format), *image.size)
    assert fed(data, piece)[0] == expected


@pytest.mark.parametrize(("format", "limit"), [("JPEG", 700), ("PNG", 32), ("GIF", 32), ("WEBP", 32), ("AVIF", 1024)])
def test_a_few_bytes_are_enough(format, limit) -> None:
    assert fed(encoded(format, 1500, 1000, mode="L" if format == "GIF" else "RGB"), 16)[1] <= limit


def test_a_piece_may_end_anywhere() -> None:
    for format in ("JPEG", "PNG", "GIF", "WEBP", "AVIF"):
        data = encoded(format, 64, 48)
        assert fed(data, 1)[0] == Size(format, 64, 48)


def test_jpeg_with_fill_bytes_and_many_segments() -> None:
    data = encoded("JPEG", 321, 123)
    segment = b"\xff\xff\xff\xfe" + struct.pack(">H", 65_000) + bytes(64_998)
    assert fed(data[:2] + segment * 20 + data[2:], 4096)[0] == Size("JPEG", 321, 123)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_random_damage_ends_in_an_outcome(format) -> None:
    """Any bytes give a size, a Rejection or a Failure, and never another exception."""
    data, chance = encoded(format, 64, 48), random.Random(format)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(data[: chance.randrange(1, len(data))])
        for _ in range(chance.randrange(4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            outcomes.add(type(fed(bytes(damaged), 97)[0]))
        except (Rejection, Failure) as outcome:
            outcomes.add(type(outcome))
    assert Size in outcomes
    assert len(outcomes) > 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"BM" + bytes(100), "unsupported_format"),
        (b"II*\0" + bytes(100), "unsupported_format"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "unsupported_format"),
        (b"<!doctype html><html>" + bytes(100), "not_an_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100), "not_an_image"),
        (b"x", "not_an_image"),
    ],
)
def test_what_is_refused(data, reason) -> None:
    with pytest.raises(Rejection) as caught:
        fed(data, 50)
    assert caught.value.reason == reason


def test_nothing_at_all_is_a_failure() -> None:
    with pytest.raises(Failure, match="truncated"):
        fed(b"", 10)

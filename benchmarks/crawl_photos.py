"""Photo-like JPEGs made by code: soft shapes and fine grain, so that they weigh what photos weigh."""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

GOOD = (1200, 1500)
NARROW = (940, 1915)  # as many pixels, so about as many bytes, but a short side under 1000
BASES = 12
QUALITY = 85


def bases(size: tuple[int, int], seed: int) -> Iterator[bytes]:
    """Yield different JPEGs of a size (width, height)."""
    chance = np.random.default_rng(seed)
    for _ in range(BASES):
        yield _photo(size, chance)


def _photo(size: tuple[int, int], chance: np.random.Generator) -> bytes:
    soft = chance.integers(0, 256, (12, 10, 3), np.uint8)
    detail = chance.integers(-24, 25, (size[1] // 4, size[0] // 4, 3)).astype(np.int16) + 128
    large = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC), np.int16)
    fine = np.asarray(Image.fromarray(detail.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = chance.normal(0, 2.5, (size[1], size[0], 1))
    pixels = np.clip(large + (fine - 128) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def numbered(base: bytes, number: int) -> tuple[bytes, bytes]:
    """Return head and rest of a photo that no other number has: the number stands in a comment behind SOI."""
    comment = struct.pack(">I", number)
    return base[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment, base[2:]

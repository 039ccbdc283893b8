"""Encoded pictures in, encoded or decoded pictures out; EXIF orientation is honoured everywhere."""

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from .buffers import opened
from .geometry import Window
from .options import PackConfig

Pixels = npt.NDArray[np.uint8]
ENLARGED = 1.03
"""How much a JPEG that was decoded at a half, quarter or eighth may be enlarged: 1000 px decode to 500 for 512."""
PADDING = (127, 127, 127)
"""Colour of what a window shows beyond the picture."""


@dataclass(frozen=True)
class Stored:
    """A picture as a shard stores it; sizes are (width, height) in oriented pixels."""

    data: bytes | memoryview
    suffix: str
    original: tuple[int, int]
    size: tuple[int, int]


def for_shard(data: memoryview, extension: str, config: PackConfig) -> Stored:
    """Return `data` itself where the format and `max_side` allow it, else the picture encoded as JPEG.

    Raises:
        OSError: the bytes are no picture.
    """
    with Image.open(opened(data)) as picture:
        original = oriented_size(picture)
        fits = config.max_side is None or max(original) <= config.max_side
        if fits and (picture.format == "JPEG" or config.keep_format):
            suffix = "jpg" if picture.format == "JPEG" else extension
            return Stored(data, suffix, original, original)
        size = original if fits else _scaled(original, config.max_side or max(original))
        return Stored(_jpeg(picture, size, config.jpeg_quality), "jpg", original, size)


def oriented_size(picture: Image.Image) -> tuple[int, int]:
    """Return (width, height) as seen, after the EXIF orientation."""
    width, height = picture.size
    return (height, width) if _orientation(picture) >= 5 else (width, height)


def decode(data: bytes, window: Window, size: tuple[int, int]) -> Pixels:
    """Decode a window of a picture straight to `size` (width, height), a JPEG at the smallest scale that is enough.

    Returns:
        RGB, `[height, width, 3]`.

    Raises:
        OSError: the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as picture:
        seen = oriented_size(picture)
        _draft(picture, max(size[0] / window.width, size[1] / window.height) / ENLARGED)
        upright = _upright(picture)
        scale_x, scale_y = upright.width / seen[0], upright.height / seen[1]
        box = (
            window.left * scale_x,
            window.top * scale_y,
            (window.left + window.width) * scale_x,
            (window.top + window.height) * scale_y,
        )
        return np.asarray(_resample(_rgb(upright), box, size))


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(ExifTags.Base.Orientation, 1))


def _upright(picture: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(picture) if _orientation(picture) > 1 else picture


def _scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _jpeg(picture: Image.Image, size: tuple[int, int], quality: int) -> bytes:
    profile = picture.info.get("icc_profile")
    if size != oriented_size(picture):
        _draft(picture, max(size) / max(oriented_size(picture)))
    rgb = _rgb(_upright(picture))
    if rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    rgb.save(encoded, "JPEG", quality=quality, icc_profile=profile, exif=b"")
    return encoded.getvalue()


def _draft(picture: Image.Image, scale: float) -> None:
    """Tell the JPEG decoder that `scale` of the picture's size is enough."""
    if picture.format == "JPEG" and scale <= 0.5:
        picture.draft("RGB", (math.ceil(picture.width * scale), math.ceil(picture.height * scale)))


def _rgb(picture: Image.Image) -> Image.Image:
    """Return the picture in 8-bit RGB: transparency on white, 16 bits scaled down."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint32)
        return Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return picture.convert("RGB")


def _resample(picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """Resize the part `box` of a picture to `size`; what lies beyond the picture is `PADDING`."""
    slack = 1e-3  # rounding, not padding
    if min(box) < -slack or box[2] > picture.width + slack or box[3] > picture.height + slack:
        picture, box = _padded(picture, box)
    inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], picture.width), min(box[3], picture.height))
    return picture.resize(size, Image.Resampling.BICUBIC, box=inside, reducing_gap=2.0)


def _padded(
    picture: Image.Image, box: tuple[float, float, float, float]
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    left, top = math.floor(box[0]), math.floor(box[1])
    canvas = Image.new("RGB", (math.ceil(box[2]) - left, math.ceil(box[3]) - top), PADDING)
    canvas.paste(picture, (-left, -top))
    return canvas, (box[0] - left, box[1] - top, box[2] - left, box[3] - top)

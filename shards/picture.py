"""Encoded pictures in, encoded or decoded pictures out; EXIF orientation is honoured everywhere."""

import io
import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from .buffers import opened
from .geometry import ROUNDING, Window, stored_window, whole_pixels
from .options import PackConfig

Pixels = npt.NDArray[np.uint8]
ENLARGED = 1.03
"""How much a JPEG that was decoded at a half, quarter or eighth may be enlarged: 1000 px decode to 500 for 512."""
PADDING = (127, 127, 127)
"""Colour of what a window shows beyond the picture."""
JPEG = ("JPEG", "MPO")
"""Formats of Pillow that are JPEG files; an MPO is a camera's JPEG with a preview behind the photo."""
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
"""What Pillow raises, by format and by place, for bytes that are no picture, or only a part of one."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}
"""Orientations that lead back from upright to stored, where they are other ones."""


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
        UNREADABLE: the bytes are no picture.
    """
    with Image.open(opened(data)) as picture:
        original = oriented_size(picture)
        fits = config.max_side is None or max(original) <= config.max_side
        if fits and (picture.format in JPEG or config.keep_format):
            return Stored(data, "jpg" if picture.format in JPEG else extension, original, original)
        size = original if fits else _scaled(original, config.max_side or max(original))
        return Stored(_jpeg(picture, size, config.jpeg_quality), "jpg", original, size)


def oriented_size(picture: Image.Image) -> tuple[int, int]:
    """Return (width, height) as seen, after the EXIF orientation."""
    return _turned(picture.size, _orientation(picture))


def decode_planes(data: bytes, window: Window, size: tuple[int, int]) -> tuple[Pixels, Window]:
    """Decode a window of a picture straight to `size` (width, height), as fast as can be: for training.

    The window is rounded to whole pixels of what the JPEG decoder gives, because then torch resizes it, in a quarter
    of Pillow's time and with the same weights.

    Returns:
        RGB, `[3, height, width]`, and the window that it shows exactly, at most half a decoded pixel from the one that
        was asked for on each side: keypoints are to be mapped by it.

    Raises:
        UNREADABLE: the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as picture:
        orientation, stored_size = _orientation(picture), picture.size
        stored = stored_window(window, stored_size, orientation)
        scale = _draft(picture, max(size[0] / window.width, size[1] / window.height) / ENLARGED)
        drafted = Window(stored.left * scale, stored.top * scale, stored.width * scale, stored.height * scale)
        cut = whole_pixels(drafted, picture.size)
        pixels = _cut_out(_rgb(picture), cut)
    planes = _turned_planes(_resized(pixels, _turned(size, orientation)), orientation)
    shown = Window(cut.left / scale, cut.top / scale, cut.width / scale, cut.height / scale)
    return planes, stored_window(shown, _turned(stored_size, orientation), _BACK.get(orientation, orientation))


def decode(data: bytes, window: Window, size: tuple[int, int]) -> Pixels:
    """Decode a window of a picture to `size` (width, height), exact to a fraction of a pixel.

    A JPEG is decoded at the smallest scale that is enough.

    Returns:
        RGB, `[height, width, 3]`.

    Raises:
        UNREADABLE: the bytes are no picture.
    """
    with Image.open(io.BytesIO(data)) as picture:
        orientation = _orientation(picture)
        stored = stored_window(window, picture.size, orientation)
        scale = _draft(picture, max(size[0] / window.width, size[1] / window.height) / ENLARGED)
        box = (
            stored.left * scale,
            stored.top * scale,
            (stored.left + stored.width) * scale,
            (stored.top + stored.height) * scale,
        )
        small = _resample(_rgb(picture), box, _turned(size, orientation))
        return np.asarray(_upright(small, orientation))


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where it is missing or nonsense."""
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, struct.error):  # a broken EXIF block costs the orientation, not the photo
        return 1
    return int(value) if value in range(1, 9) else 1


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= 5 else size


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _turned_planes(planes: Pixels, orientation: int) -> Pixels:
    """Turn `[3, height, width]` upright."""
    turned = planes.transpose(0, 2, 1) if orientation >= 5 else planes
    if orientation in (2, 3, 6, 7):
        turned = turned[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def _cut_out(picture: Image.Image, window: Window) -> Pixels:
    """Return whole pixels of a picture, `PADDING` where the window reaches beyond it; `[height, width, 3]`."""
    left, top, width, height = int(window.left), int(window.top), int(window.width), int(window.height)
    box = (left, top, left + width, top + height)
    if min(box) >= 0 and box[2] <= picture.width and box[3] <= picture.height:
        if 2 * width * height >= picture.width * picture.height:  # one copy of everything, not two of this part
            return np.array(picture)[top : top + height, left : left + width]
        return np.array(picture.crop(box))
    canvas = Image.new("RGB", (width, height), PADDING)
    canvas.paste(picture, (-left, -top))
    return np.array(canvas)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize `[height, width, 3]` to `size` (width, height) with Pillow's bicubic weights; `[3, height, width]`."""
    import torch

    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if pixels.shape[1::-1] != size:
        planes = torch.nn.functional.interpolate(planes, size[::-1], mode="bicubic", antialias=True)
    found: Pixels = planes[0].numpy()
    return found


def _scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _jpeg(picture: Image.Image, size: tuple[int, int], quality: int) -> bytes:
    profile, orientation = picture.info.get("icc_profile"), _orientation(picture)
    width, height = picture.size
    target = _turned(size, orientation)
    if target == (width, height):
        rgb = _rgb(picture)
    else:
        scale = _draft(picture, max(target) / max(width, height))
        rgb = _rgb(picture).resize(target, Image.Resampling.LANCZOS, box=(0, 0, width * scale, height * scale))
    encoded = io.BytesIO()
    _upright(rgb, orientation).save(encoded, "JPEG", quality=quality, icc_profile=profile, exif=b"")
    return encoded.getvalue()


def _draft(picture: Image.Image, scale: float) -> float:
    """Tell the JPEG decoder that `scale` of the picture's size is enough, and return the scale that it takes.

    The decoded size is rounded up, so the picture may end within the last row and column: the ratio of the sizes is
    not the scale.
    """
    if picture.format not in JPEG or scale > 0.5:
        return 1.0
    width = picture.width
    drafted = picture.draft("RGB", (math.ceil(width * scale), math.ceil(picture.height * scale)))
    return float(drafted[1][2] / width) if drafted else 1.0


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
    if min(box) < -ROUNDING or box[2] > picture.width + ROUNDING or box[3] > picture.height + ROUNDING:
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

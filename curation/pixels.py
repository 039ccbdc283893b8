"""One decode feeds all stages: photos become upright sRGB pictures once, kept at hand while their batch is scored."""

import io
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

MAX_PIXELS = 180_000_000
"""More than this is a decompression bomb (Pillow's own limit, stated here because it decides verdicts)."""
SMALL = 512
"""Long side of the small luminance picture, px, as near as an integer reduction comes to it."""
_STRIP = 256  # rows


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo after decoding, or the reason why there is none.

    `picture` is RGB in sRGB, upright (EXIF orientation applied); None when `defect` says why.
    """

    picture: Image.Image | None
    defect: str | None = None

    @cached_property
    def grey(self) -> Image.Image | None:
        """The luminance (ITU-R 601-2), 8 bits; made once for all stages, a quarter of the picture's memory."""
        return None if self.picture is None else self.picture.convert("L")

    @cached_property
    def small(self) -> Image.Image | None:
        """The luminance reduced by averaging blocks of n x n pixels; n brings the long side nearest to `SMALL`."""
        return None if self.grey is None else self.grey.reduce(max(1, round(max(self.grey.size) / SMALL)))


class PhotoReader:
    """Decodes photos from disk and remembers the last few, so that each stage of a batch gets the same decode.

    Args:
        remembered: number of decoded photos kept; at least the batch size. Who reads in batches bounds their pixels
            (see `pixels_of`) and lets go of them with `forget`.
        decoders: threads that decode what `ahead` names before it is read; 0 makes `ahead` do nothing.
    """

    def __init__(self, remembered: int = 8, decoders: int = 0) -> None:
        self._remembered = remembered
        self._photos: OrderedDict[Path, DecodedPhoto] = OrderedDict()
        self._decoders = ThreadPoolExecutor(decoders, "decode") if decoders else None
        self._ahead: dict[Path, Future[DecodedPhoto]] = {}

    def read(self, path: Path) -> DecodedPhoto:
        """Return the decoded photo; one that cannot be decoded has a defect, it is no error."""
        if path in self._photos:
            self._photos.move_to_end(path)
            return self._photos[path]
        begun = self._ahead.pop(path, None)
        photo = begun.result() if begun else _decode_file(path)
        self._photos[path] = photo
        while len(self._photos) > self._remembered:
            self._photos.popitem(last=False)
        return photo

    def ahead(self, paths: Sequence[Path]) -> None:
        """Begin to decode photos that will be read soon."""
        if self._decoders is not None:
            for path in paths:
                if path not in self._photos and path not in self._ahead:
                    self._ahead[path] = self._decoders.submit(_decode_file, path)

    def forget(self, paths: Sequence[Path]) -> None:
        """Let go of photos: their memory is free when this returns."""
        for path in paths:
            begun = self._ahead.pop(path, None)
            if begun is not None and not begun.cancel():
                begun.exception()  # waits: what is being decoded takes memory until it is done
            self._photos.pop(path, None)


def pixels_of(path: Path) -> int:
    """Return how many pixels a photo has when it is decoded, from its header; 0 where it is not decoded at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                pixels = image.width * image.height
        except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError):
            return 0
    return pixels if pixels <= MAX_PIXELS else 0


def _decode_file(path: Path) -> DecodedPhoto:
    return decode(path.read_bytes())


def decode(data: bytes) -> DecodedPhoto:
    """Decode a photo fully.

    Defects: `not_an_image`, `animated`, `decompression_bomb`, `corrupt` (a broken or truncated stream).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd EXIF and about sizes that MAX_PIXELS judges here
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            return DecodedPhoto(None, "decompression_bomb")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
            return DecodedPhoto(None, "not_an_image")
        if image.width * image.height > MAX_PIXELS:
            return DecodedPhoto(None, "decompression_bomb")
        # An MPO is a camera's JPEG with a second picture (a preview, the other eye) behind the photo.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            return DecodedPhoto(None, "animated")
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # no copy: large photos decide how much memory it takes
            return DecodedPhoto(to_srgb(image))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError):
            return DecodedPhoto(None, "corrupt")


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB in sRGB, a transparent one on white."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        transform = _transform(profile, image.mode)
        converted = None if transform is None else ImageCms.applyTransform(image, transform)
        if converted is not None:
            return converted
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _on_white(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image, dtype=np.float32) / 257  # 16 bits to 8; Pillow itself would cut everything above 255
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where it is sRGB already or broken, which costs the photo nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "RGB":
            return transform
        # Most profiles are sRGB under one of its names, and the way costs several times what decoding does.
        moved = np.asarray(ImageCms.applyTransform(Image.fromarray(_LATTICE), transform), np.int16) - _LATTICE
    except (ImageCms.PyCMSError, OSError):
        return None
    return transform if np.abs(moved).max() > 1 else None


_STEPS = np.linspace(0, 255, 18).astype(np.uint8)
_LATTICE = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), axis=-1).reshape(18, -1, 3)
"""Colours `[18, 324, 3]` from all over the cube."""


def _on_white(image: Image.Image) -> Image.Image:
    """Lay a transparent picture on white, in strips: whole layers of a large one would take five times its memory."""
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        layer = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        opaque.paste(Image.alpha_composite(ground, layer).convert("RGB"), (0, top))
    return opaque

"""One decode feeds all stages: photos become upright sRGB pictures once, kept at hand while their batch is scored."""

import io
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

MAX_PIXELS = 180_000_000
"""More than this is a decompression bomb (Pillow's own limit, stated here because it decides verdicts)."""


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo after decoding, or the reason why there is none.

    `picture` is RGB in sRGB, upright (EXIF orientation applied); None when `defect` says why.
    """

    picture: Image.Image | None
    defect: str | None = None


class PhotoReader:
    """Decodes photos from disk and remembers the last few, so that each stage of a batch gets the same decode.

    Args:
        remembered: number of decoded photos kept; at least the batch size, so that memory is bounded by it.
    """

    def __init__(self, remembered: int = 8) -> None:
        self._remembered = remembered
        self._photos: OrderedDict[Path, DecodedPhoto] = OrderedDict()

    def read(self, path: Path) -> DecodedPhoto:
        """Return the decoded photo; one that cannot be decoded has a defect, it is no error."""
        if path in self._photos:
            self._photos.move_to_end(path)
            return self._photos[path]
        photo = decode(path.read_bytes())
        self._photos[path] = photo
        while len(self._photos) > self._remembered:
            self._photos.popitem(last=False)
        return photo


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
            return DecodedPhoto(_to_srgb(ImageOps.exif_transpose(image)))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError):
            return DecodedPhoto(None, "corrupt")


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a broken profile costs the colour correction, not the photo
        if converted is not None:
            return converted
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image, dtype=np.float32) / 257  # 16 bits to 8; Pillow itself would cut everything above 255
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")

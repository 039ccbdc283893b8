"""Whether all bytes of a photo came: cheap marks first, then its structure or a full decode where they leave a doubt.

A file that ends with the end mark of its format is whole. One that does not may carry bytes behind the mark
(cameras and editors add some): the chunks of PNG, the blocks of GIF and the boxes of AVIF say where the photo ends,
the others are decoded.
"""

import struct
import warnings
from collections.abc import Awaitable, Callable
from typing import IO

from PIL import Image, UnidentifiedImageError

from .outcome import Failure, Rejection
from .probe import Size, has_end
from .store import Incoming

# What Pillow's decoders raise on damaged data.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError, struct.error)


async def check_whole(incoming: Incoming, size: Size, alone: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
    """Check that the last bytes of a photo are there.

    Args:
        incoming: the file, written completely.
        size: what the probe found.
        alone: runs a function beside the event loop, one at a time: a decoded photo may take 300 MB.

    Raises:
        Failure: the photo is cut off (`truncated`).
        Rejection: Pillow cannot read it at all (`not_an_image`).
    """
    if not has_end(size, incoming.head, incoming.tail, incoming.bytes):
        await alone(lambda: look_closer(incoming.reader(), size.format))


def look_closer(opened: IO[bytes], format: str) -> None:
    """Check a file whose last bytes are not the end mark of its format.

    Raises:
        Failure, Rejection: see `check_whole`.
    """
    with opened as file:
        if format == "PNG":
            _require_chunks(file)
        elif format == "GIF":
            _require_blocks(file)
        elif not (format == "AVIF" and _boxes_fill(file)):
            decode(file)


def _require_chunks(file: IO[bytes]) -> None:
    """Walk the chunks of a PNG to its IEND (PNG specification, 5.3); Pillow does not miss it."""
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        file.seek(length, 1)
        if len(file.read(4)) == 4 and kind == b"IEND":
            return
    raise Failure("truncated", "PNG without IEND")


def _require_blocks(file: IO[bytes]) -> None:
    """Walk the blocks of a GIF to its trailer (GIF89a specification, 18 to 27); Pillow misses it only in some."""
    _skip_colours(file, file.read(13)[10:])
    while (mark := file.read(1)) and mark in b"!,":
        if mark == b"!":
            file.read(1)  # kind of the extension
        else:
            _skip_colours(file, file.read(9)[8:])
            file.read(1)  # code size of the pixels
        _skip_blocks(file)
    if mark != b";":
        raise Failure("truncated", "GIF without its trailer")


def _skip_colours(file: IO[bytes], packed: bytes) -> None:
    if packed and packed[0] & 0x80:
        file.seek(3 * 2 ** ((packed[0] & 7) + 1), 1)


def _skip_blocks(file: IO[bytes]) -> None:
    while length := file.read(1):
        if length == b"\0":
            return
        file.seek(length[0], 1)


def _boxes_fill(file: IO[bytes]) -> bool:
    """Say whether the top boxes of an AVIF, pixels among them, end where the file does (ISO/IEC 14496-12, 4.2)."""
    end = file.seek(0, 2)
    offset, pixels = 0, False
    while offset + 8 <= end:
        file.seek(offset)
        length, kind, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = large if length == 1 else length
        if length < 8:
            return False
        offset += length
        pixels = pixels or kind == b"mdat"
    return pixels and offset == end


def decode(file: IO[bytes]) -> None:
    """Decode every pixel.

    Raises:
        Failure: data is missing or damaged (`truncated`).
        Rejection: `not_an_image`, or `too_many_pixels` where a frame is larger than the header says.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.seek(0)
            with Image.open(file) as image:
                image.load()
    except UnidentifiedImageError as error:
        raise Rejection("not_an_image", detail=str(error)) from error
    except Image.DecompressionBombError as error:
        raise Rejection("too_many_pixels", detail=str(error)) from error
    except DAMAGED as error:
        raise Failure("truncated", f"{type(error).__name__}: {error}") from error

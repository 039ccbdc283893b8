"""Whether all bytes of a photo came: cheap marks first, then its structure or a full decode where they leave a doubt.

A file that ends with the end mark of its format is whole. One that does not may carry bytes behind the mark
(cameras and editors add some): the chunks of PNG and the boxes of AVIF say where the photo ends, the others
are decoded.
"""

import struct
import warnings
from collections.abc import Awaitable, Callable
from typing import IO

from PIL import Image, UnidentifiedImageError

from .outcome import Failure, Rejection
from .probe import Size, has_end
from .store import Incoming


async def check_whole(
    incoming: Incoming, size: Size, in_thread: Callable[[Callable[[], None]], Awaitable[None]]
) -> None:
    """Check that the last bytes of a photo are there.

    Args:
        incoming: the file, written completely.
        size: what the probe found.
        in_thread: runs a function beside the event loop.

    Raises:
        Failure: the photo is cut off (`truncated`).
        Rejection: Pillow cannot read it at all (`not_an_image`).
    """
    if not has_end(size, incoming.head, incoming.tail, incoming.bytes):
        await in_thread(lambda: look_closer(incoming.reader(), size.format))


def look_closer(opened: IO[bytes], format: str) -> None:
    """Check a file whose last bytes are not the end mark of its format.

    Raises:
        Failure, Rejection: see `check_whole`.
    """
    with opened as file:
        if format == "PNG":
            _require_chunks(file)
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


def _boxes_fill(file: IO[bytes]) -> bool:
    """Say whether the top boxes of an AVIF end exactly where the file does (ISO/IEC 14496-12, 4.2)."""
    end = file.seek(0, 2)
    offset = 0
    while offset + 8 <= end:
        file.seek(offset)
        length, _, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = large if length == 1 else length
        if length < 8:
            return False
        offset += length
    return offset == end


def decode(file: IO[bytes]) -> None:
    """Decode every pixel.

    Raises:
        Failure: data is missing or damaged (`truncated`).
        Rejection: `not_an_image`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.seek(0)
            with Image.open(file) as image:
                image.load()
    except UnidentifiedImageError as error:
        raise Rejection("not_an_image", detail=str(error)) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Failure("truncated", str(error)) from error

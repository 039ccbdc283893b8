"""The pixel size of a photo from its first bytes, and whether its last bytes are there.

Pillow's incremental parser is not used for this: it needs the whole file for WebP and AVIF, parses again from
the start with every piece, and allocates all pixels of whatever size the header claims. The tests compare the
sizes found here with Pillow's.

Formats: JPEG (ISO/IEC 10918-1, B.1.1), PNG, GIF, WebP (RFC 9649), AVIF (ISO/IEC 14496-12 boxes).
"""

import struct
from dataclasses import dataclass

from .outcome import Failure, Rejection

# Above this Pillow warns of a decompression bomb; a photo of 89 megapixels is none of a gallery.
MAX_PIXELS = 89_478_485
# Magic numbers are this long at most.
SNIFF_BYTES = 32
# A header that has not said the size by now never will: the largest legitimate ones hold previews of some MB.
MAX_HEADER = 16 * 2**20
TAIL_BYTES = 64
MAX_STRAY = 64  # bytes between two segments of a JPEG that belong to neither

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}
_OTHER_IMAGES = (b"BM", b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"\0\0\1\0")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class Size:
    """Format by Pillow's name and size in pixels, before any EXIF rotation."""

    format: str
    width: int
    height: int


class Probe:
    """Reads a photo's size while its bytes arrive: `feed` pieces until it returns a Size."""

    def __init__(self) -> None:
        self.head = bytearray()
        self._format: str | None = None
        self._offset = 2  # JPEG: where the next marker is searched
        self._again_at = 0  # AVIF: a header split over pieces is parsed anew only when it has doubled

    def feed(self, piece: bytes) -> Size | None:
        """Add bytes; return the size once they say it.

        Raises:
            Rejection: `not_an_image`, `unsupported_format`, or `too_many_pixels` (value: pixels).
        """
        self.head += piece
        if len(self.head) < max(SNIFF_BYTES, self._again_at):
            return None
        return self._size()

    def end(self) -> Size:
        """Return the size after the last byte came.

        Raises:
            Rejection: see `feed`.
            Failure: the bytes ended before the size was said (`truncated`).
        """
        size = self._size() if len(self.head) >= SNIFF_BYTES else None
        if size is None and self._format is None and self.head:
            raise Rejection("not_an_image", detail=f"{len(self.head)} bytes")
        if size is None:
            raise Failure("truncated", f"ended after {len(self.head)} bytes")
        return size

    def _size(self) -> Size | None:
        if self._format is None:
            self._format = sniff(bytes(self.head[:SNIFF_BYTES]))
        size = self._read()
        if size is None:
            if len(self.head) > MAX_HEADER:
                raise Rejection("not_an_image", detail=f"{self._format} without a size")
            return None
        width, height = size
        if width < 1 or height < 1:
            raise Rejection("not_an_image", detail=f"{self._format} of {width} × {height} pixels")
        if width * height > MAX_PIXELS:
            raise Rejection("too_many_pixels", width * height, MAX_PIXELS, f"{width} × {height}")
        return Size(self._format, width, height)

    def _read(self) -> tuple[int, int] | None:
        if self._format == "JPEG":
            self._offset, size = jpeg_size(self.head, self._offset)
            return size
        if self._format == "PNG":
            return struct.unpack_from(">II", self.head, 16)
        if self._format == "GIF":
            return struct.unpack_from("<HH", self.head, 6)
        if self._format == "WEBP":
            return webp_size(self.head)
        self._again_at = 2 * len(self.head)
        return avif_size(bytes(self.head))


def sniff(head: bytes) -> str:
    """Return Pillow's name of the format that the first bytes announce.

    Raises:
        Rejection: `not_an_image`, or `unsupported_format` for images that bolid does not store.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        if b"avif" in head[8:] or b"avis" in head[8:]:
            return "AVIF"
        raise Rejection("unsupported_format", detail=head[8:12].decode("latin-1"))
    if head.startswith(_OTHER_IMAGES):
        raise Rejection("unsupported_format")
    raise Rejection("not_an_image")


def jpeg_size(head: bytes | bytearray, offset: int = 2) -> tuple[int, tuple[int, int] | None]:
    """Walk the JPEG segments from `offset`; return where to go on with more bytes, and the size once found.

    Some stray bytes between segments are passed over, as all decoders do.

    Raises:
        Rejection: `not_an_image` where no marker is, or the pixels begin without a frame header.
    """
    while offset + 4 <= len(head):
        if head[offset] != 0xFF:
            found = head.find(b"\xff", offset, offset + MAX_STRAY)
            if found < 0 and offset + MAX_STRAY > len(head):
                break
            if found < 0:
                raise Rejection("not_an_image", detail=f"no JPEG marker at byte {offset}")
            offset = found
            continue
        marker = head[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker in _NO_LENGTH:
            offset += 2
        elif marker in _START_OF_FRAME:
            if offset + 9 > len(head):
                break
            height, width = struct.unpack_from(">HH", head, offset + 5)
            return offset, (width, height)
        elif marker in (0xD9, 0xDA):
            raise Rejection("not_an_image", detail="JPEG data without a frame header")
        else:
            offset += 2 + max(2, struct.unpack_from(">H", head, offset + 2)[0])
    return offset, None


def webp_size(head: bytes | bytearray) -> tuple[int, int] | None:
    """Return the size of a WebP file from its first chunk (30 bytes are enough).

    Raises:
        Rejection: `not_an_image` for an unknown first chunk.
    """
    if len(head) < 30:
        return None
    kind = bytes(head[12:16])
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Rejection("not_an_image", detail="WebP with an unknown first chunk")


def avif_size(head: bytes) -> tuple[int, int] | None:
    """Return the size of the primary item of an AVIF file, once its `meta` box is complete.

    Raises:
        Rejection: `not_an_image` where the box does not state it.
    """
    meta = _box(head, b"meta")
    if meta is None:
        return None
    try:
        return _primary_size(meta[4:])
    except (struct.error, IndexError, KeyError, TypeError):
        raise Rejection("not_an_image", detail="AVIF without the size of its primary item") from None


def _primary_size(meta: bytes) -> tuple[int, int]:
    pitm, iprp = _need(meta, b"pitm"), _need(meta, b"iprp")
    primary = struct.unpack_from(">H" if pitm[0] == 0 else ">I", pitm, 4)[0]
    properties = list(_boxes(_need(iprp, b"ipco")))
    for index in _associations(_need(iprp, b"ipma"))[primary]:
        kind, content = properties[index - 1]
        if kind == b"ispe":
            return struct.unpack_from(">II", content, 4)
    raise KeyError("ispe")


def _associations(ipma: bytes) -> dict[int, list[int]]:
    """Return, for each item, the 1-based indices of its properties (ISO/IEC 23008-12, 9.3.2)."""
    version, wide = ipma[0], ipma[3] & 1
    entries = struct.unpack_from(">I", ipma, 4)[0]
    offset, found = 8, {}
    for _ in range(min(entries, 10_000)):
        item = struct.unpack_from(">H" if version < 1 else ">I", ipma, offset)[0]
        offset += 2 if version < 1 else 4
        count = ipma[offset]
        offset += 1
        if wide:
            found[item] = [n & 0x7FFF for n in struct.unpack_from(f">{count}H", ipma, offset)]
        else:
            found[item] = [n & 0x7F for n in ipma[offset : offset + count]]
        offset += count * (2 if wide else 1)
    return found


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the complete boxes at the start of `data` as (type, content)."""
    found, offset = [], 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        header = 8
        if length == 1 and offset + 16 <= len(data):
            length, header = struct.unpack_from(">Q", data, offset + 8)[0], 16
        if length < header or offset + length > len(data):
            break
        found.append((kind, data[offset + header : offset + length]))
        offset += length
    return found


def _box(data: bytes, kind: bytes) -> bytes | None:
    return next((content for found, content in _boxes(data) if found == kind), None)


def _need(data: bytes, kind: bytes) -> bytes:
    content = _box(data, kind)
    if content is None:
        raise KeyError(kind)
    return content


def has_end(size: Size, head: bytes, tail: bytes, length: int) -> bool:
    """Say whether a file's last bytes are those that end its format; False means: look closer.

    Args:
        size: what the probe found.
        head: at least the first 12 bytes.
        tail: the last bytes, 64 or all.
        length: bytes of the file.
    """
    if size.format == "JPEG":
        return tail.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if size.format == "PNG":
        return tail.endswith(b"\0\0\0\0IEND\xae\x42\x60\x82")
    if size.format == "WEBP":
        # The length in the header may leave out the padding byte of the last chunk.
        return int.from_bytes(head[4:8], "little") + 8 <= length
    return False  # the last byte of a GIF is one that any other may be

"""The bytes of one photo: probed as they arrive, stopped when it is too small, else read to the end.

Where many photos of a host turn out too small, their first bytes are asked for alone (HTTP Range, RFC 9110, 14):
on a fast connection most of a photo is under way before its header is read, and hanging up saves little. It costs
a second request for each photo that is large enough, so it begins only after experience with the host.
"""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .address import origin
from .fetch import Answer, Fetcher
from .optout import signals_refusal
from .outcome import OPT_OUT, TOO_LARGE, TOO_SMALL, Failure, Rejection
from .probe import Probe, Size
from .store import Incoming, Store

HEAD_BYTES = 16 * 1024
EXPERIENCE = 32  # last photos of a host that are remembered
ENOUGH = 8  # photos of a host before anything is concluded
MANY = 0.25  # share of too small photos that makes asking for heads worth it
MAX_HOSTS = 1024


class BadRange(Failure):
    """The server cannot serve parts of a photo, or not the part that was asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_range", detail)


@dataclass
class Tally:
    """What one run moved: photos settled and stored, bytes of photos received and not asked for."""

    settled: int = 0
    stored: int = 0
    received: int = 0
    saved: int = 0


@dataclass(frozen=True)
class PhotoLimits:
    """Smallest short side in pixels and largest file in bytes."""

    min_res: int
    max_bytes: int


@dataclass(frozen=True)
class Arrived:
    """A photo whose bytes came to their end: size, bytes, Unix time and ETag of the answer."""

    size: Size
    incoming: Incoming
    fetched_at: float
    etag: str | None


@dataclass
class Experience:
    """What the photos of one host were like."""

    ranges: bool = True
    small: deque[bool] = field(default_factory=lambda: deque(maxlen=EXPERIENCE))

    @property
    def heads_first(self) -> bool:
        """Say whether it is worth asking for the first bytes alone."""
        return self.ranges and len(self.small) >= ENOUGH and sum(self.small) >= MANY * len(self.small)


class Receiver:
    """Reads photos.

    Args:
        fetcher: the network.
        store: where photos go.
        limits: what is too small and too large.
        tally: counts what the run moves.
    """

    def __init__(self, fetcher: Fetcher, store: Store, limits: PhotoLimits, tally: Tally) -> None:
        self._fetcher, self._store, self._limits, self._tally = fetcher, store, limits, tally
        self._hosts: OrderedDict[str, Experience] = OrderedDict()

    async def receive(self, url: str, referer: str) -> Arrived:
        """Return a photo with all its bytes.

        Raises:
            Rejection: too small, too large, no image, opted out, or refused by the server; it says how many bytes
                were received and saved.
            Failure, Postponed: it could not be read this time.
        """
        known = self._experience(origin(url))
        reading = Reading(self._store, self._limits, self._tally)
        headers = {"Referer": referer, "Accept": "image/*", "Accept-Encoding": "identity"}
        try:
            if not (known.heads_first and await self._in_parts(url, headers, reading, known)):
                await self._part(url, headers, reading)
            arrived = reading.end()
        except BaseException as error:
            reading.discard()
            if isinstance(error, Rejection):
                error.received, error.saved = reading.received, error.saved or reading.missing
                if error.reason == TOO_SMALL:
                    known.small.append(True)
            raise
        known.small.append(False)
        return arrived

    async def _in_parts(self, url: str, headers: dict[str, str], reading: "Reading", known: Experience) -> bool:
        """Read the head, then the rest; False where the host cannot serve parts and the whole must be asked for."""
        try:
            await self._part(url, {**headers, "Range": f"bytes=0-{HEAD_BYTES - 1}"}, reading)
            if not reading.whole and reading.validator:
                rest = {"Range": f"bytes={reading.taken}-", "If-Range": reading.validator}
                await self._part(url, headers | rest, reading)
        except BadRange:
            known.ranges = False
        # Without a validator two parts might be of two versions of the photo.
        known.ranges = known.ranges and reading.validator is not None
        return reading.whole

    async def _part(self, url: str, headers: Mapping[str, str], reading: "Reading") -> None:
        """Read one answer, which continues what is there (206) or begins anew (200)."""
        async with self._fetcher.open(url, headers) as answer:
            if answer.status == 416:
                raise BadRange(f"{url}: no bytes {headers.get('Range')}")
            answer.check_status((200, 206) if "Range" in headers else (200,))
            require_consent(signals_refusal(answer.signals, datetime.now(UTC)))
            reading.open(answer)
            async for piece in answer.pieces():
                reading.take(piece)
            reading.close(answer)

    def _experience(self, host: str) -> Experience:
        if host in self._hosts:
            self._hosts.move_to_end(host)
        elif len(self._hosts) >= MAX_HOSTS:
            self._hosts.popitem(last=False)
        return self._hosts.setdefault(host, Experience())


class Reading:
    """The body of one photo over one or two answers.

    `taken` bytes of `total` (None: not announced) are here; `received` counts also what was begun anew.
    """

    def __init__(self, store: Store, limits: PhotoLimits, tally: Tally) -> None:
        self._store, self._limits, self._tally = store, limits, tally
        self._body: _Body | None = None
        self.received = self.taken = 0
        self.total: int | None = None
        self.whole = False

    @property
    def missing(self) -> int:
        """Bytes that were announced and not received."""
        return max(0, (self.total or 0) - self.received)

    @property
    def validator(self) -> str | None:
        """What names this version of the photo in an If-Range header; None where the server gave nothing."""
        return self._body.validator if self._body else None

    def open(self, answer: Answer) -> None:
        """Prepare for the body of an answer, which continues what is here (206) or begins anew (200).

        Raises:
            Rejection: it announces too many bytes (`too_large`).
            BadRange: it is a part that does not fit.
        """
        if answer.status == 206:
            begin, self.total = content_range(answer.headers.get("Content-Range", ""))
            if begin != self.taken:
                raise BadRange(f"{answer.url}: asked for byte {self.taken}, got {begin}")
        else:
            self.discard()
            self.total = answer.length
        if self.total is not None and self.total > self._limits.max_bytes:
            raise Rejection(TOO_LARGE, self.total, self._limits.max_bytes)
        self._body = self._body or _Body(self._store, self._limits.min_res, answer)

    def take(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            Rejection: too many, or what the first ones say of the photo.
        """
        self.received += len(piece)
        self.taken += len(piece)
        self._tally.received += len(piece)
        if self.taken > self._limits.max_bytes:
            raise Rejection(TOO_LARGE, self.taken, self._limits.max_bytes)
        if self._body is not None:
            self._body.take(piece)

    def close(self, answer: Answer) -> None:
        """Note that the body of an answer came to its end."""
        self.whole = answer.status != 206 or self.taken == self.total

    def end(self) -> Arrived:
        """Return the photo after its last byte.

        Raises:
            Rejection, Failure: the bytes do not say a size.
        """
        if self._body is None:
            raise RuntimeError("a photo ended before it began")
        return self._body.end()

    def discard(self) -> None:
        """Forget the bytes."""
        if self._body is not None:
            self._body.discard()
        self._body, self.taken = None, 0


class _Body:
    """The bytes of one version of a photo: probed first, then written."""

    def __init__(self, store: Store, min_res: int, answer: Answer) -> None:
        self._store, self._min_res = store, min_res
        self._probe = Probe()
        self._arrived: Arrived | None = None
        self._fetched_at, self._etag = time.time(), answer.headers.get("ETag")
        strong = self._etag if self._etag and not self._etag.startswith("W/") else None
        self.validator = strong or answer.headers.get("Last-Modified")

    def take(self, piece: bytes) -> None:
        if self._arrived is None:
            self._begin(self._probe.feed(piece))
        else:
            self._arrived.incoming.write(piece)

    def end(self) -> Arrived:
        if self._arrived is None:
            self._begin(self._probe.end())
        if self._arrived is None:
            raise RuntimeError("the probe ended without a size")
        return self._arrived

    def discard(self) -> None:
        if self._arrived is not None:
            self._arrived.incoming.discard()

    def _begin(self, size: Size | None) -> None:
        if size is None:
            return
        require_size(size, self._min_res)
        self._arrived = Arrived(size, self._store.incoming(), self._fetched_at, self._etag)
        self._arrived.incoming.write(bytes(self._probe.head))


def content_range(header: str) -> tuple[int, int | None]:
    """Return the first byte and the total of a Content-Range header (RFC 9110, 14.4).

    Raises:
        BadRange: it is not understood.
    """
    found = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", header.strip())
    if not found:
        raise BadRange(f"Content-Range: {header[:100]}")
    return int(found[1]), None if found[3] == "*" else int(found[3])


def require_consent(refusal: str | None) -> None:
    """Refuse what a header or a page opts out.

    Raises:
        Rejection: `opt_out`.
    """
    if refusal is not None:
        raise Rejection(OPT_OUT, detail=refusal)


def require_size(size: Size, min_res: int) -> None:
    """Refuse a photo whose short side is under `min_res` pixels.

    Raises:
        Rejection: `too_small` (value: short side).
    """
    short = min(size.width, size.height)
    if short < min_res:
        raise Rejection(TOO_SMALL, short, min_res, f"{size.width} × {size.height}")

"""The rows of the frontier that travel through a crawl, and places in document order."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class PageRow:
    """A claimed page; a gallery has a `slug`, a `root` (place of its first page) and is `decided` once accepted."""

    id: int
    url: str
    kind: str
    path: bytes
    root: bytes
    identity: int | None
    slug: str | None
    decided: bool
    tries: int
    etag: str | None
    modified: str | None


@dataclass(frozen=True)
class PhotoRow:
    """A claimed photo; `url` is None until its picture page was read."""

    id: int
    identity: int
    slug: str
    link: str
    url: str | None
    page_url: str
    tries: int
    robots: str
    rights: str


@dataclass
class Stored:
    """What is known of a photo whose bytes came whole; `sha256` is empty until they are hashed."""

    row: int
    width: int
    height: int
    bytes: int
    format: str
    fetched_at: float
    etag: str | None
    robots: str
    sha256: str = ""


@dataclass(frozen=True)
class HostRow:
    """What is remembered of a host (scheme, name, port): its rate in requests/s, its pause and its robots.txt.

    Times are Unix seconds; `robots_status` is None where robots.txt was not asked for yet.
    """

    host: str
    rate: float | None
    resume_at: float
    robots_status: int | None
    robots_body: bytes
    robots_at: float


@dataclass(frozen=True)
class ReservationRow:
    """The tdmrep.json of a host: HTTP status (0: not reached), bytes, and the Unix time at which it was read."""

    host: str
    status: int
    body: bytes
    read_at: float


@dataclass(frozen=True)
class Bounds:
    """The thresholds of a crawl that rows were rejected by."""

    min_res: int
    min_photos: int
    max_photos: int
    identities: int | None


def step(parent: bytes, place: int) -> bytes:
    """Return the place of the n-th child of `parent` in document order."""
    return parent + struct.pack(">I", min(place, 0xFFFFFFFF))

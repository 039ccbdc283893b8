"""What happens to one page and to one photo, from the claim to the state that ends it."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from ..errors import LayoutError
from .address import origin
from .extract import Document, Gallery, gallery, listing, picture, require_photos
from .fetch import Answer, Fetcher, Page
from .frontier import Bounds, Frontier, PageRow, PhotoRow, Stored
from .hosts import Hosts
from .optout import is_about_ai, page_refusal, signals_refusal
from .outcome import LAYOUT, OPT_OUT, SUPPRESSED, TOO_FEW, TOO_LARGE, TOO_SMALL, Failure, Postponed, Rejection
from .politeness import backoff
from .probe import Probe, Size
from .schedule import Job, Schedule
from .site import Site
from .store import Incoming, Received, Store
from .whole import check_whole

LAYOUT_TRIES = 5  # pages of one kind that may fit no selector before the crawl stops, if none ever did


@dataclass
class Tally:
    """What one run moved: photos settled and bytes of photos received and not asked for."""

    settled: int = 0
    received: int = 0
    saved: int = 0


@dataclass(frozen=True)
class Patience:
    """How often and how long a run tries: tries of one address, seconds of the first back-off."""

    tries: int
    backoff_s: float


class Work:
    """Turns claimed rows into jobs.

    Args:
        site: the definition bound to its host.
        frontier: where every outcome is noted.
        fetcher: the network.
        hosts: the gate.
        store: where photos go.
        bounds: thresholds of the crawl.
        max_bytes: largest photo in bytes.
        patience: tries and back-off.
        tally: counts what the run moves.
    """

    def __init__(
        self, site: Site, frontier: Frontier, fetcher: Fetcher, hosts: Hosts, store: Store, bounds: Bounds,
        max_bytes: int, patience: Patience, tally: Tally,
    ) -> None:  # fmt: skip
        self._site, self._frontier, self._fetcher, self._hosts = site, frontier, fetcher, hosts
        self._store, self._bounds, self._max_bytes, self._patience = store, bounds, max_bytes, patience
        self._chance = random.Random()
        self._underway: set[str] = set()
        self._unfit: Counter[str] = Counter()
        self.tally = tally
        self.schedule: Schedule | None = None

    def claim(self, host: str, limit: int) -> list[Job]:
        """Take up to `limit` photos of a host, then pages: a gallery is finished before the next one begins."""
        now = time.time()
        if self._hosts.resumes_in(host) > 0:
            # Claimed now they would only wait; the host's pause is over when the first retry is due.
            limit = min(limit, 1)
        photos = self._frontier.claim_photos(host, now, limit)
        jobs = [self._job(photo, partial(self._photo, photo)) for photo in photos]
        if len(jobs) < limit and self._site.owns(f"{host}/"):
            pages = self._frontier.claim_pages(host, now, limit - len(jobs), self._bounds.identities)
            jobs += [self._job(page, partial(self._page, page)) for page in pages]
        return jobs

    def due(self, host: str) -> float | None:
        """Return when the next waiting row of a host is due (Unix time)."""
        return self._frontier.next_due(host, time.time())

    def _job(self, row: PageRow | PhotoRow, work: Callable[[], Awaitable[None]]) -> Job:
        async def job() -> None:
            try:
                await work()
            except Failure as failure:
                self._failed(row, failure)
            except Postponed:
                host = origin(row.url or row.link if isinstance(row, PhotoRow) else row.url)
                self._frontier.release(row, time.time() + self._hosts.resumes_in(host))

        return job

    def _failed(self, row: PageRow | PhotoRow, failure: Failure) -> None:
        if failure.reason == LAYOUT:
            self._layout(row, failure)
        if failure.retry and row.tries + 1 < self._patience.tries:
            pause = max(backoff(row.tries + 1, self._patience.backoff_s, self._chance), failure.pause or 0.0)
            self._frontier.retry(row, time.time() + pause, failure.reason, failure.detail)
        else:
            self._frontier.failed(row, failure.reason, failure.detail)
            self.tally.settled += isinstance(row, PhotoRow)

    def _layout(self, row: PageRow | PhotoRow, failure: Failure) -> None:
        kind = row.kind if isinstance(row, PageRow) else "picture"
        self._unfit[kind] += 1
        if self._unfit[kind] >= LAYOUT_TRIES and not self._frontier.matched(kind):
            self._frontier.failed(row, failure.reason, failure.detail)
            raise LayoutError(layout_message(self._site.definition.name, self._unfit[kind], failure.detail))

    # --- pages --------------------------------------------------------------------------------------------

    async def _page(self, row: PageRow) -> None:
        try:
            page = await self._fetcher.page(row.url, _conditions(row))
            if not self._site.owns(page.url):
                raise Rejection("off_site", detail=page.url)
            if page.status == 304:
                self._frontier.page_unchanged(row)
            elif row.slug is None:
                self._read_listing(row, page)
            else:
                self._read_gallery(row, page, row.slug)
        except Rejection as why:
            self._frontier.page_rejected(row, why)
        if self.schedule is not None:
            self.schedule.wake_all()

    def _read_listing(self, row: PageRow, page: Page) -> None:
        links = listing(Document(page.url, page.body, page.charset), self._site, row.kind)
        self._frontier.listing_read(row, links, *_validators(page))
        self._wake({origin(link.url) for link in links})

    def _read_gallery(self, row: PageRow, page: Page, slug: str) -> None:
        document = Document(page.url, page.body, page.charset)
        refusal = page_refusal(page.signals, document, datetime.now(UTC))
        if refusal and is_about_ai(refusal):
            raise Rejection(OPT_OUT, detail=refusal)
        found = gallery(document, self._site, row.kind, slug)
        self._frontier.describe(row, found)
        if not row.decided:
            require_enough(found, self._bounds.min_photos)
        require_photos(document, self._site, row.kind, found)
        rule = self._site.page(row.kind).photos
        rights = self._site.definition.rights.text if rule and rule.to == "image" else None
        hosts = self._frontier.gallery_read(row, found, self._bounds, rights, *_validators(page))
        self._wake(hosts)

    def _wake(self, hosts: "set[str] | list[str]") -> None:
        for host in hosts:
            if self.schedule is not None:
                self.schedule.wake(host)

    # --- photos -------------------------------------------------------------------------------------------

    async def _photo(self, row: PhotoRow) -> None:
        try:
            located = row if row.url is not None else await self._locate(row)
            if located is not None and located.url is not None:
                await self._download(located, located.url)
        except Rejection as why:
            self._frontier.photo_rejected(row, why)
            self.tally.settled += 1
            self.tally.saved += why.saved

    async def _locate(self, row: PhotoRow) -> PhotoRow | None:
        """Read the picture page; None where the image's own host goes on, or the identity has the image already."""
        rule = self._site.definition.picture
        if rule is None:
            raise Failure(LAYOUT, f"{row.link}: the definition has no [picture]", retry=False)
        page = await self._fetcher.page(row.link, {"Referer": row.page_url})
        if not self._site.owns(page.url):
            raise Rejection("off_site", detail=page.url)
        document = Document(page.url, page.body, page.charset)
        require_consent(page_refusal(page.signals, document, datetime.now(UTC)))
        found = picture(document, self._site, rule, self._site.definition.rights)
        self._require_unlisted(self._frontier.suppression.entry(found.image, page.url))
        go_on = origin(found.image) == origin(row.link)
        if not self._frontier.photo_located(row, found.image, page.url, found.rights, go_on):
            self.tally.settled += 1
            return None
        if go_on:
            return replace(row, url=found.image, page_url=page.url, rights=found.rights)
        self._wake([origin(found.image)])
        return None

    def _require_unlisted(self, entry: str | None) -> None:
        if entry is not None:
            raise Rejection(SUPPRESSED, detail=entry)

    async def _download(self, row: PhotoRow, url: str) -> None:
        if url in self._underway:
            # Another identity shows the same address: wait for its outcome instead of asking twice.
            self._frontier.release(row, time.time() + 0.2)
            return
        if self._frontier.copy_outcome(row):
            self.tally.settled += 1
            return
        self._underway.add(url)
        try:
            received = await self._receive(row, url)
        except BaseException:
            self._underway.discard(url)
            raise
        try:
            await self._store.add(received)
        except BaseException:
            received.temporary.unlink(missing_ok=True)
            raise

    async def _receive(self, row: PhotoRow, url: str) -> Received:
        headers = {"Referer": row.page_url, "Accept": "image/*", "Accept-Encoding": "identity"}
        async with self._fetcher.open(url, headers) as answer:
            answer.check_status()
            require_consent(signals_refusal(answer.signals, datetime.now(UTC)))
            if answer.length is not None and answer.length > self._max_bytes:
                why = Rejection(TOO_LARGE, answer.length, self._max_bytes)
                why.saved = answer.length
                raise why
            fetched_at = time.time()
            size, incoming = await self._read(answer)
            etag = answer.headers.get("ETag")
        try:
            await check_whole(incoming, size, self._store.in_thread)
            sha256 = incoming.close()
            self._require_unlisted(sha256 if sha256 in self._frontier.suppression.hashes else None)
        except BaseException:
            incoming.discard()
            raise
        photo = Stored(row.id, sha256, size.width, size.height, incoming.bytes, size.format, fetched_at,
                       etag, self._hosts.decision(url))  # fmt: skip
        return Received(photo, incoming.path, lambda: self._settle(url))

    def _settle(self, url: str) -> None:
        self._underway.discard(url)
        self.tally.settled += 1

    async def _read(self, answer: Answer) -> tuple[Size, Incoming]:
        """Read the body until it ends or is refused; nothing is written before the size is known."""
        reader = _Reader(self._store, self._bounds.min_res, self._max_bytes)
        try:
            async for piece in answer.pieces():
                self.tally.received += len(piece)
                reader.take(piece)
            return reader.end()
        except BaseException as error:
            reader.discard()
            if isinstance(error, Rejection):
                error.received = reader.received
                error.saved = max(0, (answer.length or 0) - reader.received)
            raise


class _Reader:
    """The body of one photo: probed first, then written."""

    def __init__(self, store: Store, min_res: int, max_bytes: int) -> None:
        self._store, self._min_res, self._max_bytes = store, min_res, max_bytes
        self._probe = Probe()
        self._size: Size | None = None
        self._incoming: Incoming | None = None
        self.received = 0

    def take(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._max_bytes:
            raise Rejection(TOO_LARGE, self.received, self._max_bytes)
        if self._incoming is not None:
            self._incoming.write(piece)
        else:
            self._begin(self._probe.feed(piece))

    def end(self) -> tuple[Size, Incoming]:
        if self._size is None:
            self._begin(self._probe.end())
        if self._size is None or self._incoming is None:
            raise RuntimeError("the probe ended without a size")
        return self._size, self._incoming

    def discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()

    def _begin(self, size: Size | None) -> None:
        if size is None:
            return
        require_size(size, self._min_res)
        self._size, self._incoming = size, self._store.incoming()
        self._incoming.write(bytes(self._probe.head))


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


def require_enough(found: Gallery, min_photos: int) -> None:
    """Refuse an identity that announces fewer than `min_photos`; without an announcement a single page is counted.

    Raises:
        Rejection: `too_few_photos` (value: announced number).
    """
    counted = len(found.photos) if found.photos and not found.further else None
    announced = found.announced if found.announced is not None else counted
    if announced is not None and announced < min_photos:
        raise Rejection(TOO_FEW, announced, min_photos)


def layout_message(site: str, count: int, detail: str) -> str:
    """Return the message of a LayoutError: what did not fit, and what to do."""
    pages = "a page does" if count == 1 else f"{count} pages do"
    return (
        f"{pages} not have the layout that the definition '{site}' knows: {detail}; compare the page with "
        f"the definition and write a new one (--site FILE.toml)"
    )


def _conditions(row: PageRow) -> Mapping[str, str]:
    conditions = {"If-None-Match": row.etag, "If-Modified-Since": row.modified}
    return {name: value for name, value in conditions.items() if value is not None}


def _validators(page: Page) -> tuple[str | None, str | None]:
    return page.headers.get("ETag"), page.headers.get("Last-Modified")

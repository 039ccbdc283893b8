"""What happens to one photo, from the claim to the state that ends it."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from .address import origin
from .extract import Document, picture
from .fetch import Fetcher
from .frontier import Frontier
from .hosts import Hosts
from .optout import page_refusal
from .outcome import LAYOUT, SUPPRESSED, Failure, Rejection
from .receive import PhotoLimits, Receiver, Tally, require_consent
from .rows import PhotoRow, Stored
from .site import Site
from .store import Received, Store
from .whole import check_whole

TWIN_S = 0.2  # a photo whose address is being fetched for another identity looks again after this time


class PhotoWork:
    """Finds the image of a photo, probes it, reads it and hands it to the store.

    Args:
        frontier: where outcomes are noted.
        fetcher: the network, for picture pages.
        receiver: reads photos.
        limits: what is too small and too large, also of what is stored already.
        hosts: the gate, for the words on robots.txt.
        store: where photos go.
        tally: counts what the run moves.
        site: the definition that reads picture pages; None where all image addresses are known.
        wake: is told hosts that have new work.
    """

    def __init__(
        self, frontier: Frontier, fetcher: Fetcher, receiver: Receiver, limits: PhotoLimits, hosts: Hosts,
        store: Store, tally: Tally, site: Site | None, wake: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._frontier, self._fetcher, self._hosts = frontier, fetcher, hosts
        self._receiver, self._limits = receiver, limits
        self._store, self._tally, self._site, self._wake = store, tally, site, wake
        self._underway: set[str] = set()

    async def run(self, row: PhotoRow) -> None:
        """Bring one claimed photo to its end, or to the host of its image.

        Raises:
            Failure, Postponed: the caller decides when to try again.
        """
        try:
            located = row if row.url is not None else await self._locate(row)
            if located is not None and located.url is not None:
                await self._download(located, located.url)
        except Rejection as why:
            self._frontier.photo_rejected(row, why)
            self._tally.settled += 1
            self._tally.saved += why.saved

    async def _locate(self, row: PhotoRow) -> PhotoRow | None:
        """Read the picture page; None where the image's own host goes on, or the identity has the image already."""
        rule = self._site.definition.picture if self._site else None
        if self._site is None or rule is None:
            raise Failure(LAYOUT, f"{row.link}: the definition has no [picture]", retry=False)
        page = await self._fetcher.page(row.link, {"Referer": row.page_url}, stay=self._site.owns)
        document = Document(page.url, page.body, page.charset)
        require_consent(page_refusal(page.signals, document, datetime.now(UTC)))
        found = picture(document, self._site, rule, self._site.definition.rights)
        self._require_unlisted(self._frontier.suppression.entry(found.image, page.url))
        go_on = origin(found.image) == origin(row.link)
        if not self._frontier.photo_located(row, found.image, page.url, found.rights, go_on):
            self._tally.settled += 1
            return None
        if go_on:
            return replace(row, url=found.image, page_url=page.url, rights=found.rights)
        self._wake(origin(found.image))
        return None

    def _require_unlisted(self, entry: str | None) -> None:
        if entry is not None:
            raise Rejection(SUPPRESSED, detail=entry)

    async def _download(self, row: PhotoRow, url: str) -> None:
        if url in self._underway:
            # Another identity shows the same address: wait for its outcome instead of asking twice.
            self._frontier.release(row, time.time() + TWIN_S)
            return
        if self._frontier.copy_outcome(row, self._limits.min_res, self._limits.max_bytes):
            self._tally.settled += 1
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
            self._underway.discard(url)
            received.incoming.discard()
            raise

    async def _receive(self, row: PhotoRow, url: str) -> Received:
        arrived = await self._receiver.receive(url, row.page_url)
        try:
            await check_whole(arrived.incoming, arrived.size, self._store.alone)
        except BaseException:
            arrived.incoming.discard()
            raise
        size = arrived.size
        photo = Stored(row.id, size.width, size.height, arrived.incoming.bytes, size.format, arrived.fetched_at,
                       arrived.etag, self._hosts.decision(url))  # fmt: skip
        return Received(row, photo, arrived.incoming, lambda stored: self._settle(url, stored))

    def _settle(self, url: str, stored: bool) -> None:
        self._underway.discard(url)
        self._tally.settled += 1
        self._tally.stored += stored

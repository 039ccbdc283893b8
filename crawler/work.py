"""Which row is next, and what follows when it could not be read this time."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from ..errors import LayoutError
from .address import origin
from .frontier import Frontier
from .hosts import Hosts
from .outcome import LAYOUT, Failure, Postponed
from .page_work import PageWork
from .photo_work import PhotoWork
from .politeness import backoff
from .receive import Tally
from .rows import PageRow, PhotoRow
from .schedule import Job
from .site import Site

LAYOUT_TRIES = 5  # pages of one kind that may fit no selector before the crawl stops, if none ever did
QUEUE_S = 30.0  # longest time that a claimed row waits for its turn, where the pace allows


@dataclass(frozen=True)
class Patience:
    """How often a run tries one address, the seconds of the first back-off, and jobs of one host at once."""

    tries: int
    backoff_s: float
    concurrency: int


class Work:
    """Turns claimed rows into jobs.

    Args:
        frontier: where every outcome is noted.
        hosts: the gate.
        photos: what is done to a photo.
        pages: what is done to a page, and its site; None where there are only photos.
        identities: most identities to accept; None: all.
        patience: tries and back-off.
        tally: counts what the run moves.
        wake_all: is told when pages made room for others.
    """

    def __init__(
        self, frontier: Frontier, hosts: Hosts, photos: PhotoWork, pages: tuple[PageWork, Site] | None,
        identities: int | None, patience: Patience, tally: Tally, wake_all: Callable[[], None],
    ) -> None:  # fmt: skip
        self._frontier, self._hosts, self._photos, self._pages = frontier, hosts, photos, pages
        self._identities, self._patience, self._tally, self._wake_all = identities, patience, tally, wake_all
        self._chance = random.Random()
        self._unfit: Counter[str] = Counter()
        self._claimed_at = 0.0

    def claim(self, host: str, limit: int) -> list[Job]:
        """Take up to `limit` photos of a host, then pages: a gallery is finished before the next one begins."""
        now = self._claimed_at = time.time()
        if self._hosts.resumes_in(host) > 0:
            # Claimed now they would only wait; one is enough to notice when the pause is over.
            limit = min(limit, 1)
        photos = self._frontier.claim_photos(host, now, limit)
        jobs = [self._job(photo, partial(self._photos.run, photo)) for photo in photos]
        if self._pages and len(jobs) < limit and self._pages[1].owns(f"{host}/"):
            pages = self._frontier.claim_pages(host, now, limit - len(jobs), self._identities)
            jobs += [self._job(page, partial(self._page, self._pages[0], page)) for page in pages]
        return jobs

    def slots(self, host: str) -> int:
        """Return how many jobs of a host may run at once: at a slow pace more would only wait for their turn."""
        return max(1, min(self._patience.concurrency, int(self._hosts.pace(host).rate * QUEUE_S)))

    def due(self, host: str) -> float | None:
        """Return when the next waiting row of a host is due (Unix time), of those that the last claim left.

        Not of those that wait now: a row that fell due since the claim would be in neither, and be left behind.
        """
        return self._frontier.next_due(host, self._claimed_at)

    async def _page(self, pages: PageWork, row: PageRow) -> None:
        try:
            await pages.run(row)
        finally:
            self._wake_all()

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
            self._tally.settled += isinstance(row, PhotoRow)

    def _layout(self, row: PageRow | PhotoRow, failure: Failure) -> None:
        kind = row.kind if isinstance(row, PageRow) else "picture"
        self._unfit[kind] += 1
        if self._unfit[kind] >= LAYOUT_TRIES and not self._frontier.matched(kind):
            self._frontier.failed(row, failure.reason, failure.detail)
            raise LayoutError(layout_message(self._frontier.site, self._unfit[kind], failure.detail))


def layout_message(site: str, count: int, detail: str) -> str:
    """Return the message of a LayoutError: what did not fit, and what to do."""
    pages = "a page does" if count == 1 else f"{count} pages do"
    return (
        f"{pages} not have the layout that the definition '{site}' knows: {detail}; compare the page with "
        f"`bolid sites check {site} --url PAGE` and write a new definition (--site FILE.toml)"
    )

"""Crawl a gallery site into a workspace: exact after a crash, polite, and no photo is read that is too small."""

import asyncio
import time
from typing import Annotated

from pydantic import Field

from .. import progress
from ..atomic import locked
from ..config import Config
from ..errors import LayoutError, PolicyError, SiteError
from ..workspace import Workspace
from . import restart
from .account import CrawlSummary, summarise
from .address import host_port, is_loopback, parse_host_port
from .definition import load_definition
from .fetch import Fetcher, Limits, user_agent
from .frontier import Bounds, Frontier
from .hosts import Hosts
from .outcome import LAYOUT, MAX_PHOTOS, PRIVATE, ROBOTS, TOO_FEW
from .schedule import Schedule
from .site import Site
from .store import Store, remove_leftovers
from .suppress import read_suppression
from .table import write_images_table
from .work import Patience, Tally, Work, layout_message

REPORT_S = 0.5


class CrawlOptions(Config):
    """What to crawl, which photos to keep, and how gently to ask.

    Sizes are in pixels (`min_res`: the short side) and bytes, times in seconds, `rate` in requests per second
    and host. `allow_private` lists HOST:PORT that may lie in a private network. `retry_failed` asks again for what
    was refused for good by a server or a page, `refresh` reads pages again where they changed.
    """

    start_url: str | None = None
    site: str = "theplace"
    identities: Annotated[int, Field(ge=1)] | None = None
    min_res: Annotated[int, Field(ge=1)] = 1000
    min_photos: Annotated[int, Field(ge=0)] = 100
    max_photos: Annotated[int, Field(ge=1)] = 500
    rate: Annotated[float, Field(gt=0, le=10_000)] = 2.0
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    contact: str | None = None
    allow_private: tuple[str, ...] = ()
    max_bytes: Annotated[int, Field(ge=1024)] = 64 * 2**20
    retry_failed: bool = False
    refresh: bool = False
    tries: Annotated[int, Field(ge=1, le=20)] = 4
    backoff_s: Annotated[float, Field(ge=0)] = 1.0
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    idle_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    total_timeout_s: Annotated[float, Field(gt=0)] = 300.0

    @property
    def bounds(self) -> Bounds:
        """The thresholds."""
        return Bounds(self.min_res, self.min_photos, self.max_photos, self.identities)


def crawl(workspace: Workspace, options: CrawlOptions) -> CrawlSummary:
    """Crawl until nothing is left to do in this run, then write `images.parquet`.

    A run continues where the last one ended, however it ended; a finished crawl makes no photo request.

    Raises:
        ConfigError: an option or the site definition is wrong.
        PolicyError: a live crawl without contact, a private address that is not allowed, robots.txt.
        WorkspaceError: another crawl runs in the workspace, or it cannot be written.
        SiteError: the start page cannot be read.
        LayoutError: pages fit no selector of the definition; what did fit is stored.
    """
    site = Site.bind(load_definition(options.site), options.start_url)
    allowed = frozenset(parse_host_port(text) for text in options.allow_private)
    check_policy(site, options, allowed)
    with locked(workspace.frontier.with_suffix(".lock"), f"the crawl of {workspace.root}"):
        begun, tally = time.monotonic(), Tally()
        frontier = Frontier(workspace.frontier, site.definition.name, site.source)
        try:
            asyncio.run(_crawl(workspace, options, site, allowed, frontier, tally))
            _require_start(site, frontier)
            _require_layout(site, frontier)
            seconds = time.monotonic() - begun
            return summarise(frontier.database, site.definition.name, site.source, tally.received, tally.saved, seconds)
        finally:
            # Also after Ctrl-C or a layout that fits no longer: the table shows what is stored.
            write_images_table(workspace)
            seconds = time.monotonic() - begun
            summary = summarise(
                frontier.database, site.definition.name, site.source, tally.received, tally.saved, seconds
            )
            frontier.close()
    _require_layout(site, summary)
    return summary


def check_policy(site: Site, options: CrawlOptions, allowed: frozenset[str]) -> None:
    """Refuse a crawl that names no contact or begins in a private network.

    Raises:
        PolicyError: see above.
    """
    user_agent(options.contact)
    if not is_loopback(site.start):
        if options.contact is None:
            raise PolicyError(
                f"a crawl of {site.start} needs a contact, so that its operator can reach you; "
                "add --contact with an e-mail address or a URL"
            )
    elif host_port(site.start) not in allowed:
        raise PolicyError(
            f"{site.start} is on this machine and private addresses are refused; "
            f"add --allow-private {host_port(site.start)}"
        )


async def _crawl(
    workspace: Workspace, options: CrawlOptions, site: Site, allowed: frozenset[str], frontier: Frontier, tally: Tally
) -> None:
    store = Store(workspace, frontier)
    _take_up(workspace, options, frontier, store)
    frontier.add_start(site.start, site.kind, site.slug(site.kind, site.start))
    hosts = Hosts(frontier, options.rate, options.patience_s, options.backoff_s)
    limits = Limits(options.idle_timeout_s, options.total_timeout_s)
    try:
        async with store, Fetcher(hosts, user_agent(options.contact), allowed, limits) as fetcher:
            hosts.fetcher = fetcher
            patience = Patience(options.tries, options.backoff_s)
            work = Work(site, frontier, fetcher, hosts, store, options.bounds, options.max_bytes, patience, tally)
            work.schedule = Schedule(work.claim, work.due, options.concurrency, options.patience_s)
            reporter = asyncio.create_task(_report(tally))
            try:
                await work.schedule.run(frontier.pending_hosts())
            finally:
                reporter.cancel()
    except BaseExceptionGroup as group:
        raise _first(group) from None
    finally:
        hosts.remember()
        frontier.release_all()


def _take_up(workspace: Workspace, options: CrawlOptions, frontier: Frontier, store: Store) -> None:
    """Go on from what an earlier run left, with the options and the suppress.txt of this one."""
    frontier.suppression = read_suppression(workspace.root)
    remove_leftovers(workspace.images)
    restart.recover(frontier, store.exists)
    restart.suppress(frontier, frontier.suppression, store.remove)
    restart.reconsider(frontier, options.bounds, options.max_bytes)
    if options.retry_failed:
        restart.ask_again(frontier)
    if options.refresh:
        restart.refresh(frontier)


async def _report(tally: Tally) -> None:
    shown = 0
    with progress.bar("crawl", None, "photos") as bar:
        while True:
            await asyncio.sleep(REPORT_S)
            note = f"{tally.received / 1e6:.1f} MB received, {tally.saved / 1e6:.1f} MB saved"
            bar.advance(tally.settled - shown, note)
            shown = tally.settled


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception of a group that is none itself: all tasks of a crawl end with the first."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _require_start(site: Site, frontier: Frontier) -> None:
    """Turn a start page that could not be read into an error of the command."""
    state, reason, detail, due = frontier.start_outcome(site.start)
    if state == "rejected" and reason in (ROBOTS, PRIVATE):
        raise PolicyError(f"{site.start}: {detail}")
    if state == "rejected" and reason not in (TOO_FEW, MAX_PHOTOS):
        raise SiteError(f"the start page {site.start} was refused: {reason} {detail}; check the address")
    if state == "failed" and reason != LAYOUT:
        raise SiteError(
            f"the start page {site.start} could not be read: {reason} {detail}; check the address and the network, "
            "then run the same command again"
        )
    if state == "pending" and due > time.time():
        raise SiteError(
            f"the host of {site.start} asks to be left alone for longer than this run waits; "
            "run the same command again later"
        )


def _require_layout(site: Site, frontier: Frontier) -> None:
    """Raise a LayoutError where pages fitted no selector: what did fit is stored, but success it is not."""
    count, detail = frontier.unfit()
    if count:
        raise LayoutError(layout_message(site.definition.name, count, detail))

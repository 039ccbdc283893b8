"""Crawl a gallery site into a workspace: exact after a crash, polite, and no photo is read that is too small."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..atomic import locked
from ..config import Config
from ..errors import DataError, LayoutError, PolicyError, SiteError
from ..workspace import Workspace
from . import restart
from .account import CrawlSummary, summarise
from .address import canonical, host_port, is_loopback, parse_host_port
from .definition import load_definition
from .fetch import Fetcher, Limits, user_agent
from .frontier import Frontier
from .hosts import Hosts
from .outcome import LAYOUT, MAX_PHOTOS, NO_CONTACT, PRIVATE, ROBOTS, TOO_FEW
from .page_work import PageWork
from .photo_work import PhotoWork
from .receive import PhotoLimits, Receiver, Tally
from .report import report
from .rows import Bounds
from .schedule import Schedule
from .site import Site
from .store import Store, remove_leftovers
from .suppress import read_suppression
from .table import write_images_table
from .url_list import list_digest, read_list
from .work import Patience, Work, layout_message


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
    allowed = _allowed(options)
    require_permission(site.start, options.contact, allowed)
    with _frontier(workspace, site.definition.name, site.source) as frontier:
        summary = _run(workspace, options, frontier, allowed, site)
        _require_start(site, frontier)
        _require_layout(site, frontier)
        return summary


def crawl_urls(
    workspace: Workspace, options: CrawlOptions, file: Path, url_col: str = "url", identity_col: str | None = None
) -> CrawlSummary:
    """Fetch the photos of a list of addresses with everything that `crawl` does for those of a site.

    The list says what is fetched: `start_url`, `site`, `identities`, `min_photos` and `max_photos` have no effect.

    Args:
        workspace: where photos go.
        options: see `CrawlOptions`.
        file: .parquet, .csv with a header, or .txt with an address a line.
        url_col: column of the addresses.
        identity_col: column of the identities; None: all belong to one, called like the file.

    Raises:
        ConfigError, DataError: the list cannot be read or is empty.
        PolicyError: the list has live addresses and no contact is given.
        WorkspaceError: another crawl runs in the workspace, or it cannot be written.
    """
    allowed = _allowed(options)
    name = f"list-{file.stem}"
    digest = list_digest(file, url_col, identity_col)
    with _frontier(workspace, name, name) as frontier:
        frontier.suppression = read_suppression(workspace.root)
        if not frontier.knows_list(digest):
            first = 0
            for lines in read_list(file, url_col, identity_col):
                _require_contact((canonical("", line.url) for line in lines), options.contact)
                frontier.add_listed(lines, first)
                first += len(lines)
            if not first:
                raise DataError(f"{file} holds no address; check the file and --url-col {url_col}")
            frontier.list_added(digest)
        return _run(workspace, options, frontier, allowed, None)


def _allowed(options: CrawlOptions) -> frozenset[str]:
    user_agent(options.contact)  # says now what is wrong with it
    return frozenset(parse_host_port(text) for text in options.allow_private)


def require_permission(start: str, contact: str | None, allowed: frozenset[str]) -> None:
    """Refuse a crawl that names no contact or begins in a private network.

    Raises:
        PolicyError: see above.
    """
    if not is_loopback(start):
        if contact is None:
            raise PolicyError(
                f"a crawl of {start} needs a contact, so that its operator can reach you; "
                "add --contact with an e-mail address or a URL"
            )
    elif host_port(start) not in allowed:
        raise PolicyError(
            f"{start} is on this machine and private addresses are refused; add --allow-private {host_port(start)}"
        )


def _require_contact(urls: Iterable[str | None], contact: str | None) -> None:
    for url in urls if contact is None else ():
        if url is not None and not is_loopback(url):
            raise PolicyError(
                f"there are live addresses to be asked ({url}), whose operators must be able to reach you; "
                "add --contact with an e-mail address or a URL"
            )


@contextlib.contextmanager
def _frontier(workspace: Workspace, site: str, source: str) -> Iterator[Frontier]:
    with locked(workspace.frontier.with_suffix(".lock"), f"the crawl of {workspace.root}"):
        frontier = Frontier(workspace.frontier, site, source)
        try:
            yield frontier
        finally:
            frontier.close()


def _run(
    workspace: Workspace, options: CrawlOptions, frontier: Frontier, allowed: frozenset[str], site: Site | None
) -> CrawlSummary:
    begun, tally = time.monotonic(), Tally()
    try:
        asyncio.run(_crawl(workspace, options, frontier, allowed, site, tally))
    finally:
        # Also after Ctrl-C or a layout that fits no longer: the table shows what is stored.
        write_images_table(workspace)
    return summarise(frontier, tally.received, tally.saved, time.monotonic() - begun)


async def _crawl(
    workspace: Workspace, options: CrawlOptions, frontier: Frontier, allowed: frozenset[str], site: Site | None,
    tally: Tally,
) -> None:  # fmt: skip
    store = Store(workspace, frontier)
    _take_up(workspace, options, frontier, store)
    _require_contact(frontier.pending_hosts(), options.contact)
    if site is not None:
        frontier.add_start(site.start, site.kind, site.slug(site.kind, site.start))
    hosts = Hosts(frontier, options.rate, options.patience_s, options.backoff_s)
    limits = Limits(options.idle_timeout_s, options.total_timeout_s)
    reporter = asyncio.create_task(report(frontier, tally))
    try:
        async with store, Fetcher(hosts, options.contact, allowed, limits) as fetcher:
            hosts.fetcher = fetcher
            await _schedule(options, frontier, hosts, fetcher, store, site, tally).run(frontier.pending_hosts())
    except BaseExceptionGroup as group:
        raise _first(group) from None
    finally:
        reporter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporter
        hosts.remember()
        frontier.release_all()


def _schedule(
    options: CrawlOptions, frontier: Frontier, hosts: Hosts, fetcher: Fetcher, store: Store, site: Site | None,
    tally: Tally,
) -> Schedule:  # fmt: skip
    """Wire the parts: what is claimed, what is done to it, and who is woken by it."""
    schedule = Schedule(options.patience_s)
    limits = PhotoLimits(options.min_res, options.max_bytes)
    receiver = Receiver(fetcher, store, limits, tally)
    photos = PhotoWork(frontier, fetcher, receiver, limits, hosts, store, tally, site, schedule.wake)
    pages = (PageWork(site, frontier, fetcher, options.bounds, schedule.wake), site) if site else None
    patience = Patience(options.tries, options.backoff_s, options.concurrency)
    work = Work(frontier, hosts, photos, pages, options.identities, patience, tally, schedule.wake_all)
    schedule.claim, schedule.due, schedule.slots = work.claim, work.due, work.slots
    return schedule


def _take_up(workspace: Workspace, options: CrawlOptions, frontier: Frontier, store: Store) -> None:
    """Go on from what an earlier run left, with the options and the suppress.txt of this one."""
    frontier.suppression = read_suppression(workspace.root)
    remove_leftovers(workspace)
    restart.recover(frontier, store.exists)
    restart.suppress(frontier, frontier.suppression, store.remove)
    restart.reconsider(frontier, options.bounds, options.max_bytes)
    if options.retry_failed:
        restart.ask_again(frontier)
    if options.refresh:
        restart.refresh(frontier)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception of a group that is none itself: all tasks of a crawl end with the first."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _require_start(site: Site, frontier: Frontier) -> None:
    """Turn a start page that could not be read into an error of the command."""
    state, reason, detail, due = frontier.start_outcome(site.start)
    if state == "rejected" and reason in (ROBOTS, PRIVATE, NO_CONTACT):
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

"""What is known of each host while a crawl runs: robots.txt, tdmrep.json, pace, pauses; kept in the frontier.

This is the gate before every request. The pace and the pauses of a host outlive the process, so that a host
that asked for less is not surprised by a restart.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from .address import origin
from .fetch import Fetcher
from .frontier import Frontier
from .outcome import ROBOTS, SUPPRESSED, Failure, Postponed, Rejection
from .politeness import Pace
from .robots import CACHE_S, MAX_BYTES, Robots
from .rows import HostRow, ReservationRow
from .tdmrep import PATH as TDMREP
from .tdmrep import Reservations

MAX_KNOWN = 1024  # hosts kept in memory: more than are worked for at once


@dataclass
class _Host:
    row: HostRow
    pace: Pace
    robots: Robots | None = None
    reservations: Reservations | None = None
    reserved_at: float = 0.0  # Unix time at which tdmrep.json was read
    trouble: Failure | None = None  # why robots.txt or tdmrep.json could not be asked for
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Hosts:
    """The gate of a crawl (see `fetch.Gate`).

    Args:
        frontier: where hosts are remembered.
        rate: requests per second and host when all is well.
        patience_s: longest pause in seconds that this run waits for.
        again_s: seconds after which an unreachable robots.txt or tdmrep.json is asked for again.
    """

    def __init__(self, frontier: Frontier, rate: float, patience_s: float, again_s: float) -> None:
        self._frontier, self._rate, self._patience_s, self._again_s = frontier, rate, patience_s, again_s
        self._known: OrderedDict[str, _Host] = OrderedDict()
        self.fetcher: Fetcher | None = None

    async def admit(self, url: str) -> None:
        """Wait until `url` may be asked for.

        Raises:
            Rejection: robots.txt refuses it (`robots`), or suppress.txt names it (`suppressed`; a redirect led there).
            Failure: robots.txt or tdmrep.json cannot be read now (`robots_unavailable`, `tdmrep_unavailable`).
            Postponed: the host rests for longer than this run waits.
        """
        entry = self._frontier.suppression.entry(url)
        if entry is not None:
            raise Rejection(SUPPRESSED, detail=entry)
        name = origin(url)
        robots = await self.robots(name)
        host = self._host(name)
        if not robots.allows(url):
            if robots.unavailable:
                raise _unavailable(host, "robots", f"{name}/robots.txt", robots.status)
            raise Rejection(ROBOTS, detail=f"refused by {name}/robots.txt")
        reservations = await self._reservations(host, robots)
        if reservations.unavailable:
            raise _unavailable(host, "tdmrep", name + TDMREP, reservations.status)
        await self._turn(host)

    def reserved(self, url: str) -> bool:
        """Say whether the tdmrep.json of a host reserves an address that was admitted."""
        host = self._host(origin(url))
        if host.reservations is None:  # a slow answer: many other hosts were asked since
            self._recall(host)
        return host.reservations is not None and host.reservations.reserves(url)

    def answered(self, url: str, status: int, asked_at: float, pause: float | None) -> None:
        """Take the status of an answer into account: slower after 429 and 503, slowly faster after good ones."""
        host = self._host(origin(url))
        now = time.monotonic()
        if status in (429, 503):
            host.pace.overloaded(asked_at, now, pause)
            host.row = replace(host.row, rate=host.pace.rate)
            self._rest(host, max(0.0, host.pace.resume_at - now))
        elif status < 400:
            host.pace.good()

    def _rest(self, host: _Host, seconds: float) -> None:
        host.row = replace(host.row, resume_at=time.time() + seconds)
        self._frontier.hosts.remember(host.row)

    def resumes_in(self, host: str) -> float:
        """Return the seconds for which a host still rests."""
        return max(0.0, self._host(host).pace.resume_at - time.monotonic())

    def pace(self, host: str) -> Pace:
        """Return the pace of a host (scheme, name, port), as an earlier run left it."""
        return self._host(host).pace

    def decision(self, url: str) -> str:
        """Return the words for the column `robots` of an address that was admitted."""
        host = self._host(origin(url))
        if host.robots is None and host.row.robots_status is not None:
            self._adopt(host, Robots(host.row.robots_status, host.row.robots_body))
        return host.robots.decision if host.robots else ""

    def remember(self) -> None:
        """Keep the rates of all hosts for the next run."""
        for host in self._known.values():
            self._keep(host)

    def _keep(self, host: _Host) -> None:
        slowed = host.pace.rate if host.pace.rate < host.pace.nominal else None
        if slowed != host.row.rate:
            host.row = replace(host.row, rate=slowed)
            self._frontier.hosts.remember(host.row)

    async def robots(self, host: str) -> Robots:
        """Return the robots.txt of a host, at most a day old."""
        known = self._host(host)
        async with known.asking:
            age = abs(time.time() - known.row.robots_at)
            if known.robots is None and known.row.robots_status is not None and age < CACHE_S:
                self._adopt(known, Robots(known.row.robots_status, known.row.robots_body))
            if known.robots is None or age >= (self._again_s if known.robots.unavailable else CACHE_S):
                robots = Robots(*await self._read(known, "/robots.txt"))
                known.row = replace(
                    known.row, robots_status=robots.status, robots_body=robots.body, robots_at=time.time()
                )
                self._frontier.hosts.remember(known.row)
                self._adopt(known, robots)
                return robots
            return known.robots

    async def _reservations(self, known: _Host, robots: Robots) -> Reservations:
        """Return the tdmrep.json of a host, at most a day old; none where robots.txt refuses the file itself."""
        name = known.row.host
        async with known.asking:
            if known.reservations is None:
                self._recall(known)
            found = known.reservations
            if found is None or abs(time.time() - known.reserved_at) >= (
                self._again_s if found.unavailable else CACHE_S
            ):
                status, body = await self._read(known, TDMREP) if robots.allows(name + TDMREP) else (404, b"")
                found = known.reservations = Reservations(status, body)
                known.reserved_at = time.time()
                self._frontier.hosts.remember_reservations(ReservationRow(name, status, body, known.reserved_at))
            return found

    def _recall(self, known: _Host) -> None:
        row = self._frontier.hosts.reservations(known.row.host)
        if row is not None:
            known.reservations, known.reserved_at = Reservations(row.status, row.body), row.read_at

    async def _read(self, known: _Host, path: str) -> tuple[int, bytes]:
        """Return status and first bytes of a file that speaks for a whole host; status 0 where it was not reached."""
        if self.fetcher is None:
            raise RuntimeError("the gate has no fetcher yet")
        await self._turn(known)
        try:
            async with self.fetcher.open(known.row.host + path, {}, admit=False) as answer:
                return answer.status, await answer.prefix(MAX_BYTES) if answer.status == 200 else b""
        except Failure as failure:
            known.trouble = failure
            return 0, b""
        except Rejection as why:
            # Five redirects or a redirect to nowhere count as a missing file (RFC 9309, 2.3.1.2).
            if why.reason in ("too_many_redirects", "bad_redirect"):
                return 404, b""
            raise

    def _adopt(self, known: _Host, robots: Robots) -> None:
        known.robots = robots
        if robots.delay is not None:
            known.pace.limit(robots.delay)

    async def _turn(self, host: _Host) -> None:
        # A chosen rate of one request in an hour is waited for; a Crawl-delay of a day is a pause like any other.
        patience = max(self._patience_s, 2 / self._rate)
        while True:
            now = time.monotonic()
            wait = host.pace.wait(now)
            if host.pace.resume_at - now > self._patience_s or wait > patience:
                host.pace.resume_at = now + wait
                self._rest(host, wait)
                raise Postponed(host.row.host)
            await asyncio.sleep(host.pace.reserve(time.monotonic()))
            if host.pace.resume_at <= time.monotonic():
                return

    def _host(self, name: str) -> _Host:
        if name in self._known:
            self._known.move_to_end(name)
        else:
            if len(self._known) >= MAX_KNOWN:
                self._keep(self._known.popitem(last=False)[1])
            row = self._frontier.hosts.row(name)
            rests = max(0.0, row.resume_at - time.time())
            self._known[name] = _Host(row, Pace(self._rate, row.rate, time.monotonic() + rests if rests else 0.0))
        return self._known[name]


def _unavailable(host: _Host, file: str, url: str, status: int) -> Failure:
    """Return why nothing may be asked of a host now: a file that says what may be asked could not be read."""
    if host.trouble is not None and status == 0:
        return Failure(host.trouble.reason, host.trouble.detail, retry=host.trouble.retry)
    return Failure(f"{file}_unavailable", f"{url} answered {status or 'nothing'}")

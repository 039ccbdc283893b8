"""Which work runs when: a lane for each host, so that a host that rests or is slow holds up no other."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

MAX_ACTIVE = 256  # jobs of all hosts together

Job = Callable[[], Awaitable[None]]


@dataclass
class _Lane:
    host: str
    active: int = 0
    resting: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Schedule:
    """Runs the jobs of all hosts until none is left.

    Args:
        claim: takes up to n jobs of a host that may run now.
        due: Unix time at which a waiting job of the host is due; None where none waits.
        concurrency: jobs of one host at once.
        patience_s: a job that is due later than this is left for the next run.
    """

    def __init__(
        self,
        claim: Callable[[str, int], Sequence[Job]],
        due: Callable[[str], float | None],
        concurrency: int,
        patience_s: float,
    ) -> None:
        self._claim, self._due = claim, due
        self._concurrency, self._patience_s = concurrency, patience_s
        self._lanes: dict[str, _Lane] = {}
        self._active = 0
        self._group: asyncio.TaskGroup | None = None
        self._finished = asyncio.Event()

    def wake(self, host: str) -> None:
        """Say that there may be new work for a host."""
        if self._group is None:
            raise RuntimeError("the schedule does not run")
        if host not in self._lanes:
            self._lanes[host] = _Lane(host)
            self._group.create_task(self._until_finished(self._drive(self._lanes[host])))
        self._lanes[host].resting = False
        self._lanes[host].woken.set()

    def wake_all(self) -> None:
        """Say that there may be new work for any host that has a lane."""
        for lane in self._lanes.values():
            lane.resting = False
            lane.woken.set()

    async def run(self, hosts: Sequence[str]) -> None:
        """Work until nothing can be done any more in this run."""
        if not hosts:
            return
        async with asyncio.TaskGroup() as group:
            self._group = group
            for host in hosts:
                self.wake(host)

    async def _until_finished(self, work: Awaitable[None]) -> None:
        task, end = asyncio.ensure_future(work), asyncio.ensure_future(self._finished.wait())
        try:
            await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, end):
                each.cancel()
            await asyncio.gather(task, end, return_exceptions=True)

    async def _drive(self, lane: _Lane) -> None:
        while True:
            lane.woken.clear()
            free = min(self._concurrency - lane.active, MAX_ACTIVE - self._active)
            jobs = self._claim(lane.host, free) if free > 0 else ()
            for job in jobs:
                self._begin(lane, job)
            wait = None if free <= 0 or jobs else self._wait(lane)
            lane.resting = wait is None and not jobs
            self._settle()
            await _woken(lane.woken, wait)

    def _wait(self, lane: _Lane) -> float | None:
        due = self._due(lane.host)
        wait = None if due is None else max(0.0, due - time.time())
        return wait if wait is not None and wait <= self._patience_s else None

    def _begin(self, lane: _Lane, job: Job) -> None:
        if self._group is None:
            raise RuntimeError("the schedule does not run")
        lane.active += 1
        self._active += 1
        self._group.create_task(self._work(lane, job))

    async def _work(self, lane: _Lane, job: Job) -> None:
        full = self._active >= MAX_ACTIVE
        try:
            await job()
        finally:
            lane.active -= 1
            self._active -= 1
            lane.resting = False
            lane.woken.set()
            if full:
                self.wake_all()

    def _settle(self) -> None:
        if self._active == 0 and all(lane.resting for lane in self._lanes.values()):
            self._finished.set()


async def _woken(event: asyncio.Event, timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass

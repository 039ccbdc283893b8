"""Which work runs when: a lane for each host, so that a host that rests or is slow holds up no other."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

MAX_ACTIVE = 256  # jobs of all hosts together
MAX_LANES = 256  # hosts looked after at once; the others wait until a lane has nothing to do

Job = Callable[[], Awaitable[None]]


@dataclass
class _Lane:
    host: str
    active: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Schedule:
    """Runs the jobs of all hosts until none is left.

    A lane ends when its host has nothing to do; `wake` opens it again.

    Args:
        patience_s: a job that is due later than this is left for the next run.

    Set before `run`: `claim` takes up to n jobs of a host that may run now; `due` is the Unix time at which a
    waiting job of the host is due, None where none waits; `slots` is the number of its jobs that may run at once.
    """

    claim: Callable[[str, int], Sequence[Job]]
    due: Callable[[str], float | None]
    slots: Callable[[str], int]

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._lanes: dict[str, _Lane] = {}
        self._waiting: dict[str, None] = {}  # hosts without a lane, in the order in which they came
        self._ended: set[str] = set()
        self._active = 0
        self._group: asyncio.TaskGroup | None = None

    def wake(self, host: str) -> None:
        """Say that there may be new work for a host."""
        if host in self._lanes:
            self._lanes[host].woken.set()
        else:
            self._waiting[host] = None
            self._open()

    def wake_all(self) -> None:
        """Say that there may be new work for every host that was worked for."""
        for lane in self._lanes.values():
            lane.woken.set()
        self._waiting.update(dict.fromkeys(self._ended))
        self._ended.clear()
        self._open()

    async def run(self, hosts: Iterable[str]) -> None:
        """Work until nothing can be done any more in this run."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for host in hosts:
                self.wake(host)

    def _open(self) -> None:
        while self._group is not None and self._waiting and len(self._lanes) < MAX_LANES:
            host = next(iter(self._waiting))
            del self._waiting[host]
            self._lanes[host] = _Lane(host)
            self._group.create_task(self._drive(self._lanes[host]))

    async def _drive(self, lane: _Lane) -> None:
        while True:
            lane.woken.clear()
            free = min(self.slots(lane.host) - lane.active, MAX_ACTIVE - self._active)
            jobs = self.claim(lane.host, free) if free > 0 else ()
            for job in jobs:
                self._begin(lane, job)
            # Also beside new jobs: a row that is due soon does not wait for one of them to end.
            wait = self._wait(lane) if len(jobs) < free else None
            if free > 0 and not jobs and wait is None and lane.active == 0:
                break
            await _woken(lane.woken, wait)
        del self._lanes[lane.host]
        self._ended.add(lane.host)
        self._open()

    def _wait(self, lane: _Lane) -> float | None:
        due = self.due(lane.host)
        wait = None if due is None else max(0.0, due - time.time())
        return wait if wait is not None and wait <= self._patience_s else None

    def _begin(self, lane: _Lane, job: Job) -> None:
        if self._group is None:
            raise RuntimeError("the schedule does not run")
        lane.active += 1
        self._active += 1
        self._group.create_task(self._work(lane, job))

    async def _work(self, lane: _Lane, job: Job) -> None:
        try:
            await job()
        finally:
            full = self._active >= MAX_ACTIVE
            lane.active -= 1
            self._active -= 1
            for each in self._lanes.values() if full else (lane,):
                each.woken.set()


async def _woken(event: asyncio.Event, timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass

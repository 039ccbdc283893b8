"""Which job runs when: lanes of hosts, due times, and what happens beside a slow job."""

import asyncio
import time

from bolid.crawler.schedule import Schedule


def test_a_row_that_is_due_does_not_wait_for_a_slow_job() -> None:
    """A job is taken while another row waits for its time: that row runs while the job is still under way."""
    order: list[str] = []
    ended = asyncio.Event()
    due = [time.time() + 0.05]
    rows = ["slow"]

    async def slow() -> None:
        await ended.wait()
        order.append("slow")

    async def late() -> None:
        order.append("late")
        ended.set()

    def claim(host: str, limit: int):
        if rows:
            rows.clear()
            return [slow]
        if due and due[0] <= time.time():
            due.clear()
            return [late]
        return []

    schedule = Schedule(patience_s=60.0)
    schedule.claim, schedule.slots = claim, lambda host: 4
    schedule.due = lambda host: due[0] if due else None

    async def run() -> None:
        async with asyncio.timeout(20):
            await schedule.run(["http://site.example"])

    asyncio.run(run())
    assert order == ["late", "slow"]


def test_a_row_that_is_due_too_late_is_left_for_the_next_run() -> None:
    schedule = Schedule(patience_s=60.0)
    schedule.claim, schedule.slots = lambda host, limit: [], lambda host: 4
    schedule.due = lambda host: time.time() + 3600
    asyncio.run(asyncio.wait_for(schedule.run(["http://site.example"]), 20))

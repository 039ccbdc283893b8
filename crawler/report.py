"""What a running crawl shows: a line for each identity in flight, and one for all photos with speeds and the end."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from .. import progress
from .frontier import Frontier
from .receive import Tally

INTERVAL_S = 1.0
WINDOW = 10  # intervals over which speeds are taken
SHOWN = 12  # identities that have a line


@dataclass(frozen=True)
class Sample:
    """The counters of a run at one time (s)."""

    at: float
    photos: int
    bytes: int


@dataclass(frozen=True)
class Speed:
    """What a crawl moves now: photos/s, MB/s, MB not asked for so far, seconds to the end of what is known."""

    photos_per_s: float
    mb_per_s: float
    mb_saved: float
    eta_s: float | None

    @property
    def words(self) -> str:
        """The same for people."""
        end = "" if self.eta_s is None else f", ETA {clock(self.eta_s)}"
        speed = f"{self.photos_per_s:.1f} photos/s, {self.mb_per_s:.1f} MB/s"
        return f"{speed}, {self.mb_saved:.1f} MB saved{end}"


async def report(frontier: Frontier, tally: Tally) -> None:
    """Show the progress of a crawl until the task is cancelled."""
    samples = deque([Sample(time.monotonic(), 0, 0)], maxlen=WINDOW)
    begun, added = frontier.open_photos(), frontier.added
    with progress.lines("photos") as shown:

        def show() -> None:
            total = begun + frontier.added - added
            samples.append(Sample(time.monotonic(), tally.settled, tally.received))
            now = speed(samples[0], samples[-1], total - tally.settled, tally.saved)
            people = [progress.Line(slug, done, of) for slug, done, of in frontier.under_way(SHOWN)]
            whole = progress.Line("crawl", tally.settled, total, now.words)
            shown.show(whole, people, **{name: _rounded(value) for name, value in vars(now).items()})

        try:
            while True:
                await asyncio.sleep(INTERVAL_S)
                show()
        finally:
            show()  # the last photos came after the last look


def speed(first: Sample, last: Sample, left: int, saved: int) -> Speed:
    """Return the speeds between two samples.

    Args:
        first: the earlier sample.
        last: the later one.
        left: photos that are not settled yet.
        saved: bytes that were never asked for.
    """
    span = max(last.at - first.at, 1e-9)
    photos = (last.photos - first.photos) / span
    end = left / photos if photos > 0 and left > 0 else None
    return Speed(photos, (last.bytes - first.bytes) / span / 1e6, saved / 1e6, end)


def clock(seconds: float) -> str:
    """Return a span as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

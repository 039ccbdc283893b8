"""What a running crawl shows: one bar for all photos, with speeds and the identities that are being fetched."""

import asyncio
import time
from collections import deque

from .. import progress
from .frontier import Frontier
from .receive import Tally

INTERVAL_S = 1.0
WINDOW = 10  # intervals over which speeds are taken
SHOWN = 3  # identities named


async def report(frontier: Frontier, tally: Tally) -> None:
    """Show the progress of a crawl until the task is cancelled."""
    samples: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)], maxlen=WINDOW)
    shown = 0
    with progress.bar("crawl", None, "photos") as bar:
        try:
            while True:
                await asyncio.sleep(INTERVAL_S)
                samples.append((time.monotonic(), tally.settled, tally.received))
                bar.total(tally.settled + frontier.open_photos())
                bar.advance(tally.settled - shown, note(samples, tally.saved, frontier.under_way(SHOWN)))
                shown = tally.settled
        finally:
            # The last photos came after the last look.
            bar.advance(tally.settled - shown)


def note(samples: "deque[tuple[float, int, int]]", saved: int, identities: list[tuple[str, int, int]]) -> str:
    """Return the words beside the bar.

    Args:
        samples: (time in s, photos settled, bytes received), oldest first, at least one.
        saved: bytes that were never asked for.
        identities: (slug, photos settled, photos offered) of those under way.
    """
    (begin, photos, received), (end, photos_now, received_now) = samples[0], samples[-1]
    span = max(end - begin, 1e-9)
    speed = f"{(photos_now - photos) / span:.1f} photos/s, {(received_now - received) / span / 1e6:.1f} MB/s"
    people = ", ".join(f"{slug} {settled}/{offered}" for slug, settled, offered in identities)
    return f"{speed}, {saved / 1e6:.1f} MB saved" + (f"; {people}" if people else "")

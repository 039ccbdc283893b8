"""How often a host is asked: pace, Retry-After, back-off.

The pace of a host is a token bucket in its virtual-scheduling form (the generic cell rate algorithm, ITU-T
I.371): one number, the time at which the next request is due. All functions take the time as an argument.
"""

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BURST_S = 0.1  # requests of this span may go at once: the clock of an event loop is no finer at high rates
SLOWEST = 1 / 64  # of the nominal rate
RECOVERY = 1.02  # factor of the rate for each good answer
MAX_PAUSE_S = 24 * 3600.0
MAX_BACKOFF_S = 60.0


class Pace:
    """The rate of one host: halved when the host says that it is too much, slowly back after good answers.

    Args:
        nominal: requests per second when all is well.
        rate: current rate, where an earlier run was asked to slow down.
        resume_at: no request before this time (same clock as `now` everywhere).
    """

    def __init__(self, nominal: float, rate: float | None = None, resume_at: float = 0.0) -> None:
        self.nominal = nominal
        self.rate = min(rate or nominal, nominal)
        self.resume_at = resume_at
        self._due = 0.0
        self._slowed_at = -1.0

    def limit(self, delay: float) -> None:
        """Honour a Crawl-delay of `delay` seconds, also after the request that brought it."""
        before = self.rate
        self.nominal = min(self.nominal, 1 / delay)
        self.rate = min(self.rate, self.nominal)
        if self._due:
            self._due += 1 / self.rate - 1 / before

    def reserve(self, now: float) -> float:
        """Take the next place in the schedule and return the seconds to wait for it."""
        begin = self._next(now)
        self._due = begin + 1 / self.rate
        return max(0.0, begin - now)

    def wait(self, now: float) -> float:
        """Return the seconds that `reserve` would return, and take no place."""
        return max(0.0, self._next(now) - now)

    def _next(self, now: float) -> float:
        burst = min(BURST_S, max(0.0, BURST_S - 1 / self.rate))
        return max(self._due, now - burst, self.resume_at)

    def good(self) -> None:
        """Note a good answer."""
        self.rate = min(self.nominal, self.rate * RECOVERY)

    def overloaded(self, asked_at: float, now: float, pause: float | None) -> None:
        """Note that the host answered 429 or 503 to a request of the time `asked_at`.

        The rate is halved once for all requests that were under way together.
        """
        if asked_at > self._slowed_at:
            self.rate = max(self.nominal * SLOWEST, self.rate / 2)
            self._slowed_at = now
        self.resume_at = max(self.resume_at, now + (pause if pause is not None else 1 / self.rate))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3), at most a day.

    Args:
        value: the header: seconds or an HTTP date; a date in the past means 0.
        now: the time, with its zone.

    Returns:
        None where the header is missing or not understood.
    """
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), MAX_PAUSE_S)
    date = http_date(value)
    return None if date is None else min(max(0.0, (date - now).total_seconds()), MAX_PAUSE_S)


def http_date(text: str) -> datetime | None:
    """Return the time of a date in a header, with its zone (UTC where it names none); None if it is not understood."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year of twenty digits overflows
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def backoff(tries: int, base: float, chance: random.Random) -> float:
    """Return the seconds to wait after `tries` failures: doubling from `base`, ± 50 %, at most a minute."""
    return float(min(base * 2 ** max(0, tries - 1), MAX_BACKOFF_S) * chance.uniform(0.5, 1.5))

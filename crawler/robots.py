"""robots.txt as RFC 9309 reads it: what may be asked of a host, and how often.

4xx: no file, everything is allowed. 5xx, 429 and an unreachable host: nothing is allowed, for now.
"""

import re
from dataclasses import dataclass, field

from protego import Protego

TOKEN = "bolid"
MAX_BYTES = 500 * 1024
CACHE_S = 24 * 3600.0


@dataclass(frozen=True)
class Robots:
    """The rules of one host.

    Args:
        status: HTTP status of /robots.txt; 0 where the host could not be reached.
        body: its bytes; only the first 500 KiB are read (RFC 9309, 2.5).
    """

    status: int
    body: bytes = b""
    _rules: Protego | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if 200 <= self.status < 300:
            # utf-8-sig: a byte order mark would hide the first line from the parser.
            text = self.body[:MAX_BYTES].decode("utf-8-sig", "replace")
            object.__setattr__(self, "_rules", Protego.parse("\n".join(map(_by_token, text.splitlines()))))

    @property
    def unavailable(self) -> bool:
        """Say whether the host could not say what it allows (RFC 9309, 2.3.1.4): all is refused until it can."""
        return unavailable(self.status)

    def allows(self, url: str) -> bool:
        """Say whether `url` may be asked for."""
        if self._rules is not None:
            return bool(self._rules.can_fetch(url, TOKEN))
        return not self.unavailable

    @property
    def delay(self) -> float | None:
        """Seconds between requests that the host asks for; None where it does not say."""
        delay = self._rules.crawl_delay(TOKEN) if self._rules is not None else None
        return float(delay) if delay is not None and 0 < float(delay) < float("inf") else None

    @property
    def decision(self) -> str:
        """Words for the column `robots` of an address that is allowed."""
        return "allowed by robots.txt" if self._rules is not None else f"allowed: no robots.txt ({self.status})"


def _by_token(line: str) -> str:
    """Return a line with the agent it names as its bare product token (RFC 9309, 2.2.1): 'bolid/1.0 (+x)' is bolid.

    Protego takes any part of a name for the name, and a name with a version for another one.
    """
    found = re.match(r"(\s*user[- ]?agent\s*:?)([^#]*)", line, re.IGNORECASE)
    if not found:
        return line
    name = found[2].strip()
    token = re.match("[a-z_-]*", name.lstrip("*").lower())
    agent = token[0] if token and token[0] else name[:1]
    return f"{found[1]} {agent if agent in ('*', TOKEN) else 'another-crawler'}"


def unavailable(status: int) -> bool:
    """Say whether a status (0: not reached) tells nothing of what a host wants, as 404 would."""
    return status == 0 or status == 429 or status >= 500

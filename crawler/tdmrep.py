"""/.well-known/tdmrep.json: what a host reserves from text and data mining (W3C TDM Reservation Protocol).

The file is a list of rules: a `location` in the pattern language of robots.txt, and `tdm-reservation` 1 or 0. Of
several rules that fit, "the most specific match is the first in sequence" (6.2 of the report of 2024): a reader may
take the first or the longest. In doubt the answer is no: if either reserves, the address is reserved. A header
`tdm-reservation` of an answer overrules the file. No file means that nothing is reserved; a host that cannot say
(5xx, 429, unreachable) is asked for nothing until it can, as with robots.txt.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from yarl import URL

from .robots import MAX_BYTES, unavailable

PATH = "/.well-known/tdmrep.json"
MAX_RULES = 10_000
Rule = tuple[str, bool]


@dataclass(frozen=True)
class Reservations:
    """The rules of one host.

    Args:
        status: HTTP status of the file; 0 where the host could not be reached.
        body: its bytes, at most 500 KiB.
    """

    status: int
    body: bytes = b""
    _rules: Sequence[Rule] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if 200 <= self.status < 300:
            object.__setattr__(self, "_rules", _rules_in(self.body[:MAX_BYTES]))

    @property
    def unavailable(self) -> bool:
        """Say whether the host could not say what it reserves."""
        return unavailable(self.status)

    def reserves(self, url: str) -> bool:
        """Say whether the first or the longest rule that fits reserves `url`."""
        path = _plain(URL(url).raw_path_qs)
        fitting = [rule for rule in self._rules if fits(rule[0], path)]
        return bool(fitting) and (fitting[0][1] or max(fitting, key=lambda rule: (len(rule[0]), rule[1]))[1])


def _rules_in(body: bytes) -> Sequence[Rule]:
    try:
        found = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return ()
    entries = found if isinstance(found, list) else [found]
    return tuple(
        (_pattern(entry["location"]), reserved(entry.get("tdm-reservation")))
        for entry in entries[:MAX_RULES]
        if isinstance(entry, dict) and isinstance(entry.get("location"), str)
    )


def reserved(value: object) -> bool:
    """Say whether a `tdm-reservation` reserves text and data mining: anything but 0 does, where there is one."""
    return value is not None and str(value).strip().lower() not in ("0", "0.0", "false", "")


def _plain(path: str) -> str:
    """Return a path without percent-encoding, but for `$` and `*`, which patterns give another meaning."""
    return unquote(path).replace("$", "%24").replace("*", "%2A")


def _pattern(location: str) -> str:
    parts = location.removesuffix("$").split("*")
    return "*".join(map(_plain, parts)) + "$" * location.endswith("$")


def fits(pattern: str, path: str) -> bool:
    """Say whether a path begins as a pattern says; `*` is any text, `$` at the end is the end (RFC 9309, 2.2.3)."""
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    last = others.pop() if others and pattern.endswith("$") else None
    for part in others:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= at
    return at == len(path) or not pattern.endswith("$")

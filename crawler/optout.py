"""Who does not want to be in a training set: X-Robots-Tag, meta robots, tdm-reservation.

In doubt the answer is no. A directive counts when it is for everybody or for `bolid`; `otherbot: noai` is not
for us. Search directives count too: what may not be indexed may not be collected either.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from .extract import Document
from .fetch import RESERVATION, TDMREP
from .politeness import http_date
from .robots import TOKEN
from .tdmrep import reserved

AI_DIRECTIVES = frozenset({"noai", "noimageai", "noml", "tdm-reservation"})
UNAVAILABLE = "unavailable_after"
DIRECTIVES = AI_DIRECTIVES | {"none", "noindex", "noimageindex", UNAVAILABLE}
# A date may hold a comma behind its weekday: 'Wed, 25 Jun 2031 15:00:00 GMT'.
_DATED = re.compile(rf"{UNAVAILABLE}\s*:\s*((?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\s*,)?[^,;]*)")


def header_refusal(lines: Iterable[str], now: datetime) -> str | None:
    """Return the directive of X-Robots-Tag lines that refuses bolid; None where none does.

    A part `name:` that is no directive with a value begins the rules of one agent, which end with the line.

    Args:
        lines: the value of every line of the header.
        now: the time, with its zone, for `unavailable_after`.
    """
    for line in lines:
        agent = "*"
        for name, words in _parts(_DATED.sub(lambda found: _dated(found[1], now), line.casefold())):
            agent = name or agent
            refusing = [word for word in words if word in DIRECTIVES]
            if agent in ("*", TOKEN) and refusing:
                return refusing[0]
    return None


def _parts(line: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (agent where one is named, words) for each part of a line; values of directives are left out."""
    for part in re.split("[,;]", re.sub("[\"']", " ", line)):
        before, colon, after = part.rpartition(":")
        name = before.partition(":")[0].strip()
        if name.startswith("max-"):
            yield "", after.split()[1:]
        elif colon and "max-" in before:
            yield name, after.split()[1:]  # otherbot: max-snippet: 0
        elif name in DIRECTIVES or name[:1].isdigit():
            yield "", [name, *after.split()]  # 'noai: true'; the rest of a date behind a comma
        else:
            yield name.partition("/")[0], after.split()


def _dated(text: str, now: datetime) -> str:
    """Return what stands for `unavailable_after: text`: its own name once it is over, and directives behind it."""
    behind = [word for word in text.split() if word in DIRECTIVES]
    return " ".join([UNAVAILABLE] * _is_past(text, now) + behind)


def _is_past(text: str, now: datetime) -> bool:
    try:
        date: datetime | None = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        date = http_date(text)
    return date is not None and (date if date.tzinfo else date.replace(tzinfo=UTC)) < now


def signals_refusal(signals: Sequence[tuple[str, str]], now: datetime) -> str | None:
    """Return which of some response headers (name in lower case, value) refuses bolid, as 'header: directive'."""
    found = header_refusal([value for name, value in signals if name == "x-robots-tag"], now)
    if found:
        return f"x-robots-tag: {found}"
    if any(reserved(value) for name, value in signals if name == RESERVATION):
        return RESERVATION
    return f"{TDMREP}: {RESERVATION}" if any(name == TDMREP for name, _ in signals) else None


def page_refusal(signals: Sequence[tuple[str, str]], document: Document, now: datetime) -> str | None:
    """Return which response header or meta element of a page refuses bolid."""
    return signals_refusal(signals, now) or _meta_refusal(_metas(document), now)


def _metas(document: Document) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for meta in document.all("meta[name][content]"):
        found.setdefault(str(meta["name"]).strip().casefold(), []).append(str(meta["content"]))
    return found


def _meta_refusal(metas: Mapping[str, list[str]], now: datetime) -> str | None:
    for name in ("robots", TOKEN):
        found = header_refusal(metas.get(name, ()), now)
        if found:
            return f"meta {name}: {found}"
    return "meta tdm-reservation" if any(reserved(value) for value in metas.get("tdm-reservation", ())) else None


def is_about_ai(refusal: str) -> bool:
    """Say whether a refusal names machine learning, not only search (listings are often kept from search engines)."""
    return refusal.rpartition(" ")[2] in AI_DIRECTIVES

"""One request at a time: redirects by hand, caps, time-outs, an honest name.

Whatever goes wrong leaves as a Rejection (final) or a Failure (may pass). Before every request and every
redirect the gate is asked, which knows robots.txt and the pace of the host.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
from multidict import CIMultiDict

from .. import __version__
from ..errors import ConfigError
from .address import canonical, is_loopback
from .guard import GuardedResolver, check_literal
from .outcome import BAD_ADDRESS, NO_CONTACT, OFF_SITE, Failure, Rejection
from .politeness import retry_after

MAX_REDIRECTS = 5
MAX_PAGE = 8 * 2**20
MAX_TAGS = 100_000  # of a page: a parsed element takes 1 kB of memory and some 50 µs, whatever its length
CONNECT_S = 15.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
RESERVATION = "tdm-reservation"
TDMREP = "tdmrep.json"  # stands among the opt-out headers for what this file says
_SIGNALS = frozenset({"x-robots-tag", RESERVATION})
_SOON = frozenset({408, 425, 429})
_CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})


class Gate(Protocol):
    """What stands between a decision to ask and the request."""

    async def admit(self, url: str) -> None:
        """Wait for the host's turn; raises Rejection, Failure or Postponed where `url` must not be asked."""

    def reserved(self, url: str) -> bool:
        """Say whether the tdmrep.json of the host reserves `url`."""

    def answered(self, url: str, status: int, asked_at: float, pause: float | None) -> None:
        """Note the status of an answer and the seconds that its Retry-After asks to wait."""


@dataclass(frozen=True)
class Limits:
    """Time-outs in seconds, sizes in bytes, and the slowest body in bytes/s that is waited for."""

    idle_s: float = 20.0
    total_s: float = 300.0
    slowest: float = 1024.0
    page_bytes: int = MAX_PAGE


@dataclass(frozen=True)
class Page:
    """The whole answer to a request for a page: final address, status (200 or 304), headers, bytes, opt-out headers."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    charset: str | None
    signals: tuple[tuple[str, str], ...] = ()


def user_agent(contact: str | None) -> str:
    """Return the User-Agent header: what asks, in which version, and whom to write to.

    Raises:
        ConfigError: `contact` holds characters that a header cannot carry.
    """
    if contact is None:
        return f"bolid/{__version__}"
    if not re.fullmatch(r"[\x20-\x7e]{3,200}", contact):
        raise ConfigError(f"--contact {contact!r}: give an address or URL in plain ASCII, for example me@example.org")
    return f"bolid/{__version__} (+{contact})"


class Fetcher:
    """The only place that talks to the network; an async context manager.

    Args:
        gate: asked before every request.
        contact: whom to write to, part of the User-Agent header; None asks no host but this machine.
        allow_private: `host:port` that may lie in a private network.
        limits: time-outs and sizes.
    """

    def __init__(self, gate: Gate, contact: str | None, allow_private: Collection[str], limits: Limits) -> None:
        self._gate, self._contact, self._limits = gate, contact, limits
        self._allowed = frozenset(allow_private)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Fetcher":
        connector = aiohttp.TCPConnector(resolver=GuardedResolver(self._allowed), limit=0, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": user_agent(self._contact)},
            timeout=aiohttp.ClientTimeout(
                total=self._limits.total_s, sock_connect=CONNECT_S, sock_read=self._limits.idle_s
            ),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, headers: Mapping[str, str], admit: bool = True, stay: Callable[[str], bool] | None = None
    ) -> AsyncIterator["Answer"]:
        """Ask for `url` and yield the answer, whose body is not read yet, after at most five redirects.

        Args:
            url: http(s) address.
            headers: further request headers.
            admit: False leaves out the gate (robots.txt itself).
            stay: says whether a redirect may lead to an address; None: anywhere public.

        Raises:
            Rejection, Failure, Postponed: also for whatever happens inside the block while the body is read.
        """
        signals: list[tuple[str, str]] = []
        with network_errors(url):
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._ask(url, headers, admit)
                try:
                    # An opt-out on the way to a photo is one of the photo.
                    signals += self._signals(url, response)
                    if response.status not in _REDIRECTS:
                        yield Answer(url, response, signals, self._limits)
                        return
                    url = _redirect(url, response)
                    if stay is not None and not stay(url):
                        raise Rejection(OFF_SITE, detail=url)
                finally:
                    # Closing what was not read to its end drops the connection: nothing more is sent to us.
                    response.close()
            raise Rejection("too_many_redirects", MAX_REDIRECTS + 1, MAX_REDIRECTS)

    def _signals(self, url: str, response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
        """Return the opt-out headers of an answer, and the word of tdmrep.json where no header overrules it."""
        found = [(name.lower(), value) for name, value in response.headers.items() if name.lower() in _SIGNALS]
        if RESERVATION not in (name for name, _ in found) and self._gate.reserved(url):
            found.append((TDMREP, "1"))
        return found

    async def _ask(self, url: str, headers: Mapping[str, str], admit: bool) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the fetcher is used outside its async with block")
        check_literal(url, self._allowed)
        if self._contact is None and not is_loopback(url):
            raise Rejection(NO_CONTACT, detail=f"{url} is a live address; add --contact")
        if admit:
            await self._gate.admit(url)
        asked_at = time.monotonic()
        # A time-out of its own: headers that drip in byte by byte are never idle.
        async with asyncio.timeout(CONNECT_S + self._limits.idle_s):
            response = await self._session.get(url, headers=headers, allow_redirects=False)
        pause = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        self._gate.answered(url, response.status, asked_at, pause)
        return response

    async def page(self, url: str, headers: Mapping[str, str], stay: Callable[[str], bool] | None = None) -> Page:
        """Return a whole page, or the answer 304 where `headers` hold a condition.

        Raises:
            Rejection: also `page_too_large` (value: bytes, or tags), and `off_site` where `stay` refuses a redirect.
            Failure, Postponed: see `open`.
        """
        limit = self._limits.page_bytes
        async with self.open(url, headers, stay=stay) as answer:
            answer.check_status(accept=(200, 304) if _CONDITIONS & headers.keys() else (200,))
            body = await answer.prefix(limit + 1)
            if len(body) > limit:
                raise Rejection("page_too_large", len(body), limit)
            if (tags := body.count(b"<")) > MAX_TAGS:
                raise Rejection("page_too_large", tags, MAX_TAGS, "tags")
            return Page(answer.url, answer.status, answer.headers, body, answer.charset, answer.signals)


class Answer:
    """An answer whose body is still to be read.

    `signals` are the opt-out headers (name in lower case, value) of this answer and of the redirects before it.
    """

    def __init__(
        self, url: str, response: aiohttp.ClientResponse, signals: Sequence[tuple[str, str]], limits: Limits
    ) -> None:
        self.url, self._response, self.signals, self._limits = url, response, tuple(signals), limits
        # Bytes that are no UTF-8 come as lone surrogates, which neither the frontier nor a request can hold.
        pairs = [(name, value.encode("utf-8", "replace").decode()) for name, value in response.headers.items()]
        self.headers: Mapping[str, str] = CIMultiDict(pairs)
        """Response headers."""

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status

    @property
    def charset(self) -> str | None:
        """Encoding named by the Content-Type header."""
        return self._response.charset

    @property
    def length(self) -> int | None:
        """Bytes of the body that the server announced; None where it did not, or where they are compressed."""
        return None if self.headers.get("Content-Encoding") else self._response.content_length

    def check_status(self, accept: Collection[int] = (200,)) -> None:
        """Return when the status is good.

        Raises:
            Rejection, Failure: by the class of the status.
        """
        if self.status not in accept:
            pause = retry_after(self.headers.get("Retry-After"), datetime.now(UTC))
            raise status_outcome(self.status, pause)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives (decompressed).

        Raises:
            Failure: it drips in more slowly than `Limits.slowest` once the idle time has passed (`too_slow`).
        """
        begun, received = time.monotonic(), 0
        async for piece in self._response.content.iter_any():
            received += len(piece)
            elapsed = time.monotonic() - begun
            if elapsed > self._limits.idle_s and received < self._limits.slowest * elapsed:
                raise Failure("too_slow", f"{received} bytes in {elapsed:.0f} s")
            yield piece

    async def prefix(self, limit: int) -> bytes:
        """Return the body, or its first `limit` bytes."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) >= limit:
                break
        return bytes(body[:limit])


def status_outcome(status: int, pause: float | None = None) -> Rejection | Failure:
    """Return what a bad HTTP status means: gone for good, forbidden, or worth another try."""
    if status in (404, 410):
        return Rejection("not_found" if status == 404 else "gone", status)
    if status in _SOON or status >= 500:
        return Failure(f"http_{status}", pause=pause)
    if 400 <= status < 500:
        return Rejection("forbidden" if status in (401, 402, 403, 451) else "refused", status)
    return Failure(f"http_{status}", "unexpected status")


def _redirect(url: str, response: aiohttp.ClientResponse) -> str:
    # A raw byte that is no UTF-8 (a server that speaks windows-1251) stands for itself, as in a browser.
    given = response.headers.get("Location", "")
    location = re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", given)
    target = canonical(url, location)
    if target is None or not location:
        raise Rejection("bad_redirect", response.status, detail=location[:200])
    return target


@contextlib.contextmanager
def network_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of a request into the outcomes of the frontier.

    Raises:
        Rejection, Failure: always with the address in the detail.
    """
    try:
        yield
    except TimeoutError as error:
        raise Failure("timeout", f"{url}: {error}") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise Failure("dns", f"{url}: {_words(error)}") from error
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
        raise Failure("tls", f"{url}: {error}", retry=False) from error
    except aiohttp.ClientPayloadError as error:
        raise Failure("truncated", f"{url}: {error}") from error
    except aiohttp.InvalidURL as error:
        raise Rejection(BAD_ADDRESS, detail=url) from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Failure("connection", f"{url}: {type(error).__name__}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Return the message of an error without what aiohttp says of TLS settings that are the default."""
    return str(error).replace(" ssl:default", "")

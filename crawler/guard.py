"""No connection into a private network: addresses are checked when they are connected to.

The resolver hands only checked addresses to the connector, which connects to exactly these: a name that
resolves differently the second time (DNS rebinding) gains nothing. Hosts written as IP addresses never reach
the resolver and are checked before every request and every redirect.
"""

import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .address import is_public, literal, spell
from .outcome import PRIVATE, Rejection


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses every answer that is not public.

    Args:
        allowed: `host:port` (see `address.spell`) that may be private.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)
        self._inner = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`.

        Raises:
            Rejection: one of them is not public (`private_address`).
            OSError: there is none.
        """
        try:
            found = await self._inner.resolve(host, port, family)
        except UnicodeError as error:
            # The resolver of Python encodes names by IDNA, which refuses empty and over-long parts.
            raise OSError(f"{host} is no name: {error}") from error
        if spell(host, port) not in self._allowed:
            for answer in found:
                check_ip(answer["host"], host, port)
        return found

    async def close(self) -> None:
        """Release the inner resolver."""
        await self._inner.close()


def check_literal(url: str, allowed: Collection[str]) -> None:
    """Check the host of `url` where it is written as an IP address.

    Raises:
        Rejection: it is not public and not in `allowed` (`private_address`).
    """
    parsed = URL(url)
    host, port = parsed.host or "", parsed.port or 0
    ip = literal(host)
    if ip is not None and spell(host, port) not in allowed:
        check_ip(ip, host, port)


def check_ip(ip: str, host: str, port: int) -> None:
    """Check one resolved address.

    Raises:
        Rejection: it is not public (`private_address`).
    """
    if not is_public(ip):
        shown = host if host == ip else f"{host} ({ip})"
        raise Rejection(PRIVATE, detail=f"{shown} is not on the public internet; allow it with --allow-private "
                                       f"{spell(host, port)}")  # fmt: skip

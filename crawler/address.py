"""Addresses as pure functions: one spelling for each, and which hosts may be connected to."""

import functools
import ipaddress
import re
import socket
from urllib.parse import urljoin

from yarl import URL

from ..errors import ConfigError

MAX_LENGTH = 4096
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# The only part of IPv6 that is handed out for the public internet (IANA, IPv6 Address Space).
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Not public although some Python versions call them global; the last one is Azure's metadata service.
_CLOSED = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "168.63.129.16/32")
)


def canonical(base: str, link: str) -> str | None:
    """Return the absolute http(s) address of `link` on the page `base`, in one spelling and without fragment.

    None for other schemes, addresses with a user name, over-long and malformed ones.
    """
    try:
        url = URL(urljoin(base, re.sub(r"[\t\r\n]", "", link.strip())))
        port = url.port
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or not url.host or url.user is not None or not port:
        return None
    text = str(url.with_fragment(None))
    return text if len(text) <= MAX_LENGTH else None


@functools.lru_cache(4096)
def origin(url: str) -> str:
    """Return scheme, host and port of an http(s) address; the port is left out where it is the usual one."""
    return str(URL(url).origin())


def host_port(url: str) -> str:
    """Return `host:port` of an http(s) address as `--allow-private` spells it."""
    parsed = URL(url)
    return spell(parsed.host or "", parsed.port or 0)


def spell(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host.lower()}:{port}"


def parse_host_port(text: str) -> str:
    """Return the spelling of `spell` for what a user wrote after `--allow-private`.

    Raises:
        ConfigError: it is not HOST:PORT.
    """
    try:
        url = URL(f"http://{text}")
        named = url.explicit_port
        if named and url.host and url.path == "/" and url.user is None:
            return spell(url.host, named)
    except ValueError:
        pass
    raise ConfigError(f"--allow-private {text}: write it as HOST:PORT, for example 127.0.0.1:8000")


@functools.lru_cache(4096)
def is_public(text: str) -> bool:
    """Say whether an IP address belongs to the public internet (not private, loopback, link-local, multicast ...)."""
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = _embedded(ip)
        if hidden is not None:
            return is_public(str(hidden))
        return ip in _GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _CLOSED)


@functools.lru_cache(4096)
def literal(host: str) -> str | None:
    """Return the IP address that a host is written as; None where it is a name.

    Systems read more spellings than the usual one and never ask a resolver for them: 127.1, 2130706433, 0x7f000001.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def is_loopback(url: str) -> bool:
    """Say whether an address points at this machine by its spelling: no name is resolved."""
    host = (URL(url).host or "").rstrip(".").lower()
    written = literal(host)
    if written is not None:
        ip = ipaddress.ip_address(written)
        hidden = _embedded(ip) if isinstance(ip, ipaddress.IPv6Address) else None
        return (hidden or ip).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a transition mechanism would connect to."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.teredo:
        return ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour

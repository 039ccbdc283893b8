"""Spelling of addresses, and which of them are public."""

import pytest
from bolid.crawler.address import canonical, host_port, is_loopback, is_public, literal, origin, parse_host_port
from bolid.errors import ConfigError

BASE = "https://site.example/a/b/?page=1"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("c.jpg", "https://site.example/a/b/c.jpg"),
        ("/c.jpg#top", "https://site.example/c.jpg"),
        ("?page=2", "https://site.example/a/b/?page=2"),
        ("//cdn.example/c.jpg", "https://cdn.example/c.jpg"),
        (" \n c\t.jpg ", "https://site.example/a/b/c.jpg"),
        ("HTTP://Site.Example:80/x", "http://site.example/x"),
        ("https://site.example:443/x", "https://site.example/x"),
        ("/фото.jpg", "https://site.example/%D1%84%D0%BE%D1%82%D0%BE.jpg"),
        ("http://пример.example/", "http://xn--e1afmkfd.example/"),
        ("../../../../etc/x", "https://site.example/etc/x"),
        ("javascript:alert(1)", None),
        ("data:image/png;base64,AAAA", None),
        ("file:///etc/passwd", None),
        ("ftp://site.example/x", None),
        ("mailto:me@site.example", None),
        ("http://user@site.example/", None),
        ("http://user:word@site.example/", None),
        ("http://site.example:99999/", None),
        ("http://[::1/", None),
        ("http://site.example:0/", None),
        ("http:///x", None),
        ("/" + "x" * 5000, None),
    ],
)
def test_canonical(link, expected) -> None:
    assert canonical(BASE, link) == expected


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "203.0.113.5", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2002:a9fe:a9fe::", "2001:0:0:0:0:0:80ff:fffe", "::127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1",
        "5f00::1", "100::1",
    ],
)  # fmt: skip
def test_not_public(ip) -> None:
    assert not is_public(ip)


@pytest.mark.parametrize("ip", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public(ip) -> None:
    assert is_public(ip)


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("2130706433", "127.0.0.1"), ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"), ("0", "0.0.0.0"), ("10.1", "10.0.0.1"), ("127.0.0.1.", "127.0.0.1"),
        ("::1", "::1"), ("site.example", None), ("1.2.3.4.5", None), ("x" * 300, None), ("", None),
    ],
)  # fmt: skip
def test_spellings_of_an_ip_address(host, ip) -> None:
    """Those of inet_aton (POSIX), which connect without any resolver."""
    assert literal(host) == ip


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8000/", True),
        ("http://[::1]/", True),
        ("http://[::ffff:127.0.0.1]/", True),
        ("http://localhost/", True),
        ("http://localhost./", True),
        ("http://gallery.localhost/", True),
        ("http://2130706433/", True),
        ("http://127.1/", True),
        ("http://10.0.0.1/", False),
        ("http://localhost.example/", False),
        ("https://www.theplace.ru/", False),
    ],
)
def test_is_loopback(url, loopback) -> None:
    assert is_loopback(url) is loopback


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("127.0.0.1:8000", "127.0.0.1:8000"), ("Media.LAN:80", "media.lan:80"), ("[::1]:8000", "[::1]:8000")],
)
def test_host_and_port(text, spelled) -> None:
    assert parse_host_port(text) == spelled
    assert host_port(f"http://{text}/x") == spelled


@pytest.mark.parametrize("text", ["", "127.0.0.1", "8000", "http://127.0.0.1:80", "a:b", "a:80/x", "u@a:80", "a:99999"])
def test_not_host_and_port(text) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_host_port(text)


def test_origin() -> None:
    assert origin("http://site.example:80/x?y") == "http://site.example"
    assert origin("https://site.example:8443/x?y") == "https://site.example:8443"

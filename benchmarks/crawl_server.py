"""The server of the benchmark, a process of its own: a gallery site whose photos come from memory, and its own counts.

python crawl_server.py '{"photos": 1000, "narrow": 0.5, "people": 10, "range": true}'

It prints its port and serves until it is ended. /stats returns counts as JSON, /reset forgets them. The bytes are
those that the kernel saw acknowledged, so what a client hung up on counts as far as it was under way.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from crawl_photos import BASES, GOOD, NARROW, bases, numbered

_ACKED = struct.Struct("<Q")
_ACKED_AT = 120  # tcpi_bytes_acked in struct tcp_info of Linux


@dataclass
class Gallery:
    """The site: photo n belongs to person n % people; every second one is narrow where `narrow` is 0.5."""

    photos: int
    narrow: float
    people: int
    range: bool
    good: list[bytes] = field(default_factory=list)
    bad: list[bytes] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    first: float = 0.0
    acked: int = 0
    connections: int = 0

    def __post_init__(self) -> None:
        self.good = list(bases(GOOD, 1))
        self.bad = list(bases(NARROW, 2)) if self.narrow else []

    def is_narrow(self, number: int) -> bool:
        """Say whether a photo is too small."""
        return bool(self.narrow) and number % round(1 / self.narrow) == 0

    def photo(self, number: int) -> tuple[bytes, bytes]:
        """Return head and rest of a photo."""
        return numbered((self.bad if self.is_narrow(number) else self.good)[number % BASES], number)

    def stats(self) -> dict[str, object]:
        """Return the counts."""
        return {
            "first": self.first,
            "acked": self.acked,
            "connections": self.connections,
            "asked": self.asked,
            "good_bytes": sum(self._size(n) for n in range(self.photos) if not self.is_narrow(n)),
            "narrow_bytes": sum(self._size(n) for n in range(self.photos) if self.is_narrow(n)),
        }

    def _size(self, number: int) -> int:
        return len((self.bad if self.is_narrow(number) else self.good)[number % BASES]) + 8

    def page(self, path: str, query: str) -> str | None:
        """Return a page in the layout of the definition 'theplace'."""
        words = path.strip("/").split("/")
        if words == ["photos"] and not query:
            return '<div class="letters-list"><a href="/photos/?letter=p">P</a></div>'
        if words == ["photos"]:
            links = "".join(f'<a href="/photos/person_{n:04}/">Person {n}</a>' for n in range(self.people))
            return f'<div class="models_list">{links}</div>'
        if len(words) == 2:
            mine = range(int(words[1].removeprefix("person_")), self.photos, self.people)
            cards = "".join(
                f'<div class="photos-pic-card"><a class="photos-pic-card__link" href="/photos/{words[1]}/pic-{n}.html">'
                f'<img src="/thumbs/{n}.jpg" alt="{words[1]} {n}"></a></div>'
                for n in mine
            )
            return (
                f'<div class="main-col-content"><h1>{words[1]}</h1><div class="d-none d-sm-block">'
                f"<p>Всего {len(mine)} фото</p></div>{cards}</div>"
            )
        if len(words) == 3:
            number = words[2].removeprefix("pic-").removesuffix(".html")
            return f'{_CHROME}<img class="pic big_pic" src="/img/{number}.jpg">{_CHROME}'
        return None


# A picture page of a real site is mostly menus: some 20 kB.
_CHROME = "<ul>" + "".join(f'<li class="menu-item"><a href="/menu/{n}">Menu entry {n}</a></li>' for n in range(150))


class Connection(asyncio.Protocol):
    """One client connection; HTTP/1.1, GET only.

    The client closes it: closed from here, the last bytes would not be acknowledged yet when they are counted.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery, self.pending = gallery, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.gallery.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask the kernel what the client acknowledged."""
        info = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        self.gallery.acked += _ACKED.unpack_from(info, _ACKED_AT)[0]

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.pending += data
        while b"\r\n\r\n" in self.pending:
            head, self.pending = self.pending.split(b"\r\n\r\n", 1)
            self._answer(head.decode("latin-1"))

    def _answer(self, head: str) -> None:
        target = head.split(" ", 2)[1]
        path, _, query = target.partition("?")
        lines = head.lower().split("\r\n")[1:]
        if path.startswith("/img/"):
            self.gallery.first = self.gallery.first or time.monotonic()
            self.gallery.asked[path] += 1
            self._photo(int(path[5:-4]), next((line[13:] for line in lines if line.startswith("range: bytes=")), ""))
        elif path == "/stats":
            self._send("200 OK", json.dumps(self.gallery.stats()).encode(), "application/json")
        elif path == "/reset":
            self.gallery.asked.clear()
            self.gallery.first, self.gallery.acked, self.gallery.connections = 0.0, 0, 0
            self._send("200 OK", b"", "text/plain")
        else:
            page = self.gallery.page(path, query) if path.startswith("/photos") else None
            text = (page or "").encode()
            self._send("200 OK" if page else "404 Not Found", text, "text/html; charset=utf-8")

    def _photo(self, number: int, asked: str) -> None:
        head, rest = self.gallery.photo(number)
        total = len(head) + len(rest)
        if asked and self.gallery.range:
            begin, _, end = asked.partition("-")
            first, last = int(begin), min(int(end or total), total - 1)
            part = (head + rest)[first : last + 1]
            where = f"Content-Range: bytes {first}-{last}/{total}\r\n"
            self._send("206 Partial Content", part, "image/jpeg", f'ETag: "{number}"\r\n{where}')
            return
        self.transport.write(_header("200 OK", total, "image/jpeg", f'ETag: "{number}"\r\n') + head)
        self.transport.write(rest)

    def _send(self, status: str, body: bytes, kind: str, more: str = "") -> None:
        self.transport.write(_header(status, len(body), kind, more) + body)


def _header(status: str, length: int, kind: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


async def main() -> None:
    """Serve until the process is ended."""
    gallery = Gallery(**json.loads(sys.argv[1]))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(gallery), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""A gallery site on loopback that does what it is told: both layouts, other encodings, and every kind of hostility."""

import asyncio
import functools
import io
import random
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from bolid.crawler.crawl import CrawlOptions
from bolid.workspace import Workspace
from PIL import Image

Conversation = Callable[[asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@functools.lru_cache(maxsize=4096)
def photo_bytes(seed: int, width: int = 120, height: int = 150, format: str = "JPEG", **options: object) -> bytes:
    """A picture of noise, another one for every seed."""
    noise = random.Random(seed).randbytes(16 * 16 * 3)
    image = Image.frombytes("RGB", (16, 16), noise).resize((width, height), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@dataclass
class Person:
    slug: str
    name: str
    photos: list[bytes]
    announced: int | None = None


@dataclass
class Gallery:
    """What the server shows; change it at any time."""

    layout: str = "cards"
    encoding: str = "utf-8"
    charset_in: str = "header"
    per_page: int = 4
    people: dict[str, list[Person]] = field(default_factory=dict)
    override: dict[str, Handler] = field(default_factory=dict)
    robots: str | None = None
    before: Handler | None = None
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def asked(self) -> Counter[str]:
        return Counter(path for path, _ in self.log)

    @property
    def photos_asked(self) -> Counter[str]:
        return Counter(path for path, _ in self.log if path.startswith("/img/"))

    @property
    def host_port(self) -> str:
        return self.url.partition("://")[2]

    def add(self, slug: str, count: int, seed: int = 0, **options: object) -> Person:
        photos = [photo_bytes(seed * 1000 + n, **options) for n in range(count)]
        person = Person(slug, slug.replace("_", " ").title(), photos)
        self.people.setdefault(slug[0], []).append(person)
        return person

    def person(self, slug: str) -> Person:
        return next(p for people in self.people.values() for p in people if p.slug == slug)

    def image_paths(self, slug: str) -> list[str]:
        return [f"/img/{slug}/{n}.jpg" for n in range(len(self.person(slug).photos))]

    # --- pages: the two layouts of the site -----------------------------------------------------------------

    def html(self, body: str) -> web.Response:
        meta = f'<meta http-equiv="Content-Type" content="text/html; charset={self.encoding}">'
        text = f"<html><head>{meta if self.charset_in == 'meta' else ''}</head><body>{body}</body></html>"
        kind = f"text/html; charset={self.encoding}" if self.charset_in == "header" else "text/html"
        return web.Response(body=text.encode(self.encoding), headers={"Content-Type": kind})

    def index_page(self) -> str:
        links = "".join(f'<a href="/photos/?letter={letter}">{letter}</a>' for letter in sorted(self.people))
        return f'<div class="letters-list">{links}</div>'

    def letter_page(self, letter: str) -> str:
        extra = " row my-5" if self.layout == "cards" else ""
        links = "".join(f'<a href="/photos/{p.slug}/">{p.name}</a>' for p in self.people[letter])
        return f'<div class="models_list{extra}">{links}</div>'

    def person_page(self, person: Person, page: int) -> str:
        places = range(len(person.photos))[(page - 1) * self.per_page : page * self.per_page]
        pages = range(1, -(-len(person.photos) // self.per_page) + 1)
        further = "".join(f'<a href="?page={n}">{n}</a>' for n in pages if n != page)
        announced = len(person.photos) if person.announced is None else person.announced
        thumbs = "".join(self.thumbnail(f"/photos/{person.slug}/pic-{n}.html") for n in places)
        box = "gallery-pics-list photos-pics-list" if self.layout == "cards" else "d-flex flex-wrap"
        return (
            f'<div class="main-col-content"><h1 class="my-3">{person.name}</h1>'
            f'<div class="d-none d-sm-block"><p>Всего {announced} фото</p><p>ещё 7 слов</p></div>'
            f'<div class="{box}">{thumbs}</div><div class="listalka">{further}</div></div>'
        )

    def thumbnail(self, link: str) -> str:
        if self.layout == "cards":
            return f'<div class="photos-pic-card"><a class="photos-pic-card__link" href="{link}"><img></a></div>'
        return f'<div class="p-1"><div class="gallery-photo-card"><a href="{link}"><img></a></div></div>'

    def picture_page(self, slug: str, number: int) -> str:
        source = f"/img/{slug}/{number}.jpg"
        if self.layout == "cards":
            return f'<img src="/logo.png"><img class="pic big_pic" src="{source}">'
        return f'<div class="pic-big-box__main"><span class="s-pic"><img src="{source}"></span></div>'

    # --- the server ----------------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.log.append((request.path_qs, dict(request.headers)))
        if self.before is not None:
            early = await self.before(request)
            if early is not None:
                return early
        special = self.override.get(request.path_qs) or self.override.get(request.path)
        return await special(request) if special else self.normal(request)

    def normal(self, request: web.Request) -> web.Response:
        parts = request.path.strip("/").split("/")
        if parts == ["robots.txt"]:
            return web.Response(status=404) if self.robots is None else web.Response(body=self.robots.encode())
        if parts == ["photos"]:
            letter = request.query.get("letter")
            return self.html(self.letter_page(letter) if letter else self.index_page())
        if parts[0] == "photos" and len(parts) == 2:
            return self.html(self.person_page(self.person(parts[1]), int(request.query.get("page", "1"))))
        if parts[0] == "photos":
            number = int(parts[2].removeprefix("pic-").removesuffix(".html"))
            return self.html(self.picture_page(parts[1], number))
        if parts[0] == "img":
            body = self.person(parts[1]).photos[int(parts[2].split(".")[0])]
            return web.Response(body=body, content_type="image/jpeg")
        return web.Response(status=404)


class Server:
    """Runs galleries in a thread with an event loop of its own, because a crawl runs its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.runners: list[web.AppRunner] = []
        self.listening: list[asyncio.Server] = []

    def start(self, gallery: Gallery, tls: ssl.SSLContext | None = None) -> Gallery:
        return asyncio.run_coroutine_threadsafe(self._start(gallery, tls), self.loop).result(10)

    async def _start(self, gallery: Gallery, tls: ssl.SSLContext | None) -> Gallery:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", gallery.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.runners.append(runner)
        gallery.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        return gallery

    def speak(self, conversation: Conversation) -> str:
        """Serve raw bytes, each connection by one call of `conversation`; returns host:port."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await reader.readuntil(b"\r\n\r\n")
                if b"/robots.txt" in request or b"/.well-known/" in request:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                else:
                    await conversation(writer)
                await writer.drain()
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(talk, "127.0.0.1", 0)

        self.listening.append(asyncio.run_coroutine_threadsafe(listen(), self.loop).result(10))
        return f"127.0.0.1:{self.listening[-1].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        async def clean() -> None:
            for listening in self.listening:
                listening.close()
            for runner in self.runners:
                await runner.cleanup()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0.01)  # transports are closed by the next rounds of the loop

        asyncio.run_coroutine_threadsafe(clean(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def gallery(server: Server) -> Gallery:
    return server.start(Gallery())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "data")


@pytest.fixture
def options(gallery: Gallery) -> Callable[..., CrawlOptions]:
    """Options for the gallery: sizes ten times smaller than in life, and no waiting."""

    def build(**changes: object) -> CrawlOptions:
        values: dict[str, object] = {
            "start_url": gallery.url,
            "min_res": 100,
            "min_photos": 1,
            "rate": 1000.0,
            "backoff_s": 0.01,
            "allow_private": (gallery.host_port,),
        }
        return CrawlOptions.model_validate(values | changes)

    return build


@pytest.fixture
def photo() -> Callable[..., bytes]:
    return photo_bytes

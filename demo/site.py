"""A gallery site on loopback, in the page structure of theplace, showing the galleries of `gallery.build`.

Index, letters, persons with pages of thumbnails, picture pages. Even identities have the present layout in UTF-8, odd
ones the older thumbnails in windows-1251, so that a crawler meets both.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from aiohttp import web

from ..errors import SiteError
from .gallery import Offer, by_slug

THUMBNAILS_A_PAGE = 10
ROBOTS = "User-agent: *\nDisallow: /admin/\nDisallow: /search\n"
RIGHTS = "© procedural people of the bolid demo, Apache-2.0"
START_TIMEOUT_S = 20.0

STYLE = (
    "<style>body{font:16px sans-serif;max-width:960px;margin:20px auto;color:#222}img{max-width:100%}"
    ".cards,.row,.d-flex{display:flex;flex-wrap:wrap;gap:10px}.photos-pic-card img,.gallery-photo-card img"
    "{height:200px;border-radius:4px}.listalka a{padding:4px}footer{color:#888;margin-top:30px}</style>"
)


class GallerySite:
    """The pages of the site.

    Args:
        offers: the photos of all galleries.
        folder: where their bytes lie (`gallery.build`).
    """

    def __init__(self, offers: Sequence[Offer], folder: Path) -> None:
        self._galleries = by_slug(offers)
        self._folder = folder

    def application(self) -> web.Application:
        """Build the aiohttp application."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/", self._front),
                web.get("/robots.txt", self._robots),
                web.get("/photos/", self._index),
                web.get("/photos/letter/{letter}/", self._letter),
                web.get("/photos/{slug}/", self._person),
                web.get("/photos/{slug}/{number:[0-9]+}/", self._picture),
                web.get("/media/{slug}/{file}", self._media),
            ]
        )
        return application

    async def _front(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/photos/")

    async def _robots(self, request: web.Request) -> web.Response:
        return web.Response(text=ROBOTS)

    async def _index(self, request: web.Request) -> web.Response:
        letters = sorted({slug[0] for slug in self._galleries})
        links = " ".join(f'<a href="/photos/letter/{letter}/">{letter.upper()}</a>' for letter in letters)
        return _page("Photos", f'<h1>Photos</h1><div class="letters-list">{links}</div>')

    async def _letter(self, request: web.Request) -> web.Response:
        letter = request.match_info["letter"]
        slugs = sorted(slug for slug in self._galleries if slug[0] == letter)
        if not slugs:
            raise web.HTTPNotFound
        links = "".join(
            f'<p><a href="/photos/{slug}/">{escape(self._galleries[slug][0].name)}</a></p>' for slug in slugs
        )
        return _page(letter.upper(), f'<div class="models_list row my-5">{links}</div>')

    async def _person(self, request: web.Request) -> web.Response:
        gallery = self._gallery(request)
        pages = -(-len(gallery) // THUMBNAILS_A_PAGE)
        page = _number(request.query.get("page", "1"))
        if not 1 <= page <= pages:
            raise web.HTTPNotFound
        shown = gallery[(page - 1) * THUMBNAILS_A_PAGE : page * THUMBNAILS_A_PAGE]
        slug, older = gallery[0].slug, _is_older(gallery[0])
        listing = "".join(f'<a href="/photos/{slug}/?page={n}">{n}</a>' for n in range(1, pages + 1))
        body = (
            f'<div class="main-col-content"><h1 class="my-3">{escape(gallery[0].name)}</h1>'
            f'<div class="d-none d-sm-block"><p>Всего {len(gallery)} фото</p><p>Procedural, nobody real.</p></div>'
            f"{(_older_thumbnails if older else _thumbnails)(shown)}"
            f'<div class="listalka">{listing}</div></div>'
        )
        return _page(gallery[0].name, body, "windows-1251" if older else "utf-8")

    async def _picture(self, request: web.Request) -> web.Response:
        gallery = self._gallery(request)
        number = _number(request.match_info["number"])
        if not 1 <= number <= len(gallery):
            raise web.HTTPNotFound
        offer = gallery[number - 1]
        if _is_older(offer):
            body = (
                '<div class="pic-big-box__main"><span class="s-pic">'
                f'<img src="{offer.image_path}" alt="{escape(offer.name)}"></span></div>'
            )
        else:
            body = f'<img class="pic big_pic" src="{offer.image_path}" alt="{escape(offer.name)}">'
        return _page(f"{offer.name}, {number}", body, "windows-1251" if _is_older(offer) else "utf-8")

    async def _media(self, request: web.Request) -> web.StreamResponse:
        slug, file = request.match_info["slug"], request.match_info["file"]
        path = self._folder / slug / file
        if slug not in self._galleries or "/" in file or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Type": "image/jpeg"})

    def _gallery(self, request: web.Request) -> list[Offer]:
        gallery = self._galleries.get(request.match_info["slug"])
        if gallery is None:
            raise web.HTTPNotFound
        return gallery


@contextlib.contextmanager
def serving(site: GallerySite, port: int = 0) -> Iterator[str]:
    """Serve `site` on 127.0.0.1 in a thread for the block; yields the base address.

    Args:
        site: what to serve.
        port: 0 takes any free port, so a busy one is no problem.

    Raises:
        SiteError: the port asked for is busy.
    """
    server = _ServerThread(site, port)
    server.start()
    address = server.address()
    try:
        yield address
    finally:
        server.stop()


class _ServerThread(threading.Thread):
    def __init__(self, site: GallerySite, port: int) -> None:
        super().__init__(name="gallery-site", daemon=True)
        self._site, self._port = site, port
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._address = ""
        self._error: Exception | None = None

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._site.application(), access_log=None, shutdown_timeout=1.0)
        try:
            self._loop.run_until_complete(runner.setup())
            listener = web.TCPSite(runner, "127.0.0.1", self._port)
            self._loop.run_until_complete(listener.start())
            host, port = runner.addresses[0][:2]
            self._address = f"http://{host}:{port}"
            self._listening.set()
            self._loop.run_forever()
        except Exception as error:  # handed to the thread that waits for the address
            self._error = error
        finally:
            self._listening.set()
            try:
                self._loop.run_until_complete(runner.cleanup())
            finally:
                self._loop.close()

    def address(self) -> str:
        self._listening.wait(START_TIMEOUT_S)
        if isinstance(self._error, OSError):
            raise SiteError(
                f"the demo site cannot listen on port {self._port}: {self._error.strerror}; choose another or 0"
            )
        if self._error is not None:
            raise self._error
        if not self._address:
            raise SiteError(f"the demo site did not start within {START_TIMEOUT_S:.0f} s; run the demo again")
        return self._address

    def stop(self) -> None:
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self.join(START_TIMEOUT_S)


def _page(title: str, body: str, charset: str = "utf-8") -> web.Response:
    text = (
        f'<!doctype html><html><head><meta charset="{charset}"><title>{escape(title)}</title>{STYLE}</head>'
        f"<body>{body}<footer>{RIGHTS}</footer></body></html>"
    )
    # The older pages name their encoding in the meta tag alone, as such pages do.
    header = "text/html" if charset != "utf-8" else "text/html; charset=utf-8"
    return web.Response(body=text.encode(charset, "xmlcharrefreplace"), headers={"Content-Type": header})


def _thumbnails(offers: Sequence[Offer]) -> str:
    cards = "".join(
        f'<div class="photos-pic-card"><a class="photos-pic-card__link" href="{offer.page_path}">'
        f'<img src="{offer.thumbnail_path}" alt=""></a></div>'
        for offer in offers
    )
    return f'<div class="gallery-pics-list photos-pics-list cards">{cards}</div>'


def _older_thumbnails(offers: Sequence[Offer]) -> str:
    cards = "".join(
        f'<div class="p-1"><div class="gallery-photo-card"><a href="{offer.page_path}">'
        f'<img src="{offer.thumbnail_path}" alt=""></a></div></div>'
        for offer in offers
    )
    return f'<div class="d-flex flex-wrap justify-content-center">{cards}</div>'


def _is_older(offer: Offer) -> bool:
    return offer.identity % 2 == 1


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0

"""Servers that send too much, too slowly, or nonsense: each costs a bounded amount and ends as a row."""

import asyncio
import gzip
import hashlib
import sqlite3
import ssl
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl, crawl_urls
from bolid.crawler.fetch import status_outcome
from bolid.crawler.outcome import Failure, Rejection
from bolid.errors import ConfigError


@pytest.fixture
def one(gallery):
    gallery.add("anna_petrova", 3, seed=1)
    return "/img/anna_petrova/1.jpg"


def test_a_dripping_photo_is_given_up(gallery, workspace, options, one, photo) -> None:
    """A byte now and then keeps a connection from being idle; the speed gives it away."""
    dripped = []

    async def drip(request):
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        for byte in photo(5) * 100:
            dripped.append(byte)
            await response.write(bytes([byte]))
            await asyncio.sleep(0.02)
        return response

    gallery.override[one] = drip
    summary = crawl(workspace, options(idle_timeout_s=0.3, tries=1))
    assert (summary.stored, summary.failed) == (2, {"too_slow": 1})
    assert len(dripped) < 10_000


def test_a_total_time_bounds_every_answer(gallery, workspace, options, one, photo) -> None:
    async def steady(request):
        response = web.StreamResponse(headers={"Content-Length": str(10**9)})
        await response.prepare(request)
        await response.write(photo(5))
        while True:
            await response.write(bytes(2000))
            await asyncio.sleep(0.02)

    gallery.override[one] = steady
    assert crawl(workspace, options(total_timeout_s=0.5, tries=1, max_bytes=2**30)).failed == {"timeout": 1}


RAW: dict[str, Callable[[], Iterator[bytes]]] = {
    "no HTTP": lambda: iter([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]),
    "a header without end": lambda: (b"HTTP/1.1 200 OK\r\nX: " if n == 0 else b"x" * 4096 for n in range(1000)),
    "headers without end": lambda: (b"HTTP/1.1 200 OK\r\n" if n == 0 else b"X: x\r\n" * 500 for n in range(1000)),
    "a length that is none": lambda: iter([b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"]),
    "broken chunks": lambda: iter([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"]),
    "a compression that is none": lambda: iter(
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde"]
    ),
}


@pytest.mark.parametrize("answer", RAW.values(), ids=RAW)
def test_nonsense_is_a_temporary_failure(server, workspace, options, tmp_path, answer) -> None:
    async def speak(writer):
        for piece in answer():
            writer.write(piece)
            await writer.drain()

    where = server.speak(speak)
    file = tmp_path / "people.txt"
    file.write_text(f"http://{where}/x.jpg")
    summary = crawl_urls(workspace, options(allow_private=(where,), tries=2), file)
    assert (summary.offered, summary.stored, sum(summary.failed.values())) == (1, 0, 1)


def test_tls_that_is_none_is_not_tried_again_in_the_run(gallery, workspace, options, tmp_path) -> None:
    file = tmp_path / "people.txt"
    file.write_text(f"https://{gallery.host_port}/x.jpg")
    assert crawl_urls(workspace, options(), file).failed == {"tls": 1}


def test_a_certificate_that_nobody_vouches_for_is_refused(server, gallery, workspace, options, tmp_path) -> None:
    """Made for this test: openssl req -x509 -newkey ec -nodes -days 36500 -subj /CN=localhost (and 127.0.0.1)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    pretender = server.start(type(gallery)(), tls)
    pretender.add("anna_petrova", 1, seed=1)
    file = tmp_path / "people.txt"
    file.write_text(f"{pretender.url}/img/anna_petrova/0.jpg")
    summary = crawl_urls(workspace, options(allow_private=(pretender.host_port,)), file)
    assert (summary.stored, summary.failed) == (0, {"tls": 1})
    assert pretender.log == []


def test_a_page_that_unpacks_to_too_much_is_refused(gallery, workspace, options, one) -> None:
    bomb = gzip.compress(bytes(100 * 2**20))
    assert len(bomb) < 2**20

    async def page(request):
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/html"}
        return web.Response(body=bomb, headers=headers)

    gallery.override["/photos/anna_petrova/pic-1.html"] = page
    assert crawl(workspace, options()).rejected == {"page_too_large": 1}


def test_a_photo_that_unpacks_to_too_much_is_refused(gallery, workspace, options, one, photo) -> None:
    packed = zlib.compress(photo(5) + bytes(100 * 2**20))

    async def image(request):
        return web.Response(body=packed, headers={"Content-Encoding": "deflate", "Content-Type": "image/jpeg"})

    gallery.override[one] = image
    assert crawl(workspace, options(max_bytes=2**20)).rejected == {"too_large": 1}


def test_a_packed_photo_is_unpacked(gallery, workspace, options, one) -> None:
    plain = gallery.person("anna_petrova").photos[1]

    async def image(request):
        body = gzip.compress(plain)
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "image/jpeg"})

    gallery.override[one] = image
    crawl(workspace, options())
    assert {file.read_bytes() for file in workspace.images.rglob("*.jpg")} == set(gallery.person("anna_petrova").photos)


def test_names_on_disk_never_come_from_the_network(gallery, workspace, options, one) -> None:
    source = "/img/anna_petrova/1.jpg?../../../../../etc/x;.sh"

    async def page(request):
        return gallery.html(f'<img class="pic big_pic" src="{source}">')

    gallery.override["/photos/anna_petrova/pic-1.html"] = page
    crawl(workspace, options())
    files = {str(file.relative_to(workspace.root)) for file in workspace.root.rglob("*") if file.is_file()}
    images = {name for name in files if name.startswith("images/")}
    assert all(len(name) == len("images/ab/") + 64 + len(".jpg") for name in images)
    assert files - images <= {"crawl.sqlite", "crawl.sqlite-wal", "crawl.sqlite-shm", "crawl.lock", "images.parquet"}


@pytest.mark.parametrize("contact", ["me\r\nX-Evil: 1", "ж", "", "x" * 300])
def test_a_contact_that_no_header_can_carry(workspace, options, contact) -> None:
    with pytest.raises(ConfigError, match="--contact"):
        crawl(workspace, options(contact=contact))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, Rejection, "not_found"),
        (410, Rejection, "gone"),
        (401, Rejection, "forbidden"),
        (402, Rejection, "forbidden"),
        (403, Rejection, "forbidden"),
        (451, Rejection, "forbidden"),
        (400, Rejection, "refused"),
        (418, Rejection, "refused"),
        (408, Failure, "http_408"),
        (425, Failure, "http_425"),
        (429, Failure, "http_429"),
        (500, Failure, "http_500"),
        (503, Failure, "http_503"),
        (599, Failure, "http_599"),
        (204, Failure, "http_204"),
        (206, Failure, "http_206"),
        (304, Failure, "http_304"),
    ],
)
def test_what_a_status_means(status, kind, reason) -> None:
    outcome = status_outcome(status)
    assert (type(outcome), outcome.reason) == (kind, reason)


def test_a_full_disk_stops_the_crawl_and_loses_nothing(gallery, workspace, options, one, monkeypatch) -> None:
    import errno

    from bolid.crawler import store
    from bolid.errors import WorkspaceError

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store.Incoming, "_spill", lambda self: spill(self))

        def spill(self):
            with store.storage_errors(self._folder):
                full(self._folder)

        with pytest.raises(WorkspaceError, match="disk is full"):
            crawl(workspace, options())
    database = sqlite3.connect(workspace.frontier)
    states = {row[0] for row in database.execute("SELECT DISTINCT state FROM photos")}
    database.close()
    assert states == {"pending"}
    assert crawl(workspace, options()).stored == 3


def test_photos_too_large_for_memory_go_through_the_disk(gallery, workspace, options, monkeypatch) -> None:
    monkeypatch.setattr("bolid.crawler.store.IN_MEMORY", 500)
    person = gallery.add("anna_petrova", 3, seed=1)
    assert min(len(photo) for photo in person.photos) > 500
    assert crawl(workspace, options()).stored == 3
    assert {file.read_bytes() for file in workspace.images.rglob("*.jpg")} == set(person.photos)
    assert not [file for file in workspace.images.rglob("*") if file.name.endswith(".tmp")]


# --- heads first ------------------------------------------------------------------------------------------------


def ranged(gallery, behaviour: str):
    """Serves images with Range as RFC 9110 says, or as servers do that do not."""

    async def serve(request):
        if not request.path.startswith("/img/"):
            return None
        body = gallery.normal(request).body
        headers = {"ETag": '"1"'} if behaviour != "no validator" else {}
        asked = request.headers.get("Range")
        if not asked or behaviour == "ignores":
            return web.Response(body=body, headers=headers)
        if behaviour == "refuses":
            return web.Response(status=416)
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end or len(body)), len(body) - 1)
        if behaviour == "changes" and first > 0:
            return web.Response(body=body, headers={"ETag": '"2"'})
        if behaviour == "lies" and first > 0:
            first = 0
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return web.Response(status=206, body=body[first : last + 1], headers=headers)

    return serve


@pytest.fixture
def half_small(gallery, photo):
    """60 photos of some 40 kB, every second one too small; returns those that are large enough."""
    person = gallery.add("anna_petrova", 0)
    for n in range(30):
        person.photos += [photo(n, 400, 500, quality=98), photo(1000 + n, 90, 2300, quality=98)]
    gallery.per_page = 100
    assert min(map(len, person.photos)) > 25_000
    return person.photos[::2]


def stored_bytes(workspace) -> set[bytes]:
    return {file.read_bytes() for file in workspace.images.rglob("*.jpg")}


@pytest.mark.parametrize("behaviour", ["honours", "changes", "ignores", "refuses", "no validator", "lies"])
def test_heads_first_stores_the_same(gallery, workspace, options, half_small, behaviour) -> None:
    """Whatever a server makes of Range, the bytes stored are those of the photos."""
    gallery.before = ranged(gallery, behaviour)
    summary = crawl(workspace, options(concurrency=1))
    assert (summary.stored, summary.rejected, summary.failed) == (30, {"too_small": 30}, {})
    assert stored_bytes(workspace) == set(half_small)
    with_range = [headers.get("Range") for path, headers in gallery.log if path.startswith("/img/")]
    assert with_range[:8] == [None] * 8
    assert "bytes=0-16383" in with_range


def test_heads_first_receives_little_of_what_is_too_small(gallery, workspace, options, half_small) -> None:
    gallery.before = ranged(gallery, "honours")
    summary = crawl(workspace, options(concurrency=1))
    database = sqlite3.connect(workspace.frontier)
    received = [row[0] for row in database.execute("SELECT received FROM photos WHERE reason = 'too_small'")]
    database.close()
    assert received[5:] == [16_384] * 25
    everything = sum(map(len, gallery.person("anna_petrova").photos))
    assert summary.bytes_received + summary.bytes_saved == everything
    # The photos that were large enough came in two parts, each byte once.
    assert summary.bytes_received == sum(map(len, half_small)) + sum(received)


def test_a_gallery_without_small_photos_is_never_asked_for_heads(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 20, seed=1)
    gallery.before = ranged(gallery, "honours")
    crawl(workspace, options(concurrency=1))
    assert not [headers for _, headers in gallery.log if "Range" in headers]


def test_headers_that_drip_are_given_up(server, workspace, options, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bolid.crawler.fetch.CONNECT_S", 0.2)
    dripped = []

    async def drip(writer):
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 4000:
            writer.write(bytes([byte]))
            await writer.drain()
            dripped.append(byte)
            await asyncio.sleep(0.02)

    where = server.speak(drip)
    file = tmp_path / "people.txt"
    file.write_text(f"http://{where}/x.jpg")
    summary = crawl_urls(workspace, options(allow_private=(where,), tries=1, idle_timeout_s=0.2), file)
    assert summary.failed == {"timeout": 1}
    assert len(dripped) < 4000


def test_a_private_name_may_be_allowed(gallery, workspace, options, one) -> None:
    port = gallery.url.rsplit(":", 1)[1]
    named = options(start_url=f"http://localhost:{port}", allow_private=(f"localhost:{port}",))
    assert crawl(workspace, named).stored == 3


def test_a_full_disk_under_the_frontier_stops_the_crawl_and_loses_nothing(
    gallery, workspace, options, monkeypatch
) -> None:
    from bolid.crawler import frontier
    from bolid.crawler.schema import connect
    from bolid.errors import WorkspaceError

    gallery.add("anna_petrova", 60, seed=1)

    def small(path: Path) -> sqlite3.Connection:
        database = connect(path)
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages + 3}")
        return database

    with monkeypatch.context() as patched:
        patched.setattr(frontier, "connect", small)
        with pytest.raises(WorkspaceError, match="full"):
            crawl(workspace, options())
    assert crawl(workspace, options()).stored == 60


def test_a_frontier_that_another_program_holds_is_said(gallery, workspace, options) -> None:
    from bolid.crawler.frontier import Frontier
    from bolid.errors import WorkspaceError

    opened = Frontier(workspace.frontier, "site", "site")
    opened.database.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(workspace.frontier, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WorkspaceError, match=r"locked.*run the same command again"):
        opened.release_all()
    other.execute("ROLLBACK")
    opened.release_all()
    other.close()
    opened.close()


def test_photos_on_their_way_share_one_memory(tmp_path, monkeypatch) -> None:
    """What arrives counts too: many slow photos together stay under the limit, the others go through the disk."""
    from bolid.crawler.store import Incoming, Memory

    monkeypatch.setattr("bolid.crawler.store.HELD", 1000)
    memory = Memory()
    photos = [Incoming(tmp_path, memory) for _ in range(5)]
    for photo in photos:
        photo.write(bytes(400))
    assert memory.held == 1200
    assert [photo.path is None for photo in photos] == [True, True, True, False, False]
    assert photos[0].to_disk() == hashlib.sha256(bytes(400)).hexdigest()
    assert memory.held == 800
    for photo in photos:
        photo.discard()
    assert (memory.held, list(tmp_path.iterdir())) == (0, [])


def test_a_gallery_without_end_costs_no_more_than_its_photos_may(gallery, workspace, options) -> None:
    """Every page shows the same photos and leads to a next one."""
    gallery.add("anna_petrova", 3, seed=1)

    async def page(request):
        place = int(request.query.get("page", "1"))
        thumbs = "".join(gallery.thumbnail(f"/photos/anna_petrova/pic-{n}.html") for n in range(3))
        return gallery.html(f'<h1>Anna</h1>{thumbs}<div class="listalka"><a href="?page={place + 1}">next</a></div>')

    gallery.override["/photos/anna_petrova/"] = page
    assert crawl(workspace, options(max_photos=7)).stored == 3
    assert sum(path.startswith("/photos/anna_petrova/?page") for path in gallery.asked) == 6
    database = sqlite3.connect(workspace.frontier)
    refused = database.execute("SELECT url, reason, value FROM pages WHERE state = 'rejected'").fetchall()
    database.close()
    assert refused == [(f"{gallery.url}/photos/anna_petrova/?page=8", "too_many_pages", 7.0)]
    # A larger number of photos looks further.
    crawl(workspace, options(max_photos=9))
    assert sum(path.startswith("/photos/anna_petrova/?page") for path in gallery.asked) == 8


def test_a_page_of_a_million_tags_is_refused_unparsed(gallery, workspace, options) -> None:
    """Parsed it would take a GB of memory and a minute in which nothing else happens."""
    gallery.add("anna_petrova", 3, seed=1)

    async def heavy(request):
        return web.Response(body=b"<i>x</i>" * 500_000, content_type="text/html")

    gallery.override["/photos/anna_petrova/pic-1.html"] = heavy
    assert crawl(workspace, options()).rejected == {"page_too_large": 1}

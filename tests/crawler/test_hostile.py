"""Servers that lie, refuse, redirect, stall or cut off: each ends as a row with a reason."""

import asyncio
import socket
import sqlite3
import time

import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl
from bolid.errors import LayoutError, PolicyError, SiteError


def rows(workspace, columns: str, table: str = "photos") -> list[tuple[object, ...]]:
    database = sqlite3.connect(workspace.frontier)
    found = database.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()
    database.close()
    return found


def replying(**response):
    async def reply(request):
        return web.Response(**response)

    return reply


def failing_first(gallery, times: int, **response):
    """Answers `response` some times, then as always."""
    left = [times]

    async def reply(request):
        left[0] -= 1
        return web.Response(**response) if left[0] >= 0 else gallery.normal(request)

    return reply


@pytest.fixture
def one(gallery):
    """A gallery of one person with three photos; returns the path of the second image."""
    gallery.add("anna_petrova", 3, seed=1)
    return "/img/anna_petrova/1.jpg"


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "not_found"), (410, "gone"), (403, "forbidden"), (451, "forbidden"), (400, "refused")]
)
def test_permanent_answers_are_asked_once(gallery, workspace, options, one, status, reason) -> None:
    gallery.override[one] = replying(status=status)
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected, summary.failed) == (2, {reason: 1}, {})
    assert gallery.photos_asked[one] == 1
    assert ("rejected", reason, float(status)) in rows(workspace, "state, reason, value")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_temporary_answers_are_asked_again_in_the_same_run(gallery, workspace, options, one, status) -> None:
    gallery.override[one] = failing_first(gallery, 2, status=status, headers={"Retry-After": "0"})
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected, summary.failed) == (3, {}, {})
    assert gallery.photos_asked[one] == 3


def test_what_keeps_failing_is_failed_and_tried_by_the_next_run(gallery, workspace, options, one) -> None:
    gallery.override[one] = replying(status=500)
    summary = crawl(workspace, options(tries=3))
    assert (summary.stored, summary.failed) == (2, {"http_500": 1})
    assert gallery.photos_asked[one] == 3
    del gallery.override[one]
    gallery.log.clear()
    assert crawl(workspace, options()).stored == 3
    assert gallery.photos_asked == {one: 1}


def test_a_body_shorter_than_its_length_is_asked_again(gallery, workspace, options, one) -> None:
    whole = gallery.person("anna_petrova").photos[1]

    async def cut(request):
        response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        request.transport.close()
        return response

    gallery.override[one] = cut
    assert crawl(workspace, options(tries=2)).failed == {"truncated": 1}
    assert gallery.photos_asked[one] == 2


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_a_photo_without_its_end_is_no_photo(gallery, workspace, options, one, photo, format) -> None:
    whole = photo(5, 120, 150, format)
    gallery.override[one] = replying(body=whole[:-20], content_type="image/x")
    assert crawl(workspace, options(tries=2)).failed == {"truncated": 1}
    gallery.override[one] = replying(body=whole, content_type="image/x")
    assert crawl(workspace, options()).stored == 3
    assert (120, 150, format) in rows(workspace, "width, height, format")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_bytes_after_the_end_mark_do_no_harm(gallery, workspace, options, one, photo, format) -> None:
    gallery.override[one] = replying(body=photo(5, 120, 150, format) + b"camera maker's note")
    assert crawl(workspace, options()).stored == 3


@pytest.mark.parametrize("body", [b"<html>no image</html>" * 9, b"GIF8", b"\xff\xd8\xff\xdb\x00\x04ab" + bytes(99)])
def test_what_is_no_image_is_refused(gallery, workspace, options, one, body) -> None:
    gallery.override[one] = replying(body=body, content_type="image/jpeg")
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (2, {"not_an_image": 1})


def test_a_bomb_is_refused_by_its_header(gallery, workspace, options, one) -> None:
    import struct

    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    gallery.override[one] = replying(body=header + bytes(5000))
    assert crawl(workspace, options()).rejected == {"too_many_pixels": 1}
    assert ("too_many_pixels", 3.6e9) in rows(workspace, "reason, value")


def test_a_photo_over_the_cap_is_refused_by_its_length(gallery, workspace, options, one) -> None:
    sent = []

    async def large(request):
        response = web.StreamResponse(headers={"Content-Length": str(10**9)})
        await response.prepare(request)
        sent.append(request.path)
        await asyncio.sleep(3600)

    gallery.override[one] = large
    summary = crawl(workspace, options(max_bytes=100_000))
    assert summary.rejected == {"too_large": 1}
    assert summary.bytes_saved == 10**9


def test_a_photo_over_the_cap_is_stopped_without_a_length(gallery, workspace, options, one, photo) -> None:
    async def endless(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(photo(5))
        while True:
            await response.write(bytes(10_000))

    gallery.override[one] = endless
    assert crawl(workspace, options(max_bytes=200_000)).rejected == {"too_large": 1}


def test_bytes_after_the_header_of_a_small_photo_are_saved(gallery, workspace, options, one, photo) -> None:
    head = photo(5, 90, 150)

    async def small(request):
        response = web.StreamResponse(headers={"Content-Length": str(10**7)})
        await response.prepare(request)
        await response.write(head)
        await asyncio.sleep(3600)

    gallery.override[one] = small
    summary = crawl(workspace, options())
    assert summary.rejected == {"too_small": 1}
    assert rows(workspace, "reason, value, threshold, received, saved")[1] == (
        "too_small", 90.0, 100.0, len(head), 10**7 - len(head),
    )  # fmt: skip


@pytest.mark.parametrize(("hops", "reason"), [(5, None), (6, "too_many_redirects")])
def test_five_redirects_and_no_more(gallery, workspace, options, one, hops, reason) -> None:
    async def hop(request):
        place = int(request.query.get("hop", "0"))
        if place == hops:
            return gallery.normal(request)
        return web.Response(status=302, headers={"Location": f"{one}?hop={place + 1}"})

    gallery.override[one] = hop
    summary = crawl(workspace, options())
    assert summary.rejected == ({reason: 1} if reason else {})
    assert summary.stored == (2 if reason else 3)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "bad_redirect"),
        ("ftp://127.0.0.1/x.jpg", "bad_redirect"),
        ("http://user:word@127.0.0.1/x.jpg", "bad_redirect"),
        ("http://127.0.0.1:9/x.jpg", "private_address"),
        ("http://169.254.169.254/latest/meta-data/", "private_address"),
        ("http://[::1]/x.jpg", "private_address"),
        ("http://[::ffff:10.0.0.1]/x.jpg", "private_address"),
        ("http://localhost:9/x.jpg", "private_address"),
        ("http://2130706433:9/x.jpg", "private_address"),
        ("http://127.1:9/x.jpg", "private_address"),
        ("http://0x7f.0.0.1:9/x.jpg", "private_address"),
        ("http://0:9/x.jpg", "private_address"),
        ("http://[64:ff9b::7f00:1]/x.jpg", "private_address"),
    ],
)
def test_a_redirect_leads_nowhere_private(gallery, workspace, options, one, location, reason) -> None:
    gallery.override[one] = replying(status=302, headers={"Location": location})
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (2, {reason: 1})


def test_a_name_that_resolves_into_a_private_network_is_refused(gallery, workspace, options, one, monkeypatch) -> None:
    """The answer of the resolver is what is connected to, so that a second answer cannot differ."""
    import aiohttp

    asked = []

    async def resolve(self, host, port=0, family=0):
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)
    port = gallery.url.rsplit(":", 1)[1]

    async def rebound(request):
        return gallery.html(f'<img class="pic big_pic" src="http://images.example:{port}{one}">')

    gallery.override["/photos/anna_petrova/pic-1.html"] = rebound
    summary = crawl(workspace, options(contact="me@example.org"))
    assert (summary.stored, summary.rejected) == (2, {"private_address": 1})
    assert asked == ["images.example"]
    # The same name is connected to once the user allows it.
    allowed = options(allow_private=(gallery.host_port, f"images.example:{port}"), contact="me@example.org")
    assert crawl(workspace, allowed).stored == 3


def test_an_idle_server_costs_its_time_out(gallery, workspace, options, one) -> None:
    async def silent(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await asyncio.sleep(3600)

    gallery.override[one] = silent
    summary = crawl(workspace, options(idle_timeout_s=0.2, tries=1))
    assert (summary.stored, summary.failed) == (2, {"timeout": 1})


def test_a_server_that_hangs_up_is_a_temporary_failure(gallery, workspace, options, one) -> None:
    async def drop(request):
        request.transport.abort()
        return web.Response()

    gallery.override[one] = drop
    assert crawl(workspace, options(tries=2)).failed == {"connection": 1}


def test_pages_stay_on_the_hosts_of_the_site(gallery, workspace, options, server) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    elsewhere = server.start(type(gallery)())

    async def away(request):
        return web.Response(status=302, headers={"Location": f"{elsewhere.url}/photos/anna_petrova/pic-1.html"})

    gallery.override["/photos/anna_petrova/pic-1.html"] = away
    summary = crawl(workspace, options(allow_private=(gallery.host_port, elsewhere.host_port)))
    assert summary.rejected == {"off_site": 1}
    assert elsewhere.log == []


def test_images_may_lie_on_another_host_with_rules_of_its_own(gallery, workspace, options, server) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    images = server.start(type(gallery)(people=gallery.people, robots="User-agent: bolid\nDisallow: /img/*/0.jpg"))
    for n in (0, 1):

        async def page(request, n=n):
            return gallery.html(f'<img class="pic big_pic" src="{images.url}/img/anna_petrova/{n}.jpg">')

        gallery.override[f"/photos/anna_petrova/pic-{n}.html"] = page
    summary = crawl(workspace, options(allow_private=(gallery.host_port, images.host_port)))
    assert (summary.stored, summary.rejected) == (1, {"robots": 1})
    assert images.asked == {"/robots.txt": 1, "/.well-known/tdmrep.json": 1, "/img/anna_petrova/1.jpg": 1}


# --- the whole site ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/photos/", "/photos/?letter=a", "/photos/anna_petrova/"])
def test_a_page_that_fits_no_selector_is_an_error(gallery, workspace, options, one, path) -> None:
    gallery.override[path] = replying(text="<html><body><h1>New!</h1></body></html>", content_type="text/html")
    with pytest.raises(LayoutError, match="theplace"):
        crawl(workspace, options())


def test_an_empty_page_of_a_person_among_others_is_an_error_but_the_others_are_stored(
    gallery, workspace, options, one
) -> None:
    gallery.add("boris_ivanov", 2, seed=2)
    gallery.override["/photos/boris_ivanov/"] = replying(text="<h1>Борис</h1>", content_type="text/html")
    with pytest.raises(LayoutError, match="boris_ivanov"):
        crawl(workspace, options())
    assert len(list(workspace.images.rglob("*.jpg"))) == 3
    del gallery.override["/photos/boris_ivanov/"]
    assert crawl(workspace, options()).stored == 5


def test_a_crawl_stops_when_no_picture_page_fits(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 40, seed=1)
    gallery.per_page = 40
    for n in range(40):
        page = replying(text="<img class=other src=x.jpg>", content_type="text/html")
        gallery.override[f"/photos/anna_petrova/pic-{n}.html"] = page
    with pytest.raises(LayoutError, match="picture"):
        crawl(workspace, options(concurrency=1))
    assert sum(path.endswith(".html") for path in gallery.asked) == 5


def test_a_start_page_that_is_not_there(gallery, workspace, options, one) -> None:
    gallery.override["/photos/"] = replying(status=404)
    with pytest.raises(SiteError, match="not_found"):
        crawl(workspace, options())
    del gallery.override["/photos/"]
    assert crawl(workspace, options()).stored == 3


def test_a_site_that_is_down(workspace, options) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(SiteError, match="run the same command again"):
            crawl(workspace, options(start_url=f"http://{where}", allow_private=(where,), tries=2))


def test_robots_refuse_the_site(gallery, workspace, options, one) -> None:
    gallery.robots = "User-agent: *\nDisallow: /photos/"
    with pytest.raises(PolicyError, match=r"robots\.txt"):
        crawl(workspace, options())
    assert gallery.asked == {"/robots.txt": 1}


def test_robots_that_cannot_be_read_refuse_everything_for_now(gallery, workspace, options, one) -> None:
    gallery.override["/robots.txt"] = replying(status=500)
    with pytest.raises(SiteError, match="robots"):
        crawl(workspace, options(tries=2))
    assert gallery.asked.keys() == {"/robots.txt"}
    del gallery.override["/robots.txt"]
    assert crawl(workspace, options(backoff_s=0)).stored == 3


def test_robots_are_asked_for_once_a_day(gallery, workspace, options, one) -> None:
    gallery.robots = "User-agent: *\nAllow: /"
    crawl(workspace, options())
    gallery.add("boris_ivanov", 2, seed=2)
    crawl(workspace, options(start_url=f"{gallery.url}/photos/boris_ivanov/"))
    assert gallery.asked["/robots.txt"] == 1
    database = sqlite3.connect(workspace.frontier)
    database.execute("UPDATE hosts SET robots_at = ?", (time.time() - 25 * 3600,))
    database.commit()
    database.close()
    gallery.add("clara_lee", 2, seed=3)
    crawl(workspace, options(start_url=f"{gallery.url}/photos/clara_lee/"))
    assert gallery.asked["/robots.txt"] == 2


def test_the_crawler_says_who_it_is(gallery, workspace, options, one) -> None:
    from bolid import __version__

    crawl(workspace, options(contact="me@example.org"))
    assert {headers["User-Agent"] for _, headers in gallery.log} == {f"bolid/{__version__} (+me@example.org)"}


def test_a_live_crawl_needs_a_contact(workspace, options) -> None:
    with pytest.raises(PolicyError, match="--contact"):
        crawl(workspace, options(start_url=None))
    with pytest.raises(PolicyError, match="--contact"):
        crawl(workspace, options(start_url="https://photos.example/"))
    assert not workspace.root.exists()


def test_a_crawl_of_this_machine_without_contact_asks_no_live_host(gallery, workspace, options, one) -> None:
    gallery.override[one] = replying(status=302, headers={"Location": "http://photos.example/x.jpg"})
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (2, {"no_contact": 1})
    # With a contact it is asked for, and here it is not found.
    assert crawl(workspace, options(contact="me@example.org", tries=1)).failed == {"dns": 1}


def test_a_private_start_needs_permission(gallery, workspace, options) -> None:
    with pytest.raises(PolicyError, match=f"--allow-private {gallery.host_port}"):
        crawl(workspace, options(allow_private=()))
    assert gallery.log == []

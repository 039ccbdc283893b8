"""Opt-outs: the table of headers that other crawlers read wrongly, meta elements, and the list of suppressed things."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl
from bolid.crawler.optout import header_refusal
from bolid.crawler.suppress import read_suppression
from bolid.crawler.tdmrep import Reservations, fits, reserved
from bolid.errors import ConfigError, SiteError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        (["noai"], "noai"),
        (["NoAI"], "noai"),
        (["noimageai"], "noimageai"),
        (["noml"], "noml"),
        (["all", "noai"], "noai"),
        (["max-snippet: 0, noai"], "noai"),
        (["max-snippet:0,max-image-preview:large, noimageai"], "noimageai"),
        (["max-image-preview: none"], None),
        (["otherbot: max-image-preview: none"], None),
        (["max-snippet: 0 noai"], "noai"),
        (["unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT, noai"], "noai"),
        (["unavailable_after: 25 Jun 2031 15:00:00 GMT, noai"], "noai"),
        (["unavailable_after: 2031-06-25T15:00:00Z noai"], "noai"),
        (["unavailable_after: Wednesday, 25-Jun-31 15:00:00 GMT"], None),
        (["unavailable_after: Wed, 25 Jun 2025 15:00:00 GMT"], "unavailable_after"),
        (["unavailable_after: 2025-06-25"], "unavailable_after"),
        (["unavailable_after: 2031-06-25"], None),
        (["unavailable_after: soon"], None),
        (["otherbot: unavailable_after: 2025-06-25"], None),
        (["otherbot: noindex, noai"], None),
        (["otherbot: noindex", "noai"], "noai"),
        (["otherbot: noai, bolid: noai"], "noai"),
        (["bolid: all, otherbot: noai"], None),
        (["Bolid : noai"], "noai"),
        (["bolid/1.0: noai"], "noai"),
        (["bolidus: noai"], None),
        (["*: noai"], "noai"),
        (["none"], "none"),
        (["noindex"], "noindex"),
        (["noimageindex"], "noimageindex"),
        (["index, follow"], None),
        (["nofollow, noarchive, nosnippet, notranslate"], None),
        (["noai noimageai"], "noai"),
        (["nofollow; noai"], "noai"),
        (["noai: true"], "noai"),
        (['"noai"'], "noai"),
        (["unavailable_after: 25 Jun 2031, 10:00:00 GMT, noai"], "noai"),
        (["unavailable_after: Wed, 25 Jun 99999999999999999999 15:00:00 GMT"], None),
        (["googlebot: max-snippet: 20, max-image-preview: large, noai"], None),
        (["", " , ,"], None),
        ([], None),
    ],
)
def test_x_robots_tag(lines, refusal) -> None:
    assert header_refusal(lines, NOW) == refusal


@pytest.mark.parametrize(("value", "found"), [("1", True), (" 1 ", True), ("0", False), (None, False), ("x", True)])
def test_tdm_reservation(value, found) -> None:
    assert reserved(value) is found


@pytest.fixture
def one(gallery):
    gallery.add("anna_petrova", 3, seed=1)
    return "/img/anna_petrova/1.jpg"


def opted_out(gallery, headers):
    async def reply(request):
        response = gallery.normal(request)
        for name, value in headers:
            response.headers.add(name, value)
        return response

    return reply


@pytest.mark.parametrize("path", ["/img/anna_petrova/1.jpg", "/photos/anna_petrova/pic-1.html"])
@pytest.mark.parametrize(
    "headers",
    [
        [("X-Robots-Tag", "noarchive"), ("X-Robots-Tag", "NoAI")],
        [("tdm-reservation", "1")],
    ],
)
def test_headers_refuse_a_photo(gallery, workspace, options, one, path, headers) -> None:
    gallery.override[path] = opted_out(gallery, headers)
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (2, {"opt_out": 1})
    gallery.log.clear()
    crawl(workspace, options())
    assert gallery.log == []


@pytest.mark.parametrize(
    ("name", "content", "refused"),
    [
        ("robots", "noai, noimageai", True),
        ("ROBOTS", "NOINDEX", True),
        ("bolid", "noai", True),
        ("otherbot", "noai", False),
        ("tdm-reservation", "1", True),
        ("tdm-reservation", "0", False),
        ("robots", "index, max-image-preview:large", False),
    ],
)
def test_meta_elements_refuse_a_photo(gallery, workspace, options, one, name, content, refused) -> None:
    async def page(request):
        return gallery.html(f'<meta name="{name}" content="{content}"><img class="pic big_pic" src="{one}">')

    gallery.override["/photos/anna_petrova/pic-1.html"] = page
    assert crawl(workspace, options()).rejected == ({"opt_out": 1} if refused else {})
    assert gallery.photos_asked[one] == (0 if refused else 1)


@pytest.mark.parametrize(("tag", "stored"), [("noai", 0), ("noindex", 3)])
def test_a_gallery_page_refuses_its_identity_when_it_names_ai(gallery, workspace, options, one, tag, stored) -> None:
    """Galleries are often kept from search engines; the pictures then speak for themselves."""
    gallery.override["/photos/anna_petrova/"] = opted_out(gallery, [("X-Robots-Tag", tag)])
    summary = crawl(workspace, options())
    assert summary.stored == stored
    assert (summary.identities_rejected == {"opt_out": 1}) is (stored == 0)


def test_an_opt_out_on_a_redirect_counts(gallery, workspace, options, one) -> None:
    async def away(request):
        headers = {"Location": f"{one}?moved", "X-Robots-Tag": "noai"}
        return gallery.normal(request) if "moved" in request.query_string else web.Response(status=302, headers=headers)

    gallery.override[one] = away
    assert crawl(workspace, options()).rejected == {"opt_out": 1}


# --- tdmrep.json ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "fitting"),
    [
        ("/", "/img/1.jpg", True),
        ("/img/", "/img/1.jpg", True),
        ("/img/", "/image/1.jpg", False),
        ("/*.jpg", "/img/1.jpg", True),
        ("/*.jpg", "/img/1.jpg?size=2", True),
        ("/*.jpg$", "/img/1.jpg?size=2", False),
        ("/*.jpg$", "/img/1.jpg.jpg", True),
        ("/img/1.jpg$", "/img/1.jpg", True),
        ("/img/1$", "/img/1.jpg", False),
        ("*", "/anything", True),
        ("/a*b*a$", "/aba", True),
        ("/a*a$", "/a", False),
        ("/ж", "/ж/1.jpg", True),
        ("", "/img/1.jpg", True),
        ("/" + "*a" * 2000 + "$", "/" + "a" * 4000 + "b", False),
    ],
)
def test_locations_of_a_tdmrep_file(pattern, path, fitting) -> None:
    assert fits(pattern, path) is fitting


@pytest.mark.parametrize(
    ("rules", "reserved_"),
    [
        ([{"location": "/", "tdm-reservation": 1}], True),
        ([{"location": "/", "tdm-reservation": "1"}], True),
        ({"location": "/", "tdm-reservation": 1}, True),
        ([{"location": "/", "tdm-reservation": 0}], False),
        ([{"location": "/other/", "tdm-reservation": 1}], False),
        ([{"location": "/img/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], False),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/img/", "tdm-reservation": 0}], True),
        ([{"location": "/", "tdm-reservation": 0}, {"location": "/img/", "tdm-reservation": 1}], True),
        ([{"location": "/img/%D0%B6", "tdm-reservation": 1}, {"location": "/img/", "tdm-reservation": 0}], True),
        ([{"location": "/", "tdm-reservation": 1.0}], True),
        ([{"location": "/", "tdm-reservation": False}], False),
        ([{"location": "/"}], False),
        ([{"location": 5, "tdm-reservation": 1}, "nonsense", {}], False),
        ("nonsense", False),
    ],
)
def test_rules_of_a_tdmrep_file(rules, reserved_) -> None:
    body = json.dumps(rules).encode()
    assert Reservations(200, body).reserves("https://x.example/img/ж/1.jpg") is reserved_
    assert Reservations(200, b"\xef\xbb\xbf" + body).reserves("https://x.example/img/ж/1.jpg") is reserved_
    assert not Reservations(404, body).reserves("https://x.example/img/ж/1.jpg")


@pytest.mark.parametrize(
    ("location", "path", "reserved_"),
    [
        ("/path/foo-%24", "/path/foo-$", True),  # the example of the specification, 6.2.1
        ("/path/foo-%24", "/path/foo-", False),
        ("/path/foo-%2A", "/path/foo-*", True),
        ("/path/foo-%2A", "/path/foo-bar", False),
        ("/a$b", "/a$b/c", True),
        ("/a%62c$", "/abc", True),
    ],
)
def test_encoded_signs_in_a_location_are_no_patterns(location, path, reserved_) -> None:
    body = json.dumps([{"location": location, "tdm-reservation": 1}]).encode()
    assert Reservations(200, body).reserves(f"https://x.example{path}") is reserved_


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_tdmrep_file_of_rubbish_reserves_nothing(body) -> None:
    assert not Reservations(200, body).reserves("https://x.example/")


def reserving(gallery, *locations: str) -> None:
    async def file(request):
        return web.json_response([{"location": each, "tdm-reservation": 1} for each in locations])

    gallery.override["/.well-known/tdmrep.json"] = file


def test_a_tdmrep_file_refuses_and_is_asked_for_once_a_day(gallery, workspace, options, one) -> None:
    reserving(gallery, "/img/anna_petrova/1.jpg")
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (2, {"opt_out": 1})
    crawl(workspace, options(refresh=True))
    assert gallery.asked["/.well-known/tdmrep.json"] == 1


@pytest.mark.parametrize(("value", "stored"), [("0", 3), ("1", 2)])
def test_a_header_overrules_the_tdmrep_file(gallery, workspace, options, one, value, stored) -> None:
    reserving(gallery, one)
    gallery.override[one] = opted_out(gallery, [("TDM-Reservation", value)])
    assert crawl(workspace, options()).stored == stored


def test_a_reservation_is_remembered_while_many_other_hosts_are_asked(
    gallery, workspace, options, server, monkeypatch
) -> None:
    """The answer comes when the host has left the memory for others."""
    import asyncio

    import pyarrow.parquet as pq

    monkeypatch.setattr("bolid.crawler.hosts.MAX_KNOWN", 1)
    gallery.add("anna_petrova", 12, seed=1)
    gallery.per_page = 12
    images = server.start(type(gallery)(people=gallery.people))
    reserving(images, "/img/anna_petrova/0.jpg")

    async def slow(request):
        await asyncio.sleep(0.3 if request.path.startswith("/img/") else 0)

    async def page(request):
        number = request.path.rpartition("-")[2].removesuffix(".html")
        return gallery.html(f'<img class="pic big_pic" src="{images.url}/img/anna_petrova/{number}.jpg">')

    images.before = slow
    for n in (0, 1):
        gallery.override[f"/photos/anna_petrova/pic-{n}.html"] = page
    allowed = (gallery.host_port, images.host_port)
    summary = crawl(workspace, options(allow_private=allowed, concurrency=2, rate=100))
    assert (summary.stored, summary.rejected) == (11, {"opt_out": 1})
    assert {row["robots"] for row in pq.read_table(workspace.images_table).to_pylist()} == {
        "allowed: no robots.txt (404)"
    }


def test_a_tdmrep_file_may_reserve_a_person(gallery, workspace, options, one) -> None:
    reserving(gallery, "/photos/anna_petrova/")
    summary = crawl(workspace, options())
    assert (summary.stored, summary.identities_rejected) == (0, {"opt_out": 1})
    assert sum(gallery.photos_asked.values()) == 0


def test_a_tdmrep_file_that_cannot_be_read_refuses_everything_for_now(gallery, workspace, options, one) -> None:
    async def broken(request):
        return web.Response(status=500)

    gallery.override["/.well-known/tdmrep.json"] = broken
    with pytest.raises(SiteError, match="tdmrep"):
        crawl(workspace, options(tries=2))
    assert gallery.asked.keys() == {"/robots.txt", "/.well-known/tdmrep.json"}
    del gallery.override["/.well-known/tdmrep.json"]
    assert crawl(workspace, options(backoff_s=0)).stored == 3


def test_a_tdmrep_file_that_robots_refuse_is_not_asked_for(gallery, workspace, options, one) -> None:
    gallery.robots = "User-agent: *\nDisallow: /.well-known/"
    assert crawl(workspace, options()).stored == 3
    assert gallery.asked["/.well-known/tdmrep.json"] == 0


# --- suppress.txt -----------------------------------------------------------------------------------------------


def suppress(workspace, *lines: str) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    (workspace.root / "suppress.txt").write_text("\n".join(lines), encoding="utf-8")


def files(workspace) -> set[str]:
    return {file.stem for file in workspace.images.rglob("*.jpg")}


def test_what_is_suppressed_is_not_asked_for(gallery, workspace, options, one) -> None:
    gallery.add("boris_ivanov", 3, seed=2)
    gallery.add("clara_lee", 3, seed=3)
    third = hashlib.sha256(gallery.person("clara_lee").photos[2]).hexdigest()
    suppress(workspace, "# people", "boris_ivanov", "", f"{gallery.url}{one}",
             f"{gallery.url}/photos/clara_lee/pic-0.html", third.upper())  # fmt: skip
    summary = crawl(workspace, options())
    assert (summary.identities, summary.stored, summary.rejected) == (2, 3, {"suppressed": 3})
    assert summary.identities_rejected == {"suppressed": 1}
    assert not [path for path in gallery.asked if "boris" in path]
    assert gallery.photos_asked[one] == 0
    assert gallery.asked["/photos/clara_lee/pic-0.html"] == 0
    assert third not in files(workspace)


def test_what_is_suppressed_later_is_removed_and_comes_back_when_it_is_not(gallery, workspace, options, one) -> None:
    boris = gallery.add("boris_ivanov", 3, seed=2)
    shared = gallery.person("anna_petrova").photos[0]
    boris.photos.append(shared)
    everything = {hashlib.sha256(p).hexdigest() for p in boris.photos + gallery.person("anna_petrova").photos}
    crawl(workspace, options())
    assert files(workspace) == everything
    gallery.log.clear()
    suppress(workspace, "boris_ivanov")
    summary = crawl(workspace, options())
    assert gallery.log == []
    # The photo that Anna has too stays, with her row alone.
    assert files(workspace) == everything - {hashlib.sha256(photo).hexdigest() for photo in boris.photos[:3]}
    assert (summary.identities, summary.stored, summary.rejected) == (1, 3, {"suppressed": 4})
    suppress(workspace)
    summary = crawl(workspace, options())
    assert (summary.identities, summary.offered, summary.stored, summary.duplicates) == (2, 7, 6, 1)
    assert files(workspace) == everything


def test_a_suppressed_hash_goes_wherever_it_is(gallery, workspace, options, one) -> None:
    crawl(workspace, options())
    gone = hashlib.sha256(gallery.person("anna_petrova").photos[1]).hexdigest()
    suppress(workspace, gone)
    assert crawl(workspace, options()).stored == 2
    assert gone not in files(workspace)
    assert len(files(workspace)) == 2


def test_a_redirect_to_what_is_suppressed_is_not_followed(gallery, workspace, options, one) -> None:
    other = "/img/anna_petrova/2.jpg"
    suppress(workspace, gallery.url + other)

    async def away(request):
        return web.Response(status=302, headers={"Location": other})

    gallery.override[one] = away
    summary = crawl(workspace, options())
    assert (summary.stored, summary.rejected) == (1, {"suppressed": 2})
    assert gallery.photos_asked[other] == 0


def test_a_wrong_line_is_named(workspace) -> None:
    suppress(workspace, "anna", "ftp://site.example/x")
    with pytest.raises(ConfigError, match=r"line 2: ftp://site\.example/x"):
        read_suppression(workspace.root)

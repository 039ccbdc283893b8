"""What no server should send: bytes in headers, encodings of Python, broken files; one row each, never an end."""

import io
import random
import struct

import aiohttp
import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl
from bolid.crawler.outcome import Failure, Rejection
from bolid.crawler.probe import TAIL_BYTES, Probe, Size, has_end
from bolid.crawler.whole import look_closer
from bolid.errors import LayoutError, SiteError
from PIL import Image

FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "AVIF"]


@pytest.fixture
def elsewhere(server, gallery, options):
    """Serves one photo of three by raw bytes; returns the options of a crawl that may ask for it."""

    def serve(answer: bytes, **changes):
        async def conversation(writer):
            writer.write(answer)

        where = server.speak(conversation)
        gallery.add("anna_petrova", 3, seed=1)

        async def page(request):
            return gallery.html(f'<img class="pic big_pic" src="http://{where}/x.jpg">')

        gallery.override["/photos/anna_petrova/pic-1.html"] = page
        return options(allow_private=(gallery.host_port, where), tries=1, **changes)

    return serve


FAR = b"Wed, 21 Oct 99999999999999999999 07:28:00 GMT"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"302 Found\r\nLocation: ftp://x/\xff\xfe", {"bad_redirect": 1}),
        (b"302 Found\r\nLocation: http://[::1", {"bad_redirect": 1}),
        (b"429 Too Many\r\nRetry-After: " + FAR, {"http_429": 1}),
        (b"429 Too Many\r\nRetry-After: " + b"9" * 5000, {"http_429": 1}),
        (b"200 OK\r\nX-Robots-Tag: unavailable_after: " + FAR, {"truncated": 1}),
        (b"200 OK\r\nContent-Type: \xff/;;charset=\xff", {"truncated": 1}),
        (b"206 Partial\r\nContent-Range: \xff\xfe", {"http_206": 1}),
        (b"304 Not Modified", {"http_304": 1}),
        (b"101 Switching\r\nUpgrade: x\r\nConnection: upgrade", {"http_101": 1}),
        (b"999 \xff\xfe", {"http_999": 1}),
    ],
)
def test_headers_of_rubbish_are_one_row(elsewhere, workspace, answer, outcome) -> None:
    summary = crawl(workspace, elsewhere(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\n\r\n"))
    assert (summary.stored, summary.rejected | summary.failed) == (2, outcome)


def test_a_validator_that_is_no_text_does_no_harm(elsewhere, workspace, photo) -> None:
    body = photo(5)
    head = b'HTTP/1.1 200 OK\r\nETag: "\xff\xfe"\r\nLast-Modified: \xff\r\nContent-Length: %d\r\n\r\n' % len(body)
    assert crawl(workspace, elsewhere(head + body)).stored == 3


def test_headers_without_end_are_cut_off(server, gallery, workspace, options) -> None:
    sent = []

    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while len(sent) < 50_000:
            sent.append(None)
            writer.write(b"X-A: " + b"b" * 1000 + b"\r\n")
            await writer.drain()

    where = server.speak(endless)
    gallery.add("anna_petrova", 1, seed=1)

    async def page(request):
        return gallery.html(f'<img class="pic big_pic" src="http://{where}/x.jpg">')

    gallery.override["/photos/anna_petrova/pic-0.html"] = page
    summary = crawl(workspace, options(allow_private=(gallery.host_port, where), tries=1))
    assert summary.failed == {"connection": 1}
    assert len(sent) < 50_000


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "a..b", "x" * 300])
def test_a_name_that_is_none_is_one_row(gallery, workspace, options, monkeypatch, name) -> None:
    """The resolver of Python raises a UnicodeError for these."""
    monkeypatch.setattr("aiohttp.DefaultResolver", aiohttp.ThreadedResolver)
    gallery.add("anna_petrova", 3, seed=1)

    async def away(request):
        return web.Response(status=302, headers={"Location": f"http://{name}/x.jpg"})

    gallery.override["/img/anna_petrova/1.jpg"] = away
    summary = crawl(workspace, options(contact="me@example.org", tries=1))
    assert (summary.stored, summary.failed) == (2, {"dns": 1})


def test_a_redirect_in_an_old_encoding_is_followed(elsewhere, gallery, workspace) -> None:
    """A raw byte that is no UTF-8 stands for itself (WHATWG URL), as browsers have it."""
    target = f"{gallery.url}/img/anna_petrova/2.jpg?moved=".encode() + b"\xf4\xee"
    answer = b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n"
    assert crawl(workspace, elsewhere(answer)).failed == {}
    assert gallery.photos_asked["/img/anna_petrova/2.jpg?moved=%F4%EE"] == 1


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"])
def test_encodings_of_python_are_none_of_pages(gallery, workspace, options, charset) -> None:
    gallery.add("anna_petrova", 3, seed=1)

    async def page(request):
        return web.Response(body=b"<p>\\ud800 +2AA- \xff", headers={"Content-Type": f"text/html; charset={charset}"})

    gallery.override["/photos/anna_petrova/pic-1.html"] = page
    with pytest.raises(LayoutError, match=r"pic-1\.html"):
        crawl(workspace, options())
    assert len(list(workspace.images.rglob("*.jpg"))) == 2


def test_unchanged_is_no_answer_to_a_question_without_condition(gallery, workspace, options) -> None:
    """A page that was never read cannot be unchanged: this would be an empty success."""

    async def unchanged(request):
        return web.Response(status=304)

    gallery.override["/photos/"] = unchanged
    with pytest.raises(SiteError, match="http_304"):
        crawl(workspace, options(tries=1))


# --- files ------------------------------------------------------------------------------------------------------


def encoded(format: str, **options: object) -> bytes:
    pixels = random.Random(7).randbytes(40 * 40 * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (40, 40), pixels).resize((64, 48)).save(out, format, **options)
    return out.getvalue()


def looks_whole(data: bytes, size: Size) -> bool:
    try:
        if not has_end(size, data[:12], data[-TAIL_BYTES:], len(data)):
            look_closer(io.BytesIO(data), size.format)
    except (Rejection, Failure):
        return False
    return True


@pytest.mark.parametrize("format", FORMATS)
def test_no_beginning_of_a_file_passes_for_the_whole(format) -> None:
    """Cut anywhere before its last two bytes (of a JPEG all pixels are there then)."""
    data = encoded(format)
    size = Size(format, 64, 48)
    assert looks_whole(data, size)
    assert not [cut for cut in range(12, len(data) - 2) if looks_whole(data[:cut], size)]


def test_no_beginning_of_an_animation_passes_for_the_whole() -> None:
    """Pillow reads the first picture and is content."""
    frames = [Image.frombytes("RGB", (20, 20), random.Random(n).randbytes(1200)).resize((64, 48)) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    data, size = out.getvalue(), Size("GIF", 64, 48)
    assert looks_whole(data, size)
    assert looks_whole(data + b"made by a camera", size)
    assert not [cut for cut in range(12, len(data) - 1) if looks_whole(data[:cut], size)]


@pytest.mark.parametrize("format", FORMATS)
def test_random_damage_of_a_file_ends_in_an_outcome(format) -> None:
    """Whatever a decoder makes of it: whole, a Rejection or a Failure, and never another exception."""
    data, chance = encoded(format), random.Random(format)
    found = set()
    for _ in range(300):
        damaged = bytearray(data[: chance.randrange(13, len(data))])
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(12, len(damaged))] = chance.randrange(256)
        found.add(looks_whole(bytes(damaged), Size(format, 64, 48)))
    assert False in found


def test_a_frame_larger_than_its_header_says_is_a_bomb(gallery, workspace, options) -> None:
    """200 x 200 by its screen, 65535 x 65535 by its first image."""
    screen = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
    with pytest.raises(Rejection, match="too_many_pixels"):
        Probe().feed(screen + bytes(100))
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    second = jpeg[at : at + 5] + struct.pack(">HH", 65_000, 65_000) + jpeg[at + 9 : at + 19]
    bomb = bytes(jpeg[: at + 19] + second + jpeg[at + 19 : -2])
    assert Probe().feed(bomb) == Size("JPEG", 64, 48)
    gallery.add("anna_petrova", 3, seed=1)

    async def answer(request):
        return web.Response(body=bomb)

    gallery.override["/img/anna_petrova/1.jpg"] = answer
    summary = crawl(workspace, options(min_res=40))
    assert (summary.stored, summary.rejected) == (2, {"too_many_pixels": 1})


@pytest.mark.parametrize("stray", [b"\xff\x00", b"abc", b"\0" * 40])
def test_stray_bytes_between_segments_are_passed_over_as_pillow_does(stray) -> None:
    data = encoded("JPEG")
    strange = data[:20] + stray + data[20:]
    assert Image.open(io.BytesIO(strange)).size == (64, 48)
    for piece in (1, 1000):
        probe, size = Probe(), None
        for at in range(0, len(strange), piece):
            size = size or probe.feed(strange[at : at + piece])
        assert size == Size("JPEG", 64, 48)

"""Site definitions: what is wrong is said with its key; pages are read as the definition says."""

import pytest
from bolid.crawler.definition import definition_text, load_definition, parse_definition, shipped_sites
from bolid.crawler.extract import Document, decode, gallery, listing, picture, require_photos
from bolid.crawler.outcome import Failure
from bolid.crawler.site import Site
from bolid.errors import ConfigError

MINIMAL = """
name = "plain"
title = "A plain gallery"
start = "https://plain.example/people/"
hosts = ["plain.example"]

[[pages]]
kind = "list"
links = [{ to = "person", selectors = ["a.person[href]"] }]
next = { selectors = ["a[rel=next]"] }

[[pages]]
kind = "person"
identity = { slug = '^/p/([^/]+)', name = { selectors = ["h1"] }, count = { selectors = [".n"], pattern = '(\\d+)' } }
photos = { to = "image", selectors = ["a.full[href]"], size = '(\\d+)x(\\d+)' }
"""


def bound(start: str | None = None) -> Site:
    return Site.bind(parse_definition(MINIMAL, "plain.toml"), start)


@pytest.mark.parametrize("name", shipped_sites())
def test_shipped_definitions_load(name) -> None:
    assert load_definition(name).name == name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('to = "person"', 'to = "persn"', r"unknown kind 'persn'; did you mean 'person'\?"),
        ('selectors = ["h1"]', 'selectrs = ["h1"]', r"pages\.1\.identity\.name\.selectrs'; did you mean 'selectors'\?"),
        ('"a.full[href]"', '"a.full[href"', r"pages\.1\.photos\.selectors\.0'.*not a CSS selector"),
        ("'^/p/([^/]+)'", "'^/p/[^/]+'", r"pages\.1\.identity\.slug'.*exactly one group"),
        ("'^/p/([^/]+)'", "'^/p/(['", r"pages\.1\.identity\.slug'.*not a regular expression"),
        ('title = "A plain gallery"', "", "the key 'title' is missing"),
        ('start = "https:', 'start = "ftp:', "'start' must be an http or https address"),
        ('hosts = ["plain.example"]', 'hosts = ["https://plain.example"]', r"hosts\.0'.*without scheme"),
        ('to = "image"', 'to = "picture"', r"\[picture\] is missing"),
        ('"a.full[href]"', "", r"pages\.1\.photos\.selectors'.*at least 1"),
        ('name = "plain"', 'name = "plain', "not valid TOML"),
        ('kind = "list"', 'kind = "person"', "two page kinds have the same name"),
    ],
)
def test_what_is_wrong_is_named(old, new, message) -> None:
    assert old in MINIMAL
    with pytest.raises(ConfigError, match=message) as caught:
        parse_definition(MINIMAL.replace(old, new), "plain.toml")
    assert str(caught.value).startswith("plain.toml")


def test_a_name_that_is_not_shipped() -> None:
    with pytest.raises(ConfigError, match="did you mean 'theplace'"):
        load_definition("theplce")
    with pytest.raises(ConfigError, match="cannot read"):
        load_definition("/nowhere/site.toml")


def test_a_definition_from_a_file(tmp_path) -> None:
    file = tmp_path / "copy.toml"
    file.write_text(definition_text("theplace"), encoding="utf-8")
    assert load_definition(str(file)) == load_definition("theplace")


@pytest.mark.parametrize(
    ("start", "address", "kind"),
    [
        (None, "https://www.theplace.ru/photos/", "index"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/photos/", "index"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/photos/", "index"),
        ("http://127.0.0.1:8000/photos/tom_hardy/", "http://127.0.0.1:8000/photos/tom_hardy/", "person"),
        ("http://127.0.0.1:8000/photos/?s_id=1", "http://127.0.0.1:8000/photos/?s_id=1", "index"),
    ],
)
def test_where_a_crawl_starts(start, address, kind) -> None:
    site = Site.bind(load_definition("theplace"), start)
    assert (site.start, site.kind) == (address, kind)


@pytest.mark.parametrize("start", ["theplace.ru", "ftp://theplace.ru/", "http://", "javascript:alert(1)"])
def test_a_start_that_is_no_address(start) -> None:
    with pytest.raises(ConfigError, match="START_URL"):
        Site.bind(load_definition("theplace"), start)


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("/photos/tom_hardy/", "tom_hardy"),
        ("/photos/tom_hardy", "tom_hardy"),
        ("/photos/tom_hardy/?page=2", "tom_hardy"),
        ("/photos/Tom_Hardy-mid1234.html", "Tom_Hardy"),
        ("/photos/%D0%90%D0%BD%D0%BD%D0%B0/", "Анна"),
        ("/photos/", None),
        ("/news/tom_hardy/", None),
    ],
)
def test_slugs_of_the_shipped_site(path, slug) -> None:
    assert Site.bind(load_definition("theplace")).slug("person", f"https://www.theplace.ru{path}") == slug


def test_a_listing() -> None:
    page = (
        "<base href='https://plain.example/root/'><a class=person href='/p/a'>A</a>"
        "<a class=person href=' /p/b#x '>B</a>"
        "<a class=person href='/p/a'>again</a><a class=person href='https://other.example/p/c'>away</a>"
        "<a class=person href='javascript:void(0)'>no</a><a class=person href='/about'>no slug</a>"
        "<a rel=next href='people?page=2'>next</a>"
    )
    site = bound()
    links = listing(Document(site.start, page.encode()), site, "list")
    assert [(link.kind, link.url, link.slug) for link in links] == [
        ("person", "https://plain.example/p/a", "a"),
        ("person", "https://plain.example/p/b", "b"),
        ("list", "https://plain.example/root/people?page=2", None),
    ]


def test_a_gallery_with_stated_sizes() -> None:
    page = (
        "<h1> Tom\n Hardy </h1><i class=n>12 photos</i><a class=full href=1.jpg>800x1200</a>"
        "<a class=full href='//cdn.example/2.jpg'>no size</a>"
    )
    site = bound()
    found = gallery(Document("https://plain.example/p/a/", page.encode()), site, "person", "a")
    assert (found.name, found.announced) == ("Tom Hardy", 12)
    assert [(photo.url, photo.size) for photo in found.photos] == [
        ("https://plain.example/p/a/1.jpg", (800, 1200)),
        ("https://cdn.example/2.jpg", None),
    ]


def test_selectors_are_tried_in_order() -> None:
    site = Site.bind(load_definition("theplace"))
    old = '<div class="p-1"><a href="/photos/a/2.html">2</a></div>'
    new = '<a class="photos-pic-card__link" href="/photos/a/1.html">1</a>'
    url = "https://www.theplace.ru/photos/a/"
    assert [p.url[-6:] for p in gallery(Document(url, (old + new).encode()), site, "person", "a").photos] == ["1.html"]
    assert [p.url[-6:] for p in gallery(Document(url, old.encode()), site, "person", "a").photos] == ["2.html"]


def test_nothing_found_is_a_layout_failure() -> None:
    site = Site.bind(load_definition("theplace"))
    empty = Document(site.start, b"<html></html>")
    found = gallery(empty, site, "person", "a")
    rule = site.definition.picture
    assert rule is not None
    for read in (
        lambda: listing(empty, site, "index"),
        lambda: require_photos(empty, site, "person", found),
        lambda: picture(empty, site, rule, site.definition.rights),
    ):
        with pytest.raises(Failure) as caught:
            read()
        assert caught.value.reason == "layout"
        assert not caught.value.retry


NAME = "Ёлка"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (NAME.encode(), "utf-8"),
        (NAME.encode(), None),
        (NAME.encode("cp1251"), "windows-1251"),
        (NAME.encode("cp1251"), '"cp1251"'),
        (b'<meta charset="windows-1251">' + NAME.encode("cp1251"), None),
        (b'<meta charset="windows-1251">' + NAME.encode("cp1251"), "no-such-encoding"),
        (b'<meta http-equiv=content-type content="text/html; charset=koi8-r">' + NAME.encode("koi8-r"), None),
        (b'<meta charset="utf-8">' + NAME.encode("cp1251"), "windows-1251"),
        (b"\xef\xbb\xbf" + NAME.encode(), "windows-1251"),
        (b"\xff\xfe" + NAME.encode("utf-16-le"), None),
        (NAME.encode(), "hex"),
    ],
)
def test_encodings(body, header) -> None:
    assert decode(body, header).endswith(NAME)


def test_latin_1_means_windows_1252() -> None:
    assert decode(b"\x93caf\xe9\x94", "iso-8859-1") == "“café”"
    assert decode(b"\x93caf\xe9\x94") == "“café”"


def test_a_page_of_rubbish_is_read_without_harm() -> None:
    deep = b"<div>" * 20_000 + b"<a class=person href=/p/a>" + b"\0\xff<" * 1000
    document = Document("https://plain.example/people/", deep)
    with pytest.raises(Failure, match="layout"):
        listing(Document("https://plain.example/people/", b"\0" * 5000), bound(), "list")
    assert document.all("div")

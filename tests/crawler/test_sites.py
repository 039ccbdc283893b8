"""A second family of sites by its definition alone; the helpers for writing one; the status of a workspace."""

import hashlib
import json
import sqlite3
from dataclasses import asdict

import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl
from bolid.crawler.definition import parse_definition
from bolid.crawler.sites_check import check_site, list_sites, show_site
from bolid.crawler.status import status
from bolid.errors import ConfigError, PolicyError, SiteError, WorkspaceError


@pytest.fixture
def cards(gallery):
    """The second family: people in two pages, galleries in pages of two, the full image behind a link."""
    gallery.add("anna_petrova", 5, seed=1)
    gallery.add("boris_ivanov", 3, seed=2)
    gallery.add("clara_lee", 1, seed=3)

    def nav(base, pages):
        links = "".join(f'<a class="page-link" href="{base}?page={n}">{n}</a>' for n in range(1, pages + 1))
        return f'<nav aria-label="Gallery pagination">{links}</nav>'

    def card(link):
        return f'<div class="pic-card"><a class="link" href="{link}"><img src="/thumb.jpg"></a></div>'

    async def site(request):
        parts = request.path.strip("/").split("/")
        page = int(request.query.get("page", "1"))
        if parts[0] in ("img", "robots.txt", ".well-known"):
            return gallery.normal(request)
        if parts == [""]:
            shown = [["anna_petrova", "boris_ivanov"], ["clara_lee"]][page - 1]
            return gallery.html("".join(card(f"/people/{slug}/") for slug in shown) + nav("/", 2))
        person = gallery.person(parts[1])
        if len(parts) == 2:
            places = range(len(person.photos))[2 * page - 2 : 2 * page]
            body = "".join(card(f"/people/{person.slug}/{n}") for n in places)
            return gallery.html(f"<h1>{person.name}</h1>{body}" + nav(request.path, (len(person.photos) + 1) // 2))
        return gallery.html(
            f'<div class="big-photo-wrapper"><a href="/img/{parts[1]}/{parts[2]}.jpg"><img src="/s.jpg"></a>'
            '<span class="copyright">© Studio Nord</span></div>'
        )

    gallery.before = site
    return gallery


def test_the_second_family_is_a_definition_and_no_code(cards, workspace, options) -> None:
    import pyarrow.parquet as pq

    summary = crawl(workspace, options(site="piccards"))
    everyone = [cards.person(slug) for slug in ("anna_petrova", "boris_ivanov", "clara_lee")]
    expected = [hashlib.sha256(photo).hexdigest() for person in everyone for photo in person.photos]
    rows = pq.read_table(workspace.images_table).to_pylist()
    assert [row["sha256"] for row in rows] == expected
    assert (summary.identities, summary.stored) == (3, 9)
    assert {row["rights"] for row in rows} == {"© Studio Nord"}
    assert {row["identity_name"] for row in rows} == {"Anna Petrova", "Boris Ivanov", "Clara Lee"}


def test_a_family_needs_an_address(workspace, options) -> None:
    with pytest.raises(ConfigError, match="START_URL --site piccards"):
        crawl(workspace, options(site="piccards", start_url=None))


def test_a_site_of_ones_own_with_thumbnails_that_state_sizes(gallery, workspace, options, tmp_path) -> None:
    """Thumbnails lead to images; a stated size under the limit saves even the request."""
    file = tmp_path / "plain.toml"
    file.write_text(
        'name = "plain"\ntitle = "Plain"\nstart = "https://plain.example/p/anna/"\nhosts = ["plain.example"]\n'
        'rights = { text = "CC0" }\n[[pages]]\nkind = "person"\n'
        "identity = { slug = '^/p/([^/]+)' }\n"
        'photos = { to = "image", selectors = ["a.full[href]"], size = \'(\\d+)x(\\d+)\' }\n',
        encoding="utf-8",
    )
    gallery.add("anna_petrova", 3, seed=1)
    links = ["120x150", "90x150", ""]
    body = "".join(f'<a class="full" href="/img/anna_petrova/{n}.jpg">{size}</a>' for n, size in enumerate(links))

    async def page(request):
        return gallery.html(body)

    gallery.override["/p/anna/"] = page
    summary = crawl(workspace, options(site=str(file)))
    assert (summary.stored, summary.rejected) == (2, {"too_small": 1})
    assert gallery.photos_asked == {"/img/anna_petrova/0.jpg": 1, "/img/anna_petrova/2.jpg": 1}
    assert crawl(workspace, options(site=str(file), min_res=90)).stored == 3


def test_list_and_show() -> None:
    assert [site.name for site in list_sites()] == ["piccards", "theplace"]
    for site in list_sites():
        assert parse_definition(show_site(site.name), site.name).title == site.title


def test_check_says_what_each_selector_finds(gallery) -> None:
    gallery.add("anna_petrova", 6, seed=1)
    url = f"{gallery.url}/photos/anna_petrova/"
    check = check_site("theplace", url, allow_private=(gallery.host_port,))
    found = {(each.kind, each.key, each.selector): (each.found, each.example) for each in check.findings}
    first = f"{gallery.url}/photos/anna_petrova/pic-0.html"
    assert found["person", "photos", "a.photos-pic-card__link[href]"] == (4, first)
    assert found["person", "photos", "div.gallery-photo-card a[href]"] == (0, "")
    assert found["person", "next", "div.listalka a[href]"] == (1, f"{url}?page=2")
    assert found["person", "name", "h1"] == (1, "Anna Petrova")
    assert found["person", "count", "div.main-col-content > div.d-none.d-sm-block p"] == (2, "6")
    assert found["index", "links to letter", "div.letters-list a[href]"] == (0, "")


def test_check_reads_a_saved_page(tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<div class="letters-list"><a href="?s_id=1">A</a></div>')
    check = check_site("theplace", str(page))
    found = {each.selector: each for each in check.findings}
    assert found["div.letters-list a[href]"].example == "https://www.theplace.ru/photos/?s_id=1"
    assert check_site("theplace").findings == ()


def test_check_obeys_the_rules_too(gallery) -> None:
    with pytest.raises(PolicyError, match="--contact"):
        check_site("theplace", "https://www.theplace.ru/photos/")
    with pytest.raises(PolicyError, match="--allow-private"):
        check_site("theplace", f"{gallery.url}/photos/")
    gallery.robots = "User-agent: *\nDisallow: /photos/"
    with pytest.raises(PolicyError, match="robots"):
        check_site("theplace", f"{gallery.url}/photos/", allow_private=(gallery.host_port,))

    async def broken(request):
        return web.Response(status=500)

    gallery.override["/other/"] = broken
    with pytest.raises(SiteError, match="http_500"):
        check_site("theplace", f"{gallery.url}/other/", allow_private=(gallery.host_port,))
    with pytest.raises(ConfigError, match="cannot read the page"):
        check_site("theplace", "nothing.html")


def test_status(gallery, workspace, options, photo) -> None:
    with pytest.raises(WorkspaceError, match="bolid crawl"):
        status(workspace)
    person = gallery.add("anna_petrova", 4, seed=1)
    person.photos += [photo(5, 90, 90), person.photos[0]]
    gallery.add("boris_ivanov", 1, seed=2)

    async def broken(request):
        return web.Response(status=500)

    async def gone(request):
        return web.Response(status=404)

    gallery.override["/img/anna_petrova/1.jpg"] = broken
    gallery.override["/img/anna_petrova/2.jpg"] = gone
    crawl(workspace, options(min_photos=2, tries=1))
    found = status(workspace)
    assert found.identities == {"accepted": 1, "rejected": 1}
    assert found.identities_rejected == {"too_few_photos": 1}
    assert found.files == 2
    (source,) = found.sources
    assert source.source == f"theplace@{gallery.url}"
    assert source.photos == {"done": 3, "failed": 1, "rejected": 2}
    assert (source.rejected, source.failed) == ({"not_found": 1, "too_small": 1}, {"http_500": 1})
    assert (source.files, source.bytes) == (2, sum(len(person.photos[n]) for n in (0, 3)))
    assert (source.next_run, source.retry_failed) == (1, 1)
    assert [host.host for host in found.hosts] == [gallery.url]
    assert json.loads(json.dumps(asdict(found)))["files"] == 2


def test_a_frontier_of_a_newer_bolid_is_not_touched(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 1, seed=1)
    crawl(workspace, options())
    database = sqlite3.connect(workspace.frontier)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(WorkspaceError, match="newer bolid"):
        crawl(workspace, options())


def test_a_frontier_of_an_older_bolid_goes_on(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    crawl(workspace, options())
    database = sqlite3.connect(workspace.frontier)
    database.executescript("DROP TABLE reservations; PRAGMA user_version = 3;")
    database.close()
    gallery.add("boris_ivanov", 2, seed=2)
    assert crawl(workspace, options(refresh=True)).stored == 4


def test_a_frontier_that_is_none_is_refused(workspace, options) -> None:
    workspace.root.mkdir(parents=True)
    workspace.frontier.write_bytes(b"this is no database" * 100)
    with pytest.raises(WorkspaceError, match="cannot open the frontier"):
        crawl(workspace, options())

"""Looking again: --refresh asks conditionally, --retry-failed asks for what was refused, hosts are remembered."""

import hashlib
import sqlite3

import pytest
from aiohttp import web
from bolid.crawler.crawl import crawl


@pytest.fixture
def validating(gallery):
    """Pages carry validators and answer conditional requests with 304; counts what was sent whole."""
    whole: list[str] = []

    async def before(request):
        if not request.path.startswith("/photos"):
            return None
        response = gallery.normal(request)
        etag = f'"{hashlib.sha256(response.body).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        whole.append(request.path_qs)
        response.headers["ETag"] = etag
        return response

    gallery.before = before
    return whole


def test_refresh_reads_pages_conditionally_and_fetches_only_what_is_new(
    gallery, workspace, options, validating, photo
) -> None:
    anna = gallery.add("anna_petrova", 6, seed=1)
    gallery.add("boris_ivanov", 3, seed=2)
    assert crawl(workspace, options()).stored == 9
    gallery.log.clear()
    validating.clear()
    assert crawl(workspace, options(refresh=True)).stored == 9
    pages = {"/photos/", "/photos/?letter=a", "/photos/?letter=b", "/photos/anna_petrova/", "/photos/boris_ivanov/",
             "/photos/anna_petrova/?page=2", "/photos/anna_petrova/?page=1"}  # fmt: skip
    assert gallery.asked.keys() == pages
    assert validating == []

    anna.photos.append(photo(4711))
    gallery.add("boris_smirnov", 2, seed=3)
    gallery.log.clear()
    assert crawl(workspace, options()).stored == 9
    assert gallery.log == []
    assert crawl(workspace, options(refresh=True)).stored == 12
    assert gallery.photos_asked == {
        "/img/anna_petrova/6.jpg": 1,
        "/img/boris_smirnov/0.jpg": 1,
        "/img/boris_smirnov/1.jpg": 1,
    }
    assert "/photos/boris_ivanov/" not in validating


def test_refresh_asks_with_the_date_too(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    date = "Sun, 01 Mar 2026 12:00:00 GMT"

    async def dated(request):
        response = gallery.normal(request)
        response.headers["Last-Modified"] = date
        return response

    gallery.override["/photos/anna_petrova/"] = dated
    crawl(workspace, options())
    gallery.log.clear()
    crawl(workspace, options(refresh=True))
    sent = {path: headers.get("If-Modified-Since") for path, headers in gallery.log}
    assert sent == {"/photos/": None, "/photos/?letter=a": None, "/photos/anna_petrova/": date}


def test_refresh_finds_an_identity_that_now_has_enough_photos(gallery, workspace, options, validating, photo) -> None:
    anna = gallery.add("anna_petrova", 2, seed=1)
    gallery.add("boris_ivanov", 4, seed=2)
    assert crawl(workspace, options(min_photos=3)).identities == 1
    anna.photos.append(photo(4711))
    assert crawl(workspace, options(min_photos=3)).identities == 1
    summary = crawl(workspace, options(min_photos=3, refresh=True))
    assert (summary.identities, summary.stored, summary.identities_rejected) == (2, 7, {})


def test_refresh_with_a_limit_stays_with_the_identities_it_has(gallery, workspace, options, validating, photo) -> None:
    anna = gallery.add("anna_petrova", 2, seed=1)
    gallery.add("boris_ivanov", 4, seed=2)
    crawl(workspace, options(identities=1))
    anna.photos.append(photo(4711))
    summary = crawl(workspace, options(identities=1, refresh=True))
    assert (summary.identities, summary.stored) == (1, 3)
    assert gallery.asked["/photos/boris_ivanov/"] == 0


def test_refresh_keeps_the_cut_of_a_full_identity(gallery, workspace, options, validating) -> None:
    gallery.add("anna_petrova", 6, seed=1)
    crawl(workspace, options(max_photos=3))
    crawl(workspace, options(max_photos=3, refresh=True))
    assert crawl(workspace, options(max_photos=6)).stored == 6


def gone(status: int):
    async def reply(request):
        return web.Response(status=status)

    return reply


def test_retry_failed_asks_again_for_what_was_refused_but_not_for_what_is_too_small(
    gallery, workspace, options, photo
) -> None:
    person = gallery.add("anna_petrova", 4, seed=1)
    person.photos.append(photo(5, 90, 90))
    for n, status in enumerate((404, 403, 410)):
        gallery.override[f"/img/anna_petrova/{n}.jpg"] = gone(status)
    assert crawl(workspace, options()).rejected == {"not_found": 1, "forbidden": 1, "gone": 1, "too_small": 1}
    gallery.override.clear()
    gallery.log.clear()
    assert crawl(workspace, options()).stored == 1
    assert gallery.log == []
    assert crawl(workspace, options(retry_failed=True)).stored == 4
    assert gallery.photos_asked == {f"/img/anna_petrova/{n}.jpg": 1 for n in range(3)}


def test_retry_failed_brings_back_a_person_whose_page_was_gone(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    gallery.override["/photos/anna_petrova/"] = gone(404)
    summary = crawl(workspace, options())
    assert (summary.identities, summary.identities_rejected) == (0, {"not_found": 1})
    gallery.override.clear()
    assert crawl(workspace, options(retry_failed=True)).stored == 2


def test_a_larger_cap_asks_again_for_what_was_too_large(gallery, workspace, options, photo) -> None:
    person = gallery.add("anna_petrova", 1, seed=1)
    person.photos.append(photo(5, 1200, 1500, quality=100))
    assert crawl(workspace, options(max_bytes=20_000)).rejected == {"too_large": 1}
    assert crawl(workspace, options(max_bytes=len(person.photos[1]) - 1)).rejected == {"too_large": 1}
    assert crawl(workspace, options(max_bytes=len(person.photos[1]))).stored == 2


def test_a_rule_taken_back_by_robots_is_noticed(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    gallery.robots = "User-agent: *\nDisallow: /img/anna_petrova/1.jpg"
    assert crawl(workspace, options()).rejected == {"robots": 1}
    gallery.robots = ""
    gallery.log.clear()
    assert crawl(workspace, options()).rejected == {"robots": 1}
    assert gallery.log == []
    forget_robots(workspace)
    assert crawl(workspace, options()).stored == 2


def forget_robots(workspace) -> None:
    database = sqlite3.connect(workspace.frontier)
    database.execute("UPDATE hosts SET robots_at = robots_at - 25 * 3600")
    database.commit()
    database.close()


def test_the_slower_rate_of_a_host_outlives_the_run(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 3, seed=1)
    left = [1]

    async def busy(request):
        left[0] -= 1
        return gone_busy() if left[0] >= 0 else gallery.normal(request)

    def gone_busy():
        return web.Response(status=503, headers={"Retry-After": "0"})

    gallery.override["/img/anna_petrova/2.jpg"] = busy
    crawl(workspace, options())
    database = sqlite3.connect(workspace.frontier)
    (rate,) = database.execute("SELECT rate FROM hosts").fetchone()
    database.close()
    assert 500 <= rate < 1000
    # The next run begins with the remembered rate, not with the nominal one.
    from bolid.crawler.frontier import Frontier
    from bolid.crawler.hosts import Hosts

    frontier = Frontier(workspace.frontier, "theplace", "theplace")
    hosts = Hosts(frontier, 1000.0, 600.0, 1.0)
    assert hosts.pace(gallery.url).rate == rate
    frontier.close()


def test_a_long_pause_ends_the_run_and_is_respected_by_the_next(gallery, workspace, options) -> None:
    """The photo that was answered with Retry-After stays pending, and no host is asked before its time."""
    gallery.add("anna_petrova", 3, seed=1)

    async def busy(request):
        return web.Response(status=429, headers={"Retry-After": "3000"})

    gallery.override["/img/anna_petrova/2.jpg"] = busy
    summary = crawl(workspace, options(concurrency=1))
    assert (summary.stored, summary.pending, summary.failed) == (2, 1, {})
    gallery.override.clear()
    gallery.log.clear()
    assert crawl(workspace, options()).pending == 1
    assert gallery.log == []
    database = sqlite3.connect(workspace.frontier)
    database.execute("UPDATE hosts SET resume_at = 1")
    database.execute("UPDATE photos SET due = 1")
    database.commit()
    database.close()
    assert crawl(workspace, options()).stored == 3


def test_a_resting_host_holds_up_no_other(gallery, workspace, options, server) -> None:
    gallery.add("anna_petrova", 4, seed=1)
    tired = server.start(type(gallery)(people=gallery.people))

    async def page(request):
        return gallery.html(f'<img class="pic big_pic" src="{tired.url}/img/anna_petrova/0.jpg">')

    async def busy(request):
        return web.Response(status=503, headers={"Retry-After": "3000"})

    gallery.override["/photos/anna_petrova/pic-0.html"] = page
    tired.override["/img/anna_petrova/0.jpg"] = busy
    summary = crawl(workspace, options(concurrency=1, allow_private=(gallery.host_port, tired.host_port)))
    assert (summary.stored, summary.pending) == (3, 1)
    assert tired.photos_asked == {"/img/anna_petrova/0.jpg": 1}


def test_a_crawl_delay_bounds_the_pace(gallery, workspace, options) -> None:
    import asyncio

    from bolid.crawler.fetch import Fetcher, Limits
    from bolid.crawler.frontier import Frontier
    from bolid.crawler.hosts import Hosts

    gallery.robots = "User-agent: bolid\nCrawl-delay: 0.05"
    frontier = Frontier(workspace.frontier, "theplace", "theplace")
    hosts = Hosts(frontier, 1000.0, 600.0, 1.0)

    async def ask() -> float:
        async with Fetcher(hosts, None, {gallery.host_port}, Limits()) as fetcher:
            hosts.fetcher = fetcher
            await hosts.admit(f"{gallery.url}/x.jpg")
            return hosts.pace(gallery.url).rate

    assert asyncio.run(ask()) == 20.0
    frontier.close()


def test_progress_ends_with_every_photo(gallery, workspace, options, capsys, monkeypatch) -> None:
    import json

    from bolid import progress

    monkeypatch.setattr("bolid.crawler.report.INTERVAL_S", 0.01)
    monkeypatch.setattr("bolid.progress.PLAIN_INTERVAL_S", 0.0)
    gallery.add("anna_petrova", 30, seed=1)
    progress.use_json_lines(True)
    try:
        crawl(workspace, options(rate=200))
    finally:
        progress.use_json_lines(False)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = [event for event in events if event["event"] == "progress"]
    assert (shown[-1]["done"], shown[-1]["total"], shown[-1]["unit"]) == (30, 30, "photos")
    assert any(part["task"] == "anna_petrova" and part["total"] > 0 for event in shown for part in event["parts"])
    assert {"photos_per_s", "mb_per_s", "mb_saved", "eta_s"} <= shown[-1].keys()


def test_leftovers_of_a_dead_crawl_are_removed(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 1, seed=1)
    workspace.images.mkdir(parents=True)
    mine = [workspace.images / ".photo.x1.tmp", workspace.root / ".images.parquet.x2.tmp"]
    others = [workspace.images / "kept.tmp", workspace.root / ".curated.parquet.x3.tmp"]
    for file in mine + others:
        file.write_bytes(b"half")
    crawl(workspace, options())
    assert not any(file.exists() for file in mine)
    assert all(file.exists() for file in others)


def test_retry_failed_reads_the_picture_page_again(gallery, workspace, options) -> None:
    """An image that moved, or whose address was good for a while only, has another address there now."""
    gallery.add("anna_petrova", 3, seed=1)
    moved = "/img/anna_petrova/1.jpg?signed=2"

    async def gone(request):
        return gallery.normal(request) if "signed" in request.query_string else web.Response(status=403)

    async def page(request):
        return gallery.html(f'<img class="pic big_pic" src="{moved}">')

    gallery.override["/img/anna_petrova/1.jpg"] = gone
    assert crawl(workspace, options()).rejected == {"forbidden": 1}
    gallery.override["/photos/anna_petrova/pic-1.html"] = page
    gallery.log.clear()
    assert crawl(workspace, options(retry_failed=True)).stored == 3
    assert gallery.photos_asked == {moved: 1}


def test_a_crawl_delay_of_a_day_is_a_pause_and_outlives_the_run(gallery, workspace, options) -> None:
    from bolid.errors import SiteError

    gallery.add("anna_petrova", 3, seed=1)
    gallery.robots = "User-agent: *\nCrawl-delay: 86400"
    for _ in range(2):
        with pytest.raises(SiteError, match="run the same command again later"):
            crawl(workspace, options())
    assert gallery.asked == {"/robots.txt": 1}

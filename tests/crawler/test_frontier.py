"""What a claim costs and in which order it takes rows, on the frontier alone."""

import re
from pathlib import Path

import pytest
from bolid.crawler import restart
from bolid.crawler.extract import Gallery, PageLink, PhotoLink
from bolid.crawler.frontier import Frontier
from bolid.crawler.outcome import OPT_OUT, Rejection
from bolid.crawler.report import Sample, Speed, clock, speed
from bolid.crawler.rows import Bounds

HOST = "http://site.example"
BOUNDS = Bounds(min_res=1000, min_photos=1, max_photos=500, identities=None)


@pytest.fixture
def frontier(tmp_path: Path):
    opened = Frontier(tmp_path / "crawl.sqlite", "site", "site")
    opened.add_start(f"{HOST}/", "index", None)
    yield opened
    opened.close()


def people(*slugs: str) -> list[PageLink]:
    return [PageLink("person", f"{HOST}/p/{slug}/", slug) for slug in slugs]


def shown(count: int, further: tuple[PageLink, ...] = (), prefix: str = "x") -> Gallery:
    return Gallery("Name", count, tuple(PhotoLink(f"{HOST}/{prefix}{n}.html") for n in range(count)), further)


def read_index(frontier, *slugs: str):
    (index,) = frontier.claim_pages(HOST, 1.0, 8, None)
    frontier.listing_read(index, people(*slugs), None, None)
    return index


def test_claims_use_indices_only(frontier) -> None:
    """No claim scans a table or sorts: its cost does not grow with what is done."""
    read_index(frontier, "anna", "boris")
    page = frontier.claim_pages(HOST, 1.0, 1, None)[0]
    frontier.gallery_read(page, shown(3), BOUNDS, None, None, None)
    statements: list[str] = []
    frontier.database.set_trace_callback(statements.append)
    frontier.claim_photos(HOST, 1.0, 2)
    frontier.claim_pages(HOST, 1.0, 2, 3)
    frontier.next_due(HOST, 1.0)
    frontier.under_way(3)
    frontier.database.set_trace_callback(None)
    plans = [
        row["detail"]
        for statement in statements
        if re.match("SELECT|UPDATE", statement)
        for row in frontier.database.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    large = [plan for plan in plans if re.match(r"\w+ (photos|pages|earlier)\b", plan)]
    used = {re.sub(r".*USING (?:COVERING )?(?:INDEX )?(\w+).*", r"\1", plan) for plan in large}
    assert used == {"photos_pending", "pages_open", "pages_open_of_identity", "pages_pending", "photos_taken",
                    "INTEGER", "sqlite_autoindex_photos_1"}  # fmt: skip
    assert all(plan.startswith("SEARCH") for plan in large)


def test_the_begin_and_the_end_of_a_run_use_indices_only(frontier) -> None:
    """What an earlier run stored is not looked at, however much it is."""
    statements: list[str] = []
    frontier.database.set_trace_callback(statements.append)
    restart.recover(frontier, lambda sha256, format: True)
    restart.reconsider(frontier, BOUNDS, 10**6)
    frontier.open_photos()
    frontier.unfit()
    frontier.release_all()
    frontier.database.set_trace_callback(None)
    asked = [each for each in statements if " photos " in f"{each} " and not each.startswith(("BEGIN", "COMMIT"))]
    assert len(asked) > 8
    for statement in asked:
        plan = [row["detail"] for row in frontier.database.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not any(step.startswith("SCAN photos") for step in plan), (statement, plan)


def test_a_row_that_falls_due_between_two_looks_is_not_left_behind(frontier, monkeypatch) -> None:
    """A claim finds it not due yet; asked a moment later when the next one is due, the crawl must not say never."""
    from bolid.crawler.hosts import Hosts
    from bolid.crawler.receive import Tally
    from bolid.crawler.work import Patience, Work

    (index,) = frontier.claim_pages(HOST, 1.0, 8, None)
    frontier.retry(index, 100.5, "timeout", "")
    clock = iter((100.0, 101.0, 102.0))
    monkeypatch.setattr("bolid.crawler.work.time.time", lambda: next(clock))
    hosts = Hosts(frontier, 1000.0, 600.0, 1.0)
    monkeypatch.setattr(hosts, "resumes_in", lambda host: 0.0)
    work = Work(frontier, hosts, None, None, None, Patience(4, 1.0, 8), Tally(), lambda: None)
    assert work.claim(HOST, 8) == []
    assert work.due(HOST) == 100.5


def test_a_claimed_row_is_claimed_once(frontier) -> None:
    read_index(frontier, "anna")
    (page,) = frontier.claim_pages(HOST, 1.0, 8, None)
    assert frontier.claim_pages(HOST, 1.0, 8, None) == []
    frontier.gallery_read(page, shown(5), BOUNDS, None, None, None)
    first = frontier.claim_photos(HOST, 1.0, 3)
    second = frontier.claim_photos(HOST, 1.0, 3)
    assert [photo.link[-6:] for photo in first + second] == ["0.html", "1.html", "2.html", "3.html", "4.html"]
    assert frontier.open_photos() == 5


def test_a_row_that_waits_is_not_due(frontier) -> None:
    read_index(frontier, "anna")
    (page,) = frontier.claim_pages(HOST, 1.0, 8, None)
    frontier.gallery_read(page, shown(2), BOUNDS, None, None, None)
    late, soon = frontier.claim_photos(HOST, 1.0, 2)
    frontier.retry(late, 100.0, "timeout", "")
    frontier.retry(soon, 50.0, "timeout", "")
    assert frontier.claim_photos(HOST, 49.0, 2) == []
    assert frontier.next_due(HOST, 49.0) == 50.0
    (again,) = frontier.claim_photos(HOST, 60.0, 2)
    assert (again.id, again.tries) == (soon.id, 1)
    assert frontier.next_due(HOST, 60.0) == 100.0


def test_pages_of_a_gallery_come_one_after_another_and_by_number(frontier) -> None:
    """Page 10 is linked before pages 3 to 9 are known; the order is that of the numbers all the same."""
    read_index(frontier, "anna")
    (page,) = frontier.claim_pages(HOST, 1.0, 8, None)

    def link(number: int) -> PageLink:
        return PageLink("person", f"{HOST}/p/anna/?page={number}", "anna", number)

    frontier.gallery_read(page, shown(2, (link(10), link(2))), BOUNDS, None, None, None)
    (second,) = frontier.claim_pages(HOST, 1.0, 8, None)
    assert second.url.endswith("page=2")
    frontier.gallery_read(second, shown(2, (link(10), link(3)), "y"), BOUNDS, None, None, None)
    (third,) = frontier.claim_pages(HOST, 1.0, 8, None)
    assert third.url.endswith("page=3")


def test_no_more_galleries_are_asked_for_than_could_be_accepted(frontier) -> None:
    read_index(frontier, "anna", "boris", "clara", "dora")
    first = frontier.claim_pages(HOST, 1.0, 8, 2)
    assert [page.slug for page in first] == ["anna", "boris"]
    frontier.page_rejected(first[0], Rejection("too_few_photos", 3, 100))
    (third,) = frontier.claim_pages(HOST, 1.0, 8, 2)
    assert third.slug == "clara"
    for page in (third, first[1]):
        frontier.gallery_read(page, shown(1, prefix=page.slug), BOUNDS, None, None, None)
    assert frontier.claim_pages(HOST, 1.0, 8, 2) == []
    assert frontier.accepted() == 2


def test_a_listing_that_is_not_read_holds_back_what_is_behind_it(frontier) -> None:
    (index,) = frontier.claim_pages(HOST, 1.0, 8, 3)
    letters = [PageLink("letter", f"{HOST}/{letter}/") for letter in "ab"]
    frontier.listing_read(index, letters, None, None)
    (first,) = frontier.claim_pages(HOST, 1.0, 8, 3)
    assert first.url == f"{HOST}/a/"
    assert frontier.claim_pages(HOST, 1.0, 8, 3) == []
    frontier.listing_read(first, people("anna"), None, None)
    assert [page.url for page in frontier.claim_pages(HOST, 1.0, 8, 3)] == [f"{HOST}/p/anna/", f"{HOST}/b/"]


def test_the_same_slug_on_two_sites_is_two_identities(tmp_path) -> None:
    labels = []
    for site in ("one", "two"):
        frontier = Frontier(tmp_path / "crawl.sqlite", site, site)
        frontier.add_start(f"https://{site}.example/p/anna/", "person", "anna")
        labels += [row[0] for row in frontier.database.execute("SELECT label FROM identities WHERE site = ?", (site,))]
        frontier.close()
    assert labels == ["anna", "two:anna"]


@pytest.mark.parametrize(("there", "state"), [(True, "done"), (False, "pending")])
def test_what_was_being_stored_is_done_exactly_when_its_file_is_there(frontier, there, state) -> None:
    from bolid.crawler.rows import Stored

    read_index(frontier, "anna")
    (page,) = frontier.claim_pages(HOST, 1.0, 8, None)
    frontier.gallery_read(page, shown(1), BOUNDS, None, None, None)
    (photo,) = frontier.claim_photos(HOST, 1.0, 1)
    frontier.photos_storing([Stored(photo.id, 1, 1, 1, "JPEG", 1.0, None, "", "ab" * 32)])
    asked = []
    restart.recover(frontier, lambda *key: asked.append(key) or there)
    assert asked == [("ab" * 32, "JPEG")]
    assert frontier.database.execute("SELECT state FROM photos").fetchone()[0] == state


def test_an_error_in_a_transaction_changes_nothing(frontier) -> None:
    with pytest.raises(ZeroDivisionError), frontier.transaction() as db:
        db.execute("DELETE FROM pages")
        raise ZeroDivisionError
    assert frontier.database.execute("SELECT count(*) FROM pages").fetchone()[0] == 1


def test_an_opt_out_on_a_later_page_ends_what_is_still_to_be_asked_for(frontier) -> None:
    read_index(frontier, "anna", "boris")
    anna, boris = frontier.claim_pages(HOST, 1.0, 8, None)
    further = (PageLink("person", f"{HOST}/p/anna/?page=2", "anna", 2),)
    frontier.gallery_read(anna, shown(3, further, "a"), BOUNDS, None, None, None)
    frontier.gallery_read(boris, shown(2, prefix="b"), BOUNDS, None, None, None)
    (second,) = frontier.claim_pages(HOST, 1.0, 8, None)
    frontier.page_rejected(second, Rejection(OPT_OUT, detail="x-robots-tag: noai"))
    assert {row.slug for row in frontier.claim_photos(HOST, 1.0, 8)} == {"boris"}
    refused = "SELECT count(*) FROM photos WHERE state = 'rejected' AND reason = 'opt_out' AND detail LIKE '%noai'"
    assert frontier.database.execute(refused).fetchone()[0] == 3


def test_the_words_beside_the_bar() -> None:
    now = speed(Sample(10.0, 5, 1_000_000), Sample(12.0, 25, 5_000_000), left=730, saved=3_000_000)
    assert now == Speed(10.0, 2.0, 3.0, 73.0)
    assert now.words == "10.0 photos/s, 2.0 MB/s, 3.0 MB saved, ETA 1:13"
    assert speed(Sample(10.0, 0, 0), Sample(10.0, 0, 0), 5, 0).words == "0.0 photos/s, 0.0 MB/s, 0.0 MB saved"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0:00"), (59.6, "1:00"), (3599, "59:59"), (90_061, "25:01:01")])
def test_a_span_as_on_a_clock(seconds, words) -> None:
    assert clock(seconds) == words


def test_photos_added_are_counted_as_those_that_will_be_asked_for(frontier) -> None:
    read_index(frontier, "anna")
    (page,) = frontier.claim_pages(HOST, 1.0, 8, None)
    photos = (PhotoLink(f"{HOST}/1"), PhotoLink(f"{HOST}/1"), PhotoLink(f"{HOST}/2", (20, 20)), PhotoLink(f"{HOST}/3"))
    frontier.gallery_read(page, Gallery("Anna", None, photos, ()), BOUNDS, "", None, None)
    assert (frontier.added, frontier.open_photos()) == (2, 2)
    frontier.claim_photos(HOST, 1.0, 1)
    assert (frontier.open_photos(), frontier.under_way(5)) == (2, [("anna", 1, 3)])

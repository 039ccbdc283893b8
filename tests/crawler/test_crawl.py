"""A whole crawl of a small site: what is stored, what is refused and why, and what a second run does."""

import hashlib
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
from bolid.crawler.crawl import CrawlOptions, crawl, crawl_urls
from bolid.workspace import Workspace

COLUMNS = [
    "sha256", "identity", "identity_name", "url", "page_url", "width", "height", "bytes", "format", "fetched_at",
    "etag", "robots", "rights",
]  # fmt: skip


def stored(workspace: Workspace) -> set[str]:
    return {file.name for file in workspace.images.rglob("*") if file.is_file()}


def names(photos: list[bytes], extension: str = "jpg") -> set[str]:
    return {f"{hashlib.sha256(photo).hexdigest()}.{extension}" for photo in photos}


@pytest.mark.parametrize("layout", ["cards", "boxes"])
@pytest.mark.parametrize(("encoding", "charset_in"), [("utf-8", "header"), ("cp1251", "header"), ("cp1251", "meta")])
def test_both_layouts_and_encodings(gallery, workspace, options, layout, encoding, charset_in) -> None:
    gallery.layout, gallery.encoding, gallery.charset_in = layout, encoding, charset_in
    gallery.add("anna_petrova", 6, seed=1).name = "Анна Петрова"
    gallery.add("boris_ivanov", 3, seed=2).name = "Борис Иванов"
    summary = crawl(workspace, options())
    people = [p for letter in gallery.people.values() for p in letter]
    assert stored(workspace) == names([photo for p in people for photo in p.photos])
    assert (summary.identities, summary.offered, summary.stored, summary.duplicates) == (2, 9, 9, 0)
    assert summary.rejected == {}
    assert summary.failed == {}
    table = pq.read_table(workspace.images_table)
    assert table.column_names == COLUMNS
    shown = {(row["identity"], row["identity_name"]) for row in table.to_pylist()}
    assert shown == {("anna_petrova", "Анна Петрова"), ("boris_ivanov", "Борис Иванов")}


def test_rows_say_where_each_photo_comes_from(gallery, workspace, options) -> None:
    person = gallery.add("anna_petrova", 5, seed=1)
    crawl(workspace, options())
    rows = pq.read_table(workspace.images_table).to_pylist()
    assert [row["url"] for row in rows] == [f"{gallery.url}/img/anna_petrova/{n}.jpg" for n in range(5)]
    assert [row["page_url"] for row in rows] == [f"{gallery.url}/photos/anna_petrova/pic-{n}.html" for n in range(5)]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(photo).hexdigest() for photo in person.photos]
    assert [row["bytes"] for row in rows] == [len(photo) for photo in person.photos]
    assert {(row["width"], row["height"], row["format"]) for row in rows} == {(120, 150, "JPEG")}
    assert {row["robots"] for row in rows} == {"allowed: no robots.txt (404)"}
    assert all(row["fetched_at"].tzinfo is not None and row["rights"] for row in rows)


def test_a_finished_crawl_asks_for_nothing(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 5, seed=1)
    first = crawl(workspace, options())
    table = workspace.images_table.read_bytes()
    gallery.log.clear()
    second = crawl(workspace, options())
    assert gallery.log == []
    assert (second.stored, second.bytes_received) == (first.stored, 0)
    assert workspace.images_table.read_bytes() == table


def test_a_small_photo_is_stopped_at_its_header(gallery, workspace, options, photo) -> None:
    person = gallery.add("anna_petrova", 2, seed=1)
    person.photos.append(photo(77, 99, 3000, quality=100))
    summary = crawl(workspace, options())
    assert summary.rejected == {"too_small": 1}
    assert stored(workspace) == names(person.photos[:2])


def test_a_lower_threshold_asks_again_for_what_it_refused(gallery, workspace, options) -> None:
    person = gallery.add("anna_petrova", 2, seed=1)
    assert crawl(workspace, options(min_res=121)).rejected == {"too_small": 2}
    gallery.log.clear()
    assert crawl(workspace, options(min_res=130)).rejected == {"too_small": 2}
    assert gallery.log == []
    assert crawl(workspace, options(min_res=120)).stored == 2
    assert stored(workspace) == names(person.photos)


def test_an_identity_with_too_few_photos_is_skipped_before_any_photo(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 6, seed=1)
    gallery.add("boris_ivanov", 3, seed=2)
    summary = crawl(workspace, options(min_photos=5))
    assert (summary.identities, summary.stored) == (1, 6)
    assert summary.identities_rejected == {"too_few_photos": 1}
    assert not [path for path in gallery.asked if "boris_ivanov/" in path.removeprefix("/photos/boris_ivanov/")]
    assert gallery.photos_asked.keys() == set(gallery.image_paths("anna_petrova"))


def test_the_number_of_identities_is_a_limit_in_document_order(gallery, workspace, options) -> None:
    for n, slug in enumerate(["anna_a", "anna_b", "boris_c", "boris_d", "clara_e"]):
        gallery.add(slug, 1 if slug == "anna_b" else 5, seed=n)
    summary = crawl(workspace, options(identities=2, min_photos=3))
    assert summary.identities == 2
    found = set(pq.read_table(workspace.images_table)["identity"].to_pylist())
    assert found == {"anna_a", "boris_c"}
    assert gallery.asked["/photos/clara_e/"] == 0
    assert gallery.asked["/photos/?letter=c"] == 0
    crawl(workspace, options(identities=3, min_photos=3))
    found = set(pq.read_table(workspace.images_table)["identity"].to_pylist())
    assert found == {"anna_a", "boris_c", "boris_d"}


def test_max_photos_takes_the_first_and_grows_later(gallery, workspace, options) -> None:
    person = gallery.add("anna_petrova", 11, seed=1)
    crawl(workspace, options(max_photos=6))
    assert stored(workspace) == names(person.photos[:6])
    assert gallery.asked["/photos/anna_petrova/?page=3"] == 0
    gallery.log.clear()
    crawl(workspace, options(max_photos=6))
    assert gallery.log == []
    crawl(workspace, options(max_photos=500))
    assert stored(workspace) == names(person.photos)
    assert not gallery.photos_asked.keys() & set(gallery.image_paths("anna_petrova")[:6])


def test_the_same_bytes_are_stored_once_and_every_row_points_to_them(gallery, workspace, options) -> None:
    anna = gallery.add("anna_petrova", 3, seed=1)
    boris = gallery.add("boris_ivanov", 2, seed=2)
    boris.photos.append(anna.photos[0])
    summary = crawl(workspace, options())
    assert (summary.offered, summary.stored, summary.duplicates) == (6, 5, 1)
    rows = pq.read_table(workspace.images_table).to_pylist()
    sharing = [row["identity"] for row in rows if row["sha256"] == hashlib.sha256(anna.photos[0]).hexdigest()]
    assert sharing == ["anna_petrova", "boris_ivanov"]


def test_one_address_under_two_identities_is_asked_for_once(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    gallery.add("boris_ivanov", 2, seed=2)

    async def shared(request):
        return gallery.html('<img class="pic big_pic" src="/img/anna_petrova/0.jpg">')

    gallery.override["/photos/boris_ivanov/pic-1.html"] = shared
    summary = crawl(workspace, options())
    assert gallery.photos_asked["/img/anna_petrova/0.jpg"] == 1
    assert (summary.offered, summary.stored, summary.duplicates) == (4, 3, 1)
    rows = pq.read_table(workspace.images_table).to_pylist()
    sharing = [row["identity"] for row in rows if row["url"].endswith("/img/anna_petrova/0.jpg")]
    assert sharing == ["anna_petrova", "boris_ivanov"]


@pytest.mark.parametrize(("before", "now", "stored_", "why"), [(1000, 100, 3, {}), (10, 1000, 0, {"too_small": 3})])
def test_an_address_known_from_another_crawl_is_judged_by_the_limits_of_this_one(
    gallery, workspace, options, tmp_path, before, now, stored_, why
) -> None:
    gallery.add("anna_petrova", 3, seed=1)
    file = tmp_path / "list.txt"
    file.write_text(gallery.url + gallery.image_paths("anna_petrova")[1])
    crawl_urls(workspace, options(min_res=before), file)
    summary = crawl(workspace, options(min_res=now))
    assert (summary.stored, summary.rejected) == (stored_, why)
    assert gallery.photos_asked["/img/anna_petrova/1.jpg"] == (2 if before > now else 1)


def test_links_to_the_real_host_are_followed_on_the_given_one(gallery, workspace, options) -> None:
    person = gallery.add("anna_petrova", 2, seed=1)

    async def absolute(request):
        return gallery.html('<img class="pic big_pic" src="https://www.theplace.ru/img/anna_petrova/1.jpg">')

    async def letter(request):
        return gallery.html('<div class="models_list"><a href="https://theplace.ru/photos/anna_petrova/">A</a></div>')

    gallery.override["/photos/anna_petrova/pic-1.html"] = absolute
    gallery.override["/photos/?letter=a"] = letter
    crawl(workspace, options())
    assert stored(workspace) == names(person.photos)


def test_a_start_address_may_be_one_person(gallery, workspace, options) -> None:
    gallery.add("anna_petrova", 2, seed=1)
    boris = gallery.add("boris_ivanov", 5, seed=2)
    crawl(workspace, options(start_url=f"{gallery.url}/photos/boris_ivanov/"))
    assert stored(workspace) == names(boris.photos)


def test_the_table_is_rebuilt_from_the_frontier(gallery, workspace, options: Callable[..., CrawlOptions]) -> None:
    from bolid.crawler.table import write_images_table

    gallery.add("anna_petrova", 5, seed=1)
    crawl(workspace, options())
    before = workspace.images_table.read_bytes()
    workspace.images_table.unlink()
    assert write_images_table(workspace) == 5
    assert workspace.images_table.read_bytes() == before


def test_the_table_is_written_when_something_changed_and_only_then(gallery, workspace, options) -> None:
    def identity() -> tuple[int, int]:
        found = workspace.images_table.stat()
        return found.st_ino, found.st_mtime_ns

    person = gallery.add("anna_petrova", 3, seed=1)
    crawl(workspace, options())
    first = identity()
    assert crawl(workspace, options()).stored == 3
    assert identity() == first
    # A file that is not the one bolid wrote is replaced.
    content = workspace.images_table.read_bytes()
    workspace.images_table.write_bytes(b"something else")
    crawl(workspace, options())
    assert workspace.images_table.read_bytes() == content
    (workspace.root / "suppress.txt").write_text(hashlib.sha256(person.photos[0]).hexdigest())
    crawl(workspace, options())
    assert pq.read_metadata(workspace.images_table).num_rows == 2
    (workspace.root / "suppress.txt").unlink()
    crawl(workspace, options())
    assert workspace.images_table.read_bytes() != content  # fetched again, so at another time
    assert pq.read_metadata(workspace.images_table).num_rows == 3

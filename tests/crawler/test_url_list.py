"""A list of addresses instead of a site: the same machinery, the same guarantees."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.crawler.crawl import crawl_urls
from bolid.crawler.frontier import Frontier
from bolid.crawler.url_list import read_list
from bolid.errors import ConfigError, DataError, PolicyError


@pytest.fixture
def addresses(gallery) -> list[str]:
    gallery.add("anna_petrova", 3, seed=1)
    gallery.add("boris_ivanov", 2, seed=2)
    return [gallery.url + path for slug in ("anna_petrova", "boris_ivanov") for path in gallery.image_paths(slug)]


def write(file, addresses, owners):
    if file.suffix == ".parquet":
        pq.write_table(pa.table({"link": addresses, "who": owners}), file)
    elif file.suffix == ".csv":
        lines = ["who,link", *(f'"{who}",{url}' for url, who in zip(addresses, owners, strict=True))]
        file.write_text("\n".join(lines), encoding="utf-8-sig")
    else:
        file.write_text("# addresses\n\n" + "\n".join(addresses), encoding="utf-8")
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".txt"])
def test_a_list_is_crawled(gallery, workspace, options, tmp_path, addresses, suffix) -> None:
    owners = ["anna", "anna", "anna", "Борис", "Борис"]
    file = write(tmp_path / f"people{suffix}", addresses, owners)
    column = None if suffix == ".txt" else "who"
    # The thresholds of sites mean nothing here: the list says what is wanted.
    summary = crawl_urls(workspace, options(min_photos=100, max_photos=1, identities=1), file, "link", column)
    assert (summary.offered, summary.stored, summary.rejected) == (5, 5, {})
    rows = pq.read_table(workspace.images_table).to_pylist()
    assert [row["url"] for row in rows] == addresses
    assert [row["identity"] for row in rows] == (["people"] * 5 if column is None else owners)
    everyone = gallery.person("anna_petrova").photos + gallery.person("boris_ivanov").photos
    assert [row["sha256"] for row in rows] == [hashlib.sha256(photo).hexdigest() for photo in everyone]
    gallery.log.clear()
    assert crawl_urls(workspace, options(), file, "link", column).stored == 5
    assert gallery.log == []


def test_a_longer_list_fetches_what_is_new(gallery, workspace, options, tmp_path, addresses) -> None:
    file = write(tmp_path / "people.txt", addresses[:3], [])
    assert crawl_urls(workspace, options(), file).stored == 3
    write(file, addresses, [])
    gallery.log.clear()
    assert crawl_urls(workspace, options(), file).stored == 5
    assert sum(gallery.photos_asked.values()) == 2


def test_what_is_malformed_small_missing_or_private_is_a_row(
    gallery, workspace, options, tmp_path, addresses, photo
) -> None:
    gallery.person("anna_petrova").photos.append(photo(9, 50, 50))
    wrong = ["not an address", "ftp://site.example/x.jpg", "", f"{gallery.url}/img/anna_petrova/3.jpg",
             f"{gallery.url}/nothing.jpg", "http://127.0.0.1:1/x.jpg", addresses[0]]  # fmt: skip
    file = write(tmp_path / "people.txt", addresses + wrong, [])
    summary = crawl_urls(workspace, options(), file)
    assert summary.stored == 5
    assert summary.rejected == {"bad_address": 2, "not_found": 1, "private_address": 1, "too_small": 1}
    assert summary.offered == 10


def test_many_hosts(workspace, options, tmp_path, server, gallery, monkeypatch) -> None:
    """More hosts than lanes: every one gets its turn."""
    monkeypatch.setattr("bolid.crawler.schedule.MAX_LANES", 3)
    monkeypatch.setattr("bolid.crawler.schedule.MAX_ACTIVE", 2)
    monkeypatch.setattr("bolid.crawler.hosts.MAX_KNOWN", 4)
    sites = []
    for n in range(8):
        sites.append(server.start(type(gallery)()))
        sites[-1].add("anna_petrova", 3, seed=n)
    links = [site.url + path for site in sites for path in site.image_paths("anna_petrova")]
    allowed = tuple(site.host_port for site in sites)
    file = write(tmp_path / "people.txt", links, [])
    summary = crawl_urls(workspace, options(allow_private=allowed), file)
    assert (summary.offered, summary.stored) == (24, 24)
    assert all(site.asked["/robots.txt"] == 1 for site in sites)


def test_robots_are_obeyed(gallery, workspace, options, tmp_path, addresses) -> None:
    gallery.robots = "User-agent: *\nDisallow: /img/anna_petrova/"
    file = write(tmp_path / "people.txt", addresses, [])
    summary = crawl_urls(workspace, options(), file)
    assert (summary.stored, summary.rejected) == (2, {"robots": 3})


def test_live_addresses_need_a_contact(gallery, workspace, options, tmp_path, addresses) -> None:
    file = write(tmp_path / "people.txt", [*addresses, "https://photos.example/x.jpg"], [])
    with pytest.raises(PolicyError, match=r"photos\.example.*--contact"):
        crawl_urls(workspace, options(), file)
    assert gallery.log == []
    # Also when the list is known already.
    assert crawl_urls(workspace, options(contact="me@example.org", tries=1), file).failed == {"dns": 1}
    with pytest.raises(PolicyError, match=r"photos\.example.*--contact"):
        crawl_urls(workspace, options(), file)


def test_numbers_null_and_nan_as_identities(gallery, workspace, options, tmp_path, addresses) -> None:
    """pandas writes a column of numbers with a gap as floats; 0 is a number like any other."""
    file = tmp_path / "people.parquet"
    owners = pa.array([0.0, 7.0, float("nan"), None, 2.5])
    pq.write_table(pa.table({"url": addresses, "who": owners}), file)
    crawl_urls(workspace, options(), file, "url", "who")
    rows = pq.read_table(workspace.images_table).to_pylist()
    assert {row["url"]: row["identity"] for row in rows} == dict(
        zip(addresses, ["0", "7", "people", "people", "2.5"], strict=True)
    )


def test_null_and_nan_as_addresses_are_left_out(workspace, options, tmp_path) -> None:
    file = tmp_path / "people.parquet"
    pq.write_table(pa.table({"url": pa.array([float("nan"), None])}), file)
    with pytest.raises(DataError, match="no address"):
        crawl_urls(workspace, options(), file)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_an_empty_list_is_no_success(workspace, options, tmp_path, text) -> None:
    file = tmp_path / "people.txt"
    file.write_text(text)
    with pytest.raises(DataError, match="no address"):
        crawl_urls(workspace, options(), file)


def test_a_list_of_a_hundred_thousand_is_taken_in_once(gallery, workspace, options, tmp_path, addresses) -> None:
    """Every address twice, one in ten malformed: rows are unique, and the second run reads nothing again."""
    lines = [f"{gallery.url}/none/{n % 50_000}" if n % 10 else f"none/{n % 50_000}" for n in range(100_000)]
    file = tmp_path / "people.txt"
    file.write_text("\n".join(lines + addresses))
    gallery.robots = "User-agent: *\nDisallow: /none/"
    frontier = Frontier(workspace.frontier, "list-people", "list-people")
    first = 0
    for batch in read_list(file, "url", None):
        frontier.add_listed(batch, first)
        first += len(batch)
    rows = dict(frontier.database.execute("SELECT state, count(*) FROM photos GROUP BY state").fetchall())
    assert rows == {"pending": 45_000 + len(addresses), "rejected": 5_000}
    # Taken in again after a crash before its end: nothing is added twice.
    for batch in read_list(file, "url", None):
        frontier.add_listed(batch, 0)
    (offered,) = frontier.database.execute("SELECT offered FROM identities").fetchone()
    assert offered == 50_000 + len(addresses)
    frontier.close()


def test_what_is_wrong_with_a_list_is_said(workspace, options, tmp_path, addresses) -> None:
    table = write(tmp_path / "people.csv", addresses, ["a"] * 5)
    with pytest.raises(ConfigError, match=r"no column 'lnk'; did you mean 'link'\?.*--url-col.*who, link"):
        crawl_urls(workspace, options(), table, "lnk")
    with pytest.raises(ConfigError, match="--identity-col"):
        crawl_urls(workspace, options(), table, "link", "person")
    twice = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(addresses)] * 2, names=["url", "url"]), twice)
    with pytest.raises(ConfigError, match="more than one column 'url'"):
        crawl_urls(workspace, options(), twice)
    with pytest.raises(ConfigError, match="kind is unknown"):
        crawl_urls(workspace, options(), write(tmp_path / "people.json", addresses, []))
    with pytest.raises(ConfigError, match="cannot read"):
        crawl_urls(workspace, options(), tmp_path / "nothing.txt")
    broken = tmp_path / "people.parquet"
    broken.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="damaged"):
        crawl_urls(workspace, options(), broken)
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        crawl_urls(workspace, options(), binary)

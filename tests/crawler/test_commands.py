"""The commands of the room as they are typed: what they print for people and for machines, and their errors."""

import json
from collections.abc import Callable

import pytest
import typer
from bolid import cli, progress
from bolid.errors import ConfigError, PolicyError, WorkspaceError

Words = Callable[..., str]


@pytest.fixture
def typed(capsys) -> Words:
    def run(*words: object) -> str:
        try:
            cli.app([str(word) for word in words], standalone_mode=False)
        finally:
            progress.use_json_lines(False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def crawled(gallery, workspace, typed) -> tuple[object, ...]:
    """A crawl of two people; returns the options of another one."""
    gallery.add("anna_petrova", 3, seed=1)
    gallery.add("boris_ivanov", 2, seed=2, width=90)
    options = (gallery.url, "--allow-private", gallery.host_port, "--min-photos", 1, "--min-res", 100, "--rate", 1000,
               "-w", workspace.root)  # fmt: skip
    typed("crawl", *options)
    return options


def objects(text: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(key and key == key.strip() for line in found for key in line)
    return found


def test_a_crawl_for_people_and_for_machines(gallery, workspace, crawled, typed) -> None:
    assert "rejected: too_small" in typed("crawl", *crawled)
    gallery.log.clear()
    lines = objects(typed("crawl", *crawled, "--json"))
    counts = {line["what"]: line["count"] for line in lines if line["event"] == "crawl"}
    assert (counts["identities"], counts["photos offered"], counts["stored"]) == (2, 5, 3)
    assert counts["rejected: too_small"] == 2
    assert lines[-1]["paths"] == [str(workspace.images_table)]
    assert gallery.log == []


def test_refresh_and_retry_failed_are_options(gallery, crawled, typed, photo) -> None:
    anna = gallery.person("anna_petrova")
    anna.photos.append(photo(77))
    gallery.log.clear()
    typed("crawl", *crawled)
    assert gallery.log == []
    typed("crawl", *crawled, "--refresh", "--retry-failed")
    assert gallery.photos_asked == {"/img/anna_petrova/3.jpg": 1}


def test_a_list_of_addresses(gallery, workspace, typed, tmp_path) -> None:
    gallery.add("anna_petrova", 3, seed=1)
    file = tmp_path / "people.csv"
    file.write_text("link,who\n" + "".join(f"{gallery.url}/img/anna_petrova/{n}.jpg,anna\n" for n in range(3)))
    lines = objects(
        typed("crawl", "--urls", file, "--url-col", "link", "--identity-col", "who", "--min-res", 100, "--rate", 1000,
              "--allow-private", gallery.host_port, "-w", workspace.root, "--json")
    )  # fmt: skip
    assert {"event": "crawl", "what": "stored", "count": 3} in lines


def test_a_site_and_a_list_exclude_each_other(typed, tmp_path) -> None:
    with pytest.raises(typer.BadParameter, match="exclude each other"):
        typed("crawl", "http://127.0.0.1:1", "--urls", tmp_path / "x.csv")
    with pytest.raises(typer.BadParameter, match="add --urls"):
        typed("crawl", "--identity-col", "who")


def test_a_live_crawl_without_contact_says_what_to_add(typed, workspace) -> None:
    with pytest.raises(PolicyError, match="add --contact"):
        typed("crawl", "-w", workspace.root)


def test_status(gallery, workspace, crawled, typed) -> None:
    text = typed("status", "-w", workspace.root)
    for words in ("identities accepted", "stored", "rejected: too_small", "pages done", "the same command again"):
        assert words in text
    [line] = objects(typed("status", "-w", workspace.root, "--json"))
    assert (line["event"], line["files"], line["identities"]) == ("status", 3, {"accepted": 2})
    [source] = line["sources"]
    assert (source["photos"], source["rejected"], source["next_run"]) == (
        {"done": 3, "rejected": 2},
        {"too_small": 2},
        0,
    )
    assert source["photos_per_s"] == 3 / 60
    assert source["bytes"] == sum(map(len, gallery.person("anna_petrova").photos))
    assert line["hosts"][0]["host"] == gallery.url


def test_status_without_a_crawl(typed, workspace) -> None:
    with pytest.raises(WorkspaceError, match="run first: bolid crawl"):
        typed("status", "-w", workspace.root)


def test_sites_are_listed_and_shown(typed) -> None:
    assert "theplace" in typed("sites", "list")
    assert [line["name"] for line in objects(typed("sites", "list", "--json"))] == ["piccards", "theplace"]
    assert 'name = "theplace"' in typed("sites", "show", "theplace")
    [line] = objects(typed("sites", "show", "theplace", "--json"))
    assert line["site"] == "theplace"
    assert "[[pages]]" in line["toml"]


def test_a_definition_is_checked(gallery, typed, tmp_path) -> None:
    gallery.add("anna_petrova", 3, seed=1)
    assert "index → letter → person → picture" in typed("sites", "check", "theplace")
    page = f"{gallery.url}/photos/anna_petrova/"
    text = typed("sites", "check", "theplace", "--url", page, "--allow-private", gallery.host_port)
    assert "a.photos-pic-card__link[href]" in text
    found = objects(typed("sites", "check", "theplace", "--url", page, "--allow-private", gallery.host_port, "--json"))
    assert {"event": "selector", "page": "person", "what": "name", "selector": "h1", "found": 1,
            "first": "Anna Petrova"} in found  # fmt: skip
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "broken"\n')
    with pytest.raises(ConfigError, match=r"broken\.toml.*'title' is missing"):
        typed("sites", "check", broken)

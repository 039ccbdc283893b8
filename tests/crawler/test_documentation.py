"""docs/crawl.md says what is true: its tests exist, its definition fits its page, its reasons are those of the code."""

import ast
import re
from pathlib import Path

import pytest
from aiohttp import web
from bolid import crawler
from bolid.crawler.crawl import crawl
from bolid.crawler.sites_check import check_site

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "crawl.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    text = "\n".join(file.read_text(encoding="utf-8") for file in HERE.glob("test_*.py"))
    assert len(named) > 60
    assert named - set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)) == set()


def test_every_row_of_what_happens_names_a_test() -> None:
    rows = [line for line in section("What happens if …").splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []


@pytest.fixture
def definition(tmp_path) -> Path:
    file = tmp_path / "mysite.toml"
    file.write_text(block("toml"), encoding="utf-8")
    return file


def test_the_definition_finds_what_the_page_says(definition, tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text(block("html"), encoding="utf-8")
    shown = [
        re.split(r" *│ *", line)[1:-1] for line in section("Site definitions").splitlines() if line.startswith("│")
    ]
    check = check_site(str(definition), str(page))
    assert shown == [[each.kind, each.key, each.selector, str(each.found), each.example] for each in check.findings]


def test_the_definition_crawls_its_site(gallery, workspace, options, definition, photo) -> None:
    pages = {
        "/people/": '<ul class="people"><li><a href="/people/anna/">Anna</a></li></ul>',
        "/people/anna/": block("html"),
        "/people/anna/?page=2": '<h1>Anna Example</h1><a class="thumb" href="/photo/3.html"></a>',
        **{f"/photo/{n}.html": f'<img class="full" src="/full/{n}.jpg">' for n in (1, 2, 3)},
    }

    async def site(request):
        if request.path.startswith("/full/"):
            return web.Response(body=photo(int(request.path[6:-4])), content_type="image/jpeg")
        return gallery.html(pages[request.path_qs]) if request.path_qs in pages else web.Response(status=404)

    gallery.before = site
    summary = crawl(workspace, options(site=str(definition)))
    assert (summary.identities, summary.stored, summary.rejected, summary.failed) == (1, 3, {}, {})


def test_the_reasons_are_those_of_the_code() -> None:
    named = set(re.findall(r"`(\w+)`", section("Reasons")))
    assert reasons() - {"http_"} <= named
    assert named <= reasons() | {"http_…", "bad_range"}


def reasons() -> set[str]:
    """Return every word that a Rejection or Failure is made with."""
    files = [Path(file) for folder in crawler.__path__ for file in Path(folder).glob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    constants = {
        node.targets[0].id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    found = set()
    for tree in trees:
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("Rejection", "Failure") and call.args:
                found |= set(words(call.args[0], constants))
    return found | {constants[name] for name in ("MAX_PHOTOS", "LAYOUT")} | {"robots_unavailable", "tdmrep_unavailable"}


def words(node: ast.expr, constants: dict[str, object]) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return words(node.body, constants) + words(node.orelse, constants)
    if isinstance(node, ast.Name) and node.id in constants:
        return [str(constants[node.id])]
    return []

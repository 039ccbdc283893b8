"""The report in a real browser: it loads without a complaint and without a network, filters, tells reasons."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from bolid.curation import report

from . import chromium, report_world
from .chromium import Page
from .report_world import CONFIG, COSINES, World

PROGRAM = chromium.executable()
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed; name one in $BOLID_CHROMIUM"),
    pytest.mark.asyncio(loop_scope="module"),
]

VISIBLE = """[...document.querySelectorAll("#list > article")].filter((one) => one.checkVisibility()).map((one) => [
  one.querySelector("h3 .dim").textContent,
  [...one.querySelectorAll(".strip > .p")].filter((tile) => tile.checkVisibility()).map((tile) => tile.dataset.s),
])"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A report with files beside it: more photos than fit into a page are not needed for that."""
    made = report_world.make(tmp_path_factory.mktemp("world") / "data", identities=12, photos=12, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "EMBEDDED", 20)
        report.write(made.workspace, made.summary, CONFIG, COSINES)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    assert PROGRAM is not None
    async with chromium.browser(PROGRAM, tmp_path_factory.mktemp("profile")) as connect:
        tab = await connect()
        await size(tab, 1280, 800)
        yield tab
        assert tab.errors == []  # of all tests


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _fresh(page: Page, world: World) -> None:
    await page.open("about:blank")
    page.requests.clear()
    await page.open(world.workspace.report.as_uri())


async def size(page: Page, width: int, height: int) -> None:
    await page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


async def visible(page: Page) -> dict[str, set[str]]:
    return {slug: set(photos) for slug, photos in await page.value(VISIBLE)}


def of(rows: pd.DataFrame) -> dict[str, set[str]]:
    return {slug: set(group.sha256) for slug, group in rows.groupby("identity")}


async def choose(page: Page, field: str, value: str) -> None:
    """Choose as a user does: the field gets the value and tells so."""
    await page.value(
        f"(() => {{ const field = document.getElementById({field!r}); field.value = {value!r};"
        "field.dispatchEvent(new Event('change', { bubbles: true })); return field.value })()"
    )


async def test_it_loads_without_a_complaint_and_asks_no_network(page: Page, world: World):
    assert await page.value("document.title") == "bolid curation report"
    await page.value("window.scrollTo(0, document.body.scrollHeight)")
    await page.until("[...document.images].some((image) => image.complete && image.naturalWidth > 0)")
    assert len(page.requests) > 1
    root = world.workspace.root.as_uri()
    assert [url for url in page.requests if not url.startswith((f"{root}/report", "data:"))] == []
    assert page.failures == []
    assert page.errors == []


async def test_its_policy_lets_it_reach_nobody(page: Page):
    refused = await page.value("fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => error.name)")
    assert refused == "TypeError"
    ran = await page.value(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = true';"
        "document.body.append(one); return window.ran ?? false })()"
    )
    assert ran is False
    assert len(page.errors) >= 2
    assert all("Content Security Policy" in error for error in page.errors)
    page.errors.clear()


async def test_everything_is_shown_at_first(page: Page, world: World):
    assert await visible(page) == of(world.rows)
    expected = f"12 of 12 identities, {len(world.rows)} photos shown"
    assert await page.value("document.getElementById('found').textContent") == expected


async def test_typing_a_name_filters_the_identities(page: Page, world: World):
    await page.value("document.getElementById('identity').focus()")
    await page.call("Input.insertText", text="SON 00")
    few = world.rows[world.rows.identity_name.str.lower().str.contains("son 00", regex=False)]
    assert 1 < few.identity.nunique() < 12
    assert await visible(page) == of(few)
    await page.call("Input.insertText", text="7")
    assert await visible(page) == of(world.rows[world.rows.identity == "person-007"])
    await page.call("Input.insertText", text="x")
    assert await visible(page) == {}
    assert await page.value("document.getElementById('nothing').checkVisibility()")
    await page.value("document.querySelector('#nothing button').click()")
    assert await visible(page) == of(world.rows)


async def test_each_reason_shows_the_photos_that_it_rejected(page: Page, world: World):
    options = await page.value("[...document.getElementById('reason').options].map((one) => [one.value, one.text])")
    assert len(options) == 1 + len(report_world.REASONS)
    for value, text in options[1:]:
        stage, reason = text.rpartition(" (")[0].split(" · ")
        await choose(page, "reason", value)
        few = world.rows[(world.rows.reject_stage == stage) & (world.rows.reject_reason == reason)]
        assert len(few)
        assert await visible(page) == of(few)
        photos = f"{few.identity.nunique()} of 12 identities, {len(few)} photos shown"
        assert await page.value("document.getElementById('found').textContent") == photos
    await choose(page, "verdict", "kept")
    assert await visible(page) == {}


async def test_each_verdict_shows_its_photos(page: Page, world: World):
    rows = world.rows
    doubted = rows.keep & rows.identity_review.eq(True)
    wanted = {"kept": rows.keep, "review": doubted, "rejected": rows.reject_stage.notna(), "failed": rows.error.notna()}
    for verdict, mask in wanted.items():
        await choose(page, "verdict", verdict)
        assert mask.any()
        assert await visible(page) == of(rows[mask])


async def test_a_button_beside_a_reason_shows_all_its_photos(page: Page, world: World):
    await page.value("[...document.querySelectorAll('.reason')].find((one) => one.querySelector('h3').textContent"
                     ".includes('blurred')).querySelector('.pick').click()")  # fmt: skip
    assert await visible(page) == of(world.rows[world.rows.reject_reason == "blurred"])


async def test_filters_stand_in_the_address_and_are_read_from_it(page: Page, world: World):
    await choose(page, "verdict", "failed")
    address = await page.value("location.href")
    assert address.endswith("#verdict=failed")
    await page.open("about:blank")
    await page.open(address)
    assert await visible(page) == of(world.rows[world.rows.error.notna()])


async def test_identities_are_ordered_by_name_or_share(page: Page, world: World):
    shares = world.rows.groupby("identity").keep.mean()
    await choose(page, "order", "least")
    slugs = await page.value("[...document.querySelectorAll('#list > article h3 .dim')].map((one) => one.textContent)")
    assert slugs == shares.sort_values(kind="stable").index.tolist()
    await choose(page, "order", "name")
    slugs = await page.value("[...document.querySelectorAll('#list > article h3 .dim')].map((one) => one.textContent)")
    assert slugs == sorted(shares.index)


async def test_pointing_at_a_photo_or_focusing_it_tells_its_reason(page: Page, world: World):
    row = world.rows[world.rows.reject_reason == "blurred"].iloc[0]
    tile = f"document.querySelector('#list [data-s=\"{row.sha256}\"]')"
    opacity = f"getComputedStyle({tile}.querySelector('p')).opacity"
    assert await page.value(opacity) == "0"
    await page.value(f"{tile}.scrollIntoView({{ block: 'center' }})")
    box = await page.value(f"(() => {{ const {{ x, y }} = {tile}.getBoundingClientRect(); return [x, y] }})()")
    await page.move(box[0] + 20, box[1] + 20)
    await page.until(f"{opacity} === '1'")
    assert "quality · blurred · 3.5 against 10" in await page.value(f"{tile}.querySelector('p').innerText")
    await page.move(1, 1)
    await page.until(f"{opacity} === '0'")
    await page.value(f"{tile}.focus()")
    await page.until(f"{opacity} === '1'")


async def test_keys_go_from_photo_to_photo_and_open_one(page: Page, world: World):
    shas = await page.value("[...document.querySelectorAll('#list .strip')[2].children].map((tile) => tile.dataset.s)")
    await page.value("document.querySelectorAll('#list .strip')[2].children[0].focus()")
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        await page.press(key)
        assert await page.value("document.activeElement.dataset.s") == shas[place]
    await page.press("Enter")
    assert await page.value("document.getElementById('large').open")
    assert await page.value("document.getElementById('large-sha').textContent") == shas[1]
    link = await page.value("document.getElementById('large-link').href")
    assert link == world.workspace.photo(shas[1], "JPEG").as_uri()
    await page.press("Escape")
    await page.until("!document.getElementById('large').open")
    strips = await page.value("[...document.querySelectorAll('.strip')].filter((one) => one.querySelector('.p')).map("
                              "(one) => [...one.children].filter((tile) => tile.tabIndex === 0).length)")  # fmt: skip
    assert set(strips) == {1}  # tabs go from strip to strip


async def test_thumbnails_load_when_they_scroll_into_view(page: Page):
    waiting = "[...document.querySelectorAll('#list img')].filter((image) => !image.complete || !image.naturalWidth)"
    assert await page.value(f"{waiting}.length") > 0
    # A busy machine may draw nothing between two steps, so each image is scrolled to until it is there.
    await page.until(f"(() => {{ const left = {waiting}; left[0]?.scrollIntoView(); return !left.length }})()")


async def test_the_matrix_tells_the_cosine_of_two_photos(page: Page, world: World):
    faces = world.rows[world.rows.face_embedding.notna()].set_index("sha256").face_embedding
    matrix = "document.querySelectorAll('.matrix')[3]"
    await page.value(f"{matrix}.scrollIntoView({{ block: 'center' }})")
    order = (await page.value(f"{matrix}.dataset.photos")).split()
    shas: dict[str, str] = dict(
        await page.value(
            f"[...{matrix}.closest('article').querySelectorAll('.strip > .p')].map((t) => [t.dataset.n, t.dataset.s])"
        )
    )
    box = await page.value(
        f"(() => {{ const {{ x, y, width }} = {matrix}.querySelector('image').getBoundingClientRect();"
        "return [x, y, width] })()"
    )
    cell = box[2] / len(order)
    for row, column in ((0, 1), (2, 0), (len(order) - 1, 1)):
        one, two = (np.array(faces[shas[order[place]]]) for place in (row, column))
        await page.move(box[0] + (column + 0.5) * cell, box[1] + (row + 0.5) * cell)
        told = f"no. {order[row]} and no. {order[column]}: "
        caption = f"{matrix}.parentElement.querySelector('figcaption').textContent"
        await page.until(f"{caption}.startsWith({told!r})")
        assert float((await page.value(caption)).removeprefix(told)) == pytest.approx(one @ two, abs=0.01)
        lit = await page.value(f"[...{matrix}.closest('article').querySelectorAll('.lit')].map((t) => t.dataset.n)")
        assert set(lit) == {order[row], order[column]}


async def test_a_slider_counts_both_sides_of_a_value(page: Page, world: World):
    told: str = await page.value(
        "(() => { const chart = [...document.querySelectorAll('.chart')].find((one) => "
        "one.querySelector('b').textContent === 'Identity'); const slider = chart.querySelector('input');"
        "slider.value = 20; slider.dispatchEvent(new Event('input'));"
        "return chart.querySelector('output').textContent })()"
    )
    below, above = told.split(", ")
    edge = float(below.split("below ")[1])
    scores = world.rows.identity_score.astype(float)
    assert int(below.split()[0]) == (world.rows.keep & (scores < edge)).sum()
    assert int(above.split()[0]) == (world.rows.keep & (scores >= edge)).sum()


async def test_it_fits_a_phone_and_follows_the_dark_scheme(page: Page):
    await size(page, 390, 800)
    wide = "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 391)"
    assert await page.value(f"{wide}.map((one) => one.outerHTML.slice(0, 80))") == []
    beyond = (
        "[...document.querySelectorAll('#list .strip > .p')].filter((tile) => { tile.focus();"
        "const words = tile.querySelector('p').getBoundingClientRect();"
        "const room = tile.closest('article').getBoundingClientRect();"
        "return words.left < room.left - 1 || words.right > room.right || words.top < room.top ||"
        "words.bottom > room.bottom || words.width < 100 }).length"
    )
    assert await page.value(beyond) == 0  # what is told of a photo
    for scheme in ("light", "dark"):
        await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        styles: dict[str, Any] = await page.value(
            "(() => { const rgb = (text) => text.match(/\\d+/g).slice(0, 3).map(Number);"
            "const of = (one) => rgb(getComputedStyle(document.querySelector(one)).color);"
            "return { paper: rgb(getComputedStyle(document.body).backgroundColor),"
            "ink: of('body'), dim: of('.dim'), link: of('nav a') } })()"
        )
        assert (luminance(styles["paper"]) > 0.5) == (scheme == "light")
        for name in ("ink", "dim", "link"):
            assert contrast(styles[name], styles["paper"]) >= 4.5, (scheme, name)
    await page.call("Emulation.setEmulatedMedia", features=[])
    await size(page, 1280, 800)


def luminance(colour: list[int]) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[int], other: list[int]) -> float:
    """Contrast ratio, WCAG 2.2."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


async def test_a_small_report_is_one_file(page: Page, tmp_path: Path):
    small = report_world.make(tmp_path / "data", identities=2, photos=6)
    report.write(small.workspace, small.summary, CONFIG, COSINES)
    alone = tmp_path / "elsewhere.html"
    alone.write_bytes(small.workspace.report.read_bytes())
    page.requests.clear()
    await page.open(alone.as_uri())
    await page.value("document.getElementById('list').scrollIntoView()")
    pictured = small.rows.decoded_width.notna().sum()
    await page.until(f"[...document.querySelectorAll('#list img')].filter((i) => i.naturalWidth).length === {pictured}")
    assert [url for url in page.requests if not url.startswith(("data:", alone.as_uri()))] == []

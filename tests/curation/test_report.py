"""The numbers on the page, parsed from its HTML, against the table that it was made from."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bolid.curation import proposals, report, report_rows, thumbnails
from bolid.curation.stages import coverage
from bs4 import BeautifulSoup, Tag
from PIL import Image

from . import report_world
from .report_world import CONFIG, COSINES, World


def written(world: World) -> BeautifulSoup:
    report.write(world.workspace, world.summary, CONFIG, COSINES)
    return BeautifulSoup(world.workspace.report.read_text(), "lxml")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return report_world.make(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture(scope="module")
def page(world: World) -> BeautifulSoup:
    return written(world)


@pytest.fixture
def small(tmp_path: Path) -> World:
    return report_world.make(tmp_path / "data", identities=2, photos=6)


def number(page: BeautifulSoup, name: str) -> int:
    return int(page.find(id=name).text)


def sections(page: BeautifulSoup, world: World) -> Iterator[tuple[Tag, pd.DataFrame]]:
    """Each identity's section with its rows of the table."""
    articles = page.select("#list > article")
    assert len(articles) == world.rows.identity.nunique()
    for article in articles:
        yield article, world.rows[world.rows.identity == article.select_one("h3 .dim").text]


def test_the_totals_add_up_and_are_those_of_the_table(world: World, page: BeautifulSoup):
    rows = world.rows
    assert number(page, "offered") == len(rows)
    assert number(page, "kept") == rows.keep.sum()
    assert number(page, "rejected") == rows.reject_stage.notna().sum()
    assert number(page, "failed") == rows.error.notna().sum() > 0
    assert sum(number(page, name) for name in ("kept", "rejected", "failed")) == len(rows)


def test_the_funnel_loses_what_each_stage_rejected(world: World, page: BeautifulSoup):
    left = len(world.rows)
    stages = []
    for line in page.select(".funnel tbody tr"):
        name, lost = line.th.text, int(line.select("td")[2].text.replace("−", "") or 0)
        stages.append(name)
        mine = world.rows.error.notna() if name == "failed" else world.rows.reject_stage == name
        assert lost == mine.sum()
        left -= lost
        assert int(line.select("td")[1].text) == left
    assert left == world.rows.keep.sum()
    assert set(world.rows.reject_stage.dropna()) < set(stages)


def test_every_reason_has_its_count_and_the_examples_nearest_to_the_threshold(world: World, page: BeautifulSoup):
    told = {}
    for section in page.select(".reason"):
        told[section.h3.contents[0].strip()] = int(section["data-count"])
        for tile in section.select(".p"):
            row = world.rows[world.rows.sha256 == tile["data-s"]].iloc[0]
            assert f"{row.reject_stage} · {row.reject_reason}" == section.h3.contents[0].strip()
    rejected = world.rows[world.rows.reject_stage.notna()]
    assert told == (rejected.reject_stage + " · " + rejected.reject_reason).value_counts().to_dict()


def test_examples_are_those_nearest_to_the_threshold(tmp_path: Path):
    world = report_world.make(tmp_path / "data", identities=6, photos=30)
    small = world.rows.reject_reason == "too_small"
    assert small.sum() > 8
    values = np.random.default_rng(3).permutation(np.arange(1, small.sum() + 1))
    world.rows.loc[small, "reject_value"] = values.astype(float)
    world.save()
    examples = report_rows.survey(world.workspace.curated_table).examples["decode", "too_small"]
    nearest = world.rows[small].sort_values("reject_value", ascending=False).index[: report_rows.EXAMPLES]
    assert examples == nearest.tolist()


def test_each_photo_is_shown_once_with_its_verdict_reason_and_caption(world: World, page: BeautifulSoup):
    for article, rows in sections(page, world):
        tiles = {tile["data-s"]: tile for tile in article.select(".strip > .p")}
        assert set(tiles) == set(rows.sha256)
        for row in rows.itertuples():
            tile = tiles[row.sha256]
            words = tile.p.b.text
            if row.keep:
                assert tile["class"][1] == ("review" if row.identity_review else "kept")
            elif isinstance(row.error, str):
                assert (tile["class"][1], words) == ("failed", "failed · the worker process died")
            else:
                assert tile["class"][1] == "rejected"
                assert words.startswith(f"{row.reject_stage} · {row.reject_reason}")
                if pd.notna(row.reject_value):
                    assert words.endswith(f" · {row.reject_value:g} against {row.reject_threshold:g}")
            assert tile.q.text == row.caption
            assert ("doubted" in tile.q.get("class", [])) == isinstance(row.caption_flag, str)
            assert (tile.img is not None) == pd.notna(row.decoded_width)


def test_a_near_duplicate_names_the_number_of_the_photo_it_repeats(world: World, page: BeautifulSoup):
    seen = 0
    for article, rows in sections(page, world):
        places = {tile["data-s"]: tile["data-n"] for tile in article.select(".strip > .p")}
        for row in rows[rows.reject_reason == "near_duplicate"].itertuples():
            tile = article.find(attrs={"data-s": row.sha256})
            assert f"repeats no. {places[row.nearest_kept]}" in tile.p.text
            seen += 1
    assert seen


def test_wheels_count_kept_photos_by_view_side_and_framing(world: World, page: BeautifulSoup):
    sectors = [("front", 1), ("three-quarter", 1), ("side", 1), ("back", 1), ("side", -1), ("three-quarter", -1)]
    rings = ("portrait", "half", "three-quarter", "full")
    for article, rows in sections(page, world):
        kept = rows[rows.keep]
        found = {}
        wheel = article.select_one(".wheel")
        cells = [use["href"] for use in wheel.select("use") if use["href"] != "#wheel"]
        for cell, text in zip(cells, wheel.select("text"), strict=True):
            sector, ring = sectors[int(cell[2])], rings[int(cell[3])]
            found[*sector, ring] = int(text.text)
        signs = np.where(kept.yaw.astype(float) < 0, -1, 1)
        expected = pd.Series(list(zip(kept.view, signs.tolist(), kept.framing, strict=True))).value_counts().to_dict()
        assert found == expected


def test_the_coverage_table_is_the_cross_tabulation_of_all_kept_photos(world: World, page: BeautifulSoup):
    kept = world.rows[world.rows.keep]
    expected = pd.crosstab(kept.view, kept.framing)
    framings = [cell.text for cell in page.select("#coverage thead th")][1:-1]
    for line in page.select("#coverage tbody tr"):
        counts = [int(cell.text) for cell in line.select("td")]
        assert counts[-1] == sum(counts[:-1])
        mine = kept.framing.value_counts() if line.th.text == "all" else expected.loc[line.th.text]
        assert counts[:-1] == [mine.get(framing, 0) for framing in framings]


def test_matrices_hold_the_cosines_of_the_faces_to_one_level_and_nothing_finer(world: World, page: BeautifulSoup):
    for article, rows in sections(page, world):
        matrix = article.select_one(".matrix")
        shas = {tile["data-n"]: tile["data-s"] for tile in article.select(".strip > .p")}
        faces = rows[rows.face_embedding.notna()].set_index("sha256").face_embedding
        order = [shas[place] for place in matrix["data-photos"].split()]
        assert sorted(order) == sorted(faces.index)
        vectors = np.array([faces[sha256] for sha256 in order])
        picture = Image.open(io.BytesIO(base64.b64decode(matrix.image["href"].partition(",")[2])))
        assert (picture.mode, picture.size) == ("L", (len(order), len(order)))
        cosines = np.asarray(picture) / 127.5 - 1
        np.testing.assert_allclose(cosines, vectors @ vectors.T, atol=0.5 / 127.5 + 1e-6)


def test_no_number_of_an_embedding_is_on_the_page(world: World, page: BeautifulSoup):
    text = world.workspace.report.read_text()
    for embedding in world.rows.face_embedding.dropna():
        assert f"{embedding[0]:.5f}"[1:] not in text
        assert base64.b64encode(np.array(embedding[:6], np.float32).tobytes())[:-2].decode() not in text


def test_faces_of_one_person_lie_together(small: World):
    rows = small.rows[small.rows.identity == "person-000"].index[:6]
    ours = small.rows.index.isin(rows)
    basis = np.eye(512, dtype=np.float32)
    people = [0, 1, 0, 1, 0, 0]
    small.rows["face_embedding"] = None
    for row, person in zip(rows, people, strict=True):
        small.rows.at[row, "face_embedding"] = basis[person].tolist()
    small.save()
    assert ours.sum() == 6
    article = written(small).select_one("#list > article")
    places = {tile["data-n"]: tile["data-s"] for tile in article.select(".strip > .p")}
    person = dict(zip(small.rows.loc[rows, "sha256"], people, strict=True))
    order = [person[places[place]] for place in article.select_one(".matrix")["data-photos"].split()]
    assert order == [0, 0, 0, 0, 1, 1]


def test_pairs_of_near_duplicates_show_both_with_their_bits(world: World, page: BeautifulSoup):
    near = world.rows[world.rows.reject_reason == "near_duplicate"]
    shown = [[tile["data-s"] for tile in pair.select(".p")] for pair in page.select("#pairs .pair")]
    assert sorted(shown) == sorted([row.nearest_kept, row.sha256] for row in near.itertuples())
    assert {pair.figcaption.b.text for pair in page.select("#pairs .pair")} == {"3 bits"}


def test_histograms_count_every_measured_photo_on_its_side_of_an_edge(world: World, page: BeautifulSoup):
    chart = next(c for c in page.select(".chart") if c.figcaption.b.text == "Identity")
    kept, others = ([int(count) for count in chart[f"data-{name}"].split()] for name in ("kept", "others"))
    edges = [float(edge) for edge in chart["data-edges"].split()]
    scores = world.rows.identity_score.dropna().astype(np.float32)
    assert len(edges) == len(kept) + 1
    assert sum(kept) == world.rows.keep[scores.index].sum()
    for at in range(5, 40, 7):
        clear = (scores - edges[at]).abs() > 1e-3  # edges are printed with four digits
        below = (scores < edges[at]) & clear
        assert abs(sum(kept[:at]) + sum(others[:at]) - below.sum()) <= (~clear).sum()
    assert [text.text for text in chart.select("text.threshold")] == ["keep 0.4", "reject 0.28"]


def test_a_photo_that_was_excluded_is_not_pictured_and_its_face_is_in_no_matrix(small: World):
    shown = small.rows[small.rows.keep & small.rows.face_embedding.notna()].iloc[0]
    at = small.rows.sha256 == shown.sha256
    small.rows.loc[at, ["keep", "reject_stage", "reject_reason"]] = [False, "exclusions", "suppressed"]
    small.save()
    page = written(small)
    tiles = page.find_all(attrs={"data-s": shown.sha256})
    assert len(tiles) == 2  # the strip and the example of the reason
    assert not any(tile.img or tile.q for tile in tiles)
    assert not (thumbnails.cache(small.workspace) / f"{shown.sha256}.jpg").exists()
    article = tiles[0].find_parent("article") or tiles[1].find_parent("article")
    place = next(tile["data-n"] for tile in article.select(".strip > .p") if tile["data-s"] == shown.sha256)
    assert place not in article.select_one(".matrix")["data-photos"].split()


def test_names_captions_and_errors_are_text_and_never_markup(small: World):
    evil = '<img src=x onerror="alert(1)"></style></script>'
    small.rows[["identity_name", "caption"]] = evil
    small.rows.loc[small.rows.error.notna() | ~small.rows.keep, "error"] = evil
    small.rows.loc[small.rows.error.notna(), ["reject_stage", "reject_reason"]] = None
    small.save()
    page = written(small)
    assert not page.select("[onerror]")
    assert page.select_one("article h3").contents[0].strip() == evil
    assert page.select_one(".failed p b").text == f"failed · {evil}"


def test_a_large_strip_shows_kept_and_rejected_photos_and_says_how_many_more(tmp_path: Path):
    world = report_world.make(tmp_path / "data", identities=1, photos=90)
    article = written(world).select_one("#list > article")
    states = [tile["class"][1] for tile in article.select(".strip > .p")]
    assert len(states) == report_rows.STRIP
    assert 10 <= len([state for state in states if state in ("rejected", "failed")]) <= 20
    assert article.select_one(".more").text == f"and {90 - report_rows.STRIP} more"
    assert article.select_one(".told b").text == f"{world.rows.keep.sum()} of 90 kept"


def test_identities_beyond_the_limit_are_counted_in_a_table(small: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_rows, "SHOWN", 6)
    page = written(small)
    assert [article.h3.contents[0].strip() for article in page.select("#list > article")] == ["Person 000"]
    (row,) = page.select("#rest tbody tr")
    kept = small.rows[small.rows.identity == "person-001"].keep
    assert [int(cell.text) for cell in row.select("td")] == [kept.sum(), len(kept)]


def test_proposals_show_a_photo_of_each_gallery(small: World):
    one, two = (small.rows[small.rows.keep & (small.rows.identity == f"person-00{n}")].iloc[0].sha256 for n in (0, 1))
    found = [proposals.Proposal("same_face", "person-000", "person-001", 0.615, 4, one, two)]
    proposals.write(small.workspace.proposals_table, found)
    (pair,) = written(small).select("#proposals .pair")
    assert [tile["data-s"] for tile in pair.select(".p")] == [one, two]
    assert "cosine 0.61" in pair.figcaption.text or "cosine 0.62" in pair.figcaption.text
    assert "Person 000 and Person 001" in pair.figcaption.text


def test_a_large_report_has_its_thumbnails_beside_it_and_removes_stale_ones(
    small: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "EMBEDDED", 11)
    folder = report.files_of(small.workspace)
    page = written(small)
    named = {img["src"] for img in page.select("img[src]") if img.get("src")}
    assert named == {f"report_files/{file.name}" for file in folder.iterdir()}
    assert {Path(name).stem for name in named} <= {sha256[:20] for sha256 in small.rows.sha256}
    assert all(img["loading"] == "lazy" for img in page.select("#list img"))
    assert "data:image/jpeg" not in str(page)
    gone = small.rows[small.rows.keep].iloc[-1].sha256
    small.rows = small.rows[small.rows.sha256 != gone]
    small.save()
    monkeypatch.setattr(report, "EMBEDDED", 10)
    written(small)
    assert {file.stem for file in folder.iterdir()} == {Path(name).stem for name in named} - {gone[:20]}
    monkeypatch.setattr(report, "EMBEDDED", 400)
    embedded = written(small)
    assert not folder.exists()
    assert all(img["src"].startswith("data:image/jpeg;base64,") for img in embedded.select("#list img"))


@pytest.mark.parametrize("embedded", [0, 400])
def test_a_second_report_of_the_same_curation_touches_nothing(
    small: World, embedded: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "EMBEDDED", embedded)
    monkeypatch.setattr(report_rows, "SHOWN", 6)  # so that the second photo of the proposal is in no strip
    one, two = (small.rows[small.rows.keep & (small.rows.identity == f"person-00{n}")].iloc[0].sha256 for n in (0, 1))
    found = [proposals.Proposal("same_face", "person-000", "person-001", 0.615, 4, one, two)]
    proposals.write(small.workspace.proposals_table, found)
    written(small)
    before = small.workspace.report.stat()
    for photo in small.workspace.images.rglob("*.jpg"):
        photo.unlink()
    written(small)
    after = small.workspace.report.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_after_a_new_verdict_no_photo_is_read_again(small: World):
    pictures = len(written(small).select("#list img"))
    for photo in small.workspace.images.rglob("*.jpg"):
        photo.unlink()
    small.rows.loc[small.rows.keep, "identity_review"] = True
    small.save()
    page = written(small)
    assert len(page.select("#list .p.review")) == small.rows.keep.sum()
    assert len(page.select("#list img")) == pictures


def test_a_thumbnail_that_was_torn_or_removed_is_made_again(small: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "EMBEDDED", 0)
    written(small)
    whole = {file: file.read_bytes() for file in report.files_of(small.workspace).iterdir()}
    torn, removed, *_ = whole
    (cached,) = thumbnails.cache(small.workspace).glob(f"{torn.stem}*")
    cached.write_bytes(whole[torn][:100])
    torn.write_bytes(whole[torn][:100])
    removed.unlink()
    written(small)
    assert {file: file.read_bytes() for file in whole} == whole


def test_a_photo_that_is_gone_or_damaged_costs_its_picture_only(small: World):
    gone, damaged = small.rows[small.rows.keep].sha256[:2]
    small.workspace.photo(gone, "JPEG").unlink()
    small.workspace.photo(damaged, "JPEG").write_bytes(b"no image")
    page = written(small)
    for sha256 in (gone, damaged):
        assert page.select_one(f'#list [data-s="{sha256}"] i').text == "no picture"
    assert len(page.select("#list .p")) == len(small.rows)


def test_when_the_page_cannot_be_written_the_old_one_stays_with_all_its_pictures(
    small: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "EMBEDDED", 0)
    page = written(small)
    named = {img["src"] for img in page.select("img[src]")}
    small.rows = small.rows.iloc[:3]
    small.save()
    with monkeypatch.context() as broken:
        broken.setattr(report.atomic, "write_text", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            written(small)
    assert BeautifulSoup(small.workspace.report.read_text(), "lxml") == page
    assert all((small.workspace.root / name).exists() for name in named)


def test_forgetting_a_photo_leaves_no_picture_of_it(small: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "EMBEDDED", 0)
    written(small)
    sha256 = small.rows[small.rows.keep].iloc[0].sha256
    named = f"{sha256[:20]}*"
    assert len(list(small.workspace.root.rglob(named))) == 3  # the photo, the cache, the page's folder
    report.forget(small.workspace, [sha256])
    assert list(small.workspace.root.rglob(named)) == [small.workspace.photo(sha256, "JPEG")]
    assert not small.workspace.report.exists()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (200, 30, 30), (200, 30, 30)),
        ("P", 1, None),
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("I;16", 65535, None),
    ],
)
def test_thumbnails_of_every_mode_keep_the_colour(tmp_path: Path, mode: str, colour: object, expected: object):
    picture = Image.new(mode, (400, 600), colour)
    if mode == "P":
        picture.putpalette([0, 0, 0, 10, 200, 20])
        expected = (10, 200, 20)
    picture.save(tmp_path / "photo.png")
    workspace = report_world.Workspace(tmp_path / "data")
    with thumbnails.Thumbnails(workspace, tmp_path / "files", embed=False) as made:
        found = made.addresses([thumbnails.Source("a" * 64, tmp_path / "photo.png")])
    assert found == {"a" * 64: f"files/{'a' * 20}.jpg"}
    with Image.open(tmp_path / found["a" * 64]) as small:
        assert small.size == (96, 144)
        np.testing.assert_allclose(small.getpixel((48, 72)), expected or (255, 255, 255), atol=4)


def test_thumbnails_stand_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows go from right to left
    Image.new("RGB", (600, 400)).save(tmp_path / "photo.jpg", exif=exif)
    with thumbnails.Thumbnails(report_world.Workspace(tmp_path), tmp_path / "files", embed=False) as made:
        made.addresses([thumbnails.Source("b" * 64, tmp_path / "photo.jpg")])
    with Image.open(tmp_path / "files" / f"{'b' * 20}.jpg") as small:
        assert small.size == (96, 144)


def test_coverage_counts_views_with_both_sides_together():
    photos = [("front", "full", 3.0), ("side", "half", -90.0), ("side", "half", 80.0), ("side", "half", None)]
    photos += [("back", "portrait", -170.0), (None, "full", None), ("front", None, 0.0)]
    found = coverage.count(photos)
    assert found.unknown == 2
    assert found.by_view.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 3, 0, 0], [1, 0, 0, 0]]
    assert found.around[2].tolist() == [0, 2, 0, 0]
    assert found.around[4].tolist() == [0, 1, 0, 0]
    assert (found + found).by_view.sum() == 10

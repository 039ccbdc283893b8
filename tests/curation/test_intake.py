import functools
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from bolid.crawler.crawl import CrawlOptions, crawl_urls
from bolid.curation.intake import IntakeSummary, take_in
from bolid.errors import DataError, UsageError
from bolid.workspace import Workspace
from PIL import Image

from .conftest import photo, shelve


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def png(seed: int, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo(seed, size))).save(out, "PNG")
    return out.getvalue()


def table(workspace: Workspace) -> pd.DataFrame:
    return pd.read_parquet(workspace.images_table)


def counts(summary: IntakeSummary) -> tuple[int, int, int, dict[str, int], dict[str, int]]:
    return summary.offered, summary.stored, summary.known, dict(summary.rejected), dict(summary.failed)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two people with two photos each, one of them in a folder below."""
    root = tmp_path / "photos"
    for name, data in {
        "ann/b.jpg": photo(1),
        "ann/a/deep.png": png(2, (50, 70)),
        "Bob Builder/1.jpg": photo(3),
        "Bob Builder/2.jpg": photo(4),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "data")


def test_a_folder_tree_becomes_rows_as_those_of_a_crawl(tree: Path, workspace: Workspace):
    assert counts(take_in(workspace, tree)) == (4, 4, 0, {}, {})
    rows = table(workspace)
    assert rows["identity"].tolist() == ["Bob_Builder", "Bob_Builder", "ann", "ann"]
    assert rows["identity_name"].tolist() == ["Bob Builder", "Bob Builder", "ann", "ann"]
    files = [tree / "Bob Builder/1.jpg", tree / "Bob Builder/2.jpg", tree / "ann/a/deep.png", tree / "ann/b.jpg"]
    assert rows["url"].tolist() == [file.as_uri() for file in files]
    assert rows["page_url"].tolist() == [tree.joinpath(n).as_uri() for n in ("Bob Builder",) * 2 + ("ann",) * 2]
    assert rows["sha256"].tolist() == [sha(file.read_bytes()) for file in files]
    assert rows[["width", "height", "format"]].iloc[2].tolist() == [50, 70, "PNG"]
    assert rows["bytes"].tolist() == [file.stat().st_size for file in files]
    assert set(rows["robots"]) == {"not asked"}
    assert rows["rights"].isna().all()
    assert rows["fetched_at"].notna().all()
    for row, file in zip(rows.itertuples(), files, strict=True):
        assert workspace.photo(row.sha256, row.format).read_bytes() == file.read_bytes()


def test_what_is_no_photo_is_counted_and_named(tree: Path, workspace: Workspace):
    (tree / "ann/notes.txt").write_text("to be sorted, all of these photos here")
    (tree / "ann/empty.jpg").touch()
    (tree / "ann/scan.bmp").write_bytes(b"BM" + bytes(100))
    (tree / "ann/.DS_Store").write_bytes(bytes(100))
    (tree / "ann/gone.jpg").symlink_to(tree / "nowhere.jpg")
    (tree / "ann/self").symlink_to(tree / "ann/self")
    (tree / "ann/a/up").symlink_to(tree / "ann")
    os.mkfifo(tree / "ann/pipe.jpg")
    (tree / "loose.jpg").write_bytes(photo(9))
    (tree / ".cache").mkdir()
    summary = take_in(workspace, tree)
    rejected = {"not_an_image": 2, "unsupported_format": 1, "hidden": 2, "linked_again": 1, "not_a_file": 1}
    assert counts(summary) == (14, 4, 0, rejected | {"no_identity": 1}, {"unreadable": 2})
    named = {each.address.removeprefix(tree.as_uri()): each.reason for each in summary.refused}
    assert named["/ann/a/up"] == "linked_again"
    assert (named["/ann/gone.jpg"], named["/ann/self"]) == ("unreadable", "unreadable")
    assert named["/loose.jpg"] == "no_identity"
    again = take_in(workspace, tree)
    assert counts(again) == (14, 0, 4, dict(summary.rejected), dict(summary.failed))


def test_a_photo_that_is_cut_off_is_left_to_the_curation(tree: Path, workspace: Workspace):
    (tree / "ann/b.jpg").write_bytes(photo(1)[:900])
    assert counts(take_in(workspace, tree)) == (4, 4, 0, {}, {})


def test_a_link_to_a_photo_and_names_that_are_no_utf8_are_read(tree: Path, workspace: Workspace):
    (tree / "ann/link.jpg").symlink_to(tree / "ann/b.jpg")
    strange = os.fsdecode(b"caf\xe9.jpg")
    (tree / "ann" / strange).write_bytes(photo(5))
    assert counts(take_in(workspace, tree)) == (6, 6, 0, {}, {})
    assert (tree / "ann" / strange).as_uri() in set(table(workspace)["url"])


def test_again_adds_only_what_is_new_or_changed(tree: Path, workspace: Workspace):
    take_in(workspace, tree)
    before, written = table(workspace), workspace.images_table.stat().st_mtime_ns
    assert counts(take_in(workspace, tree)) == (4, 0, 4, {}, {})
    assert workspace.images_table.stat().st_mtime_ns == written
    (tree / "ann/a/new.jpg").write_bytes(photo(6))
    (tree / "ann/b.jpg").write_bytes(photo(7, (70, 90)))
    (tree / "Bob Builder/1.jpg").unlink()
    assert counts(take_in(workspace, tree)) == (4, 2, 2, {}, {})
    rows = table(workspace)
    kept = [sha for sha in before["sha256"] if sha != before["sha256"][3]]
    assert rows["sha256"].tolist() == [*kept, sha(photo(6)), sha(photo(7, (70, 90)))]
    assert not workspace.photo(before["sha256"][3], "JPEG").exists()
    workspace.photo(rows["sha256"][1], "JPEG").unlink()
    assert counts(take_in(workspace, tree)) == (4, 1, 3, {}, {})
    assert workspace.photo(rows["sha256"][1], "JPEG").exists()


@pytest.mark.parametrize("step", ["_to_disk", "_place", "photos_storing", "photos_stored"])
def test_killed_in_the_middle_the_next_run_completes(tree: Path, workspace: Workspace, step: str):
    for number in range(200):
        (tree / f"ann/{number:03}.jpg").write_bytes(photo(1) + number.to_bytes(2, "big"))
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from bolid.crawler import frontier, store; from bolid.curation import intake\n"
        "from bolid.workspace import Workspace\n"
        f"owner = next(o for o in (store, store.Store, frontier.Frontier) if hasattr(o, {step!r}))\n"
        f"work, calls = getattr(owner, {step!r}), []\n"
        "def dying(*args):\n"
        "    done = work(*args); calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return done\n"
        f"setattr(owner, {step!r}, dying)\n"
        "intake.take_in(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(workspace.root), str(tree)], check=False)
    assert killed.returncode == -signal.SIGKILL
    summary = take_in(workspace, tree)
    assert summary.offered == summary.stored + summary.known == 204
    rows = table(workspace)
    files = sorted(file for file in tree.rglob("*") if file.is_file())
    assert sorted(rows["sha256"]) == sorted(sha(file.read_bytes()) for file in files)
    stored = [file for file in workspace.images.rglob("*") if file.is_file()]
    assert sorted(file.stem for file in stored) == sorted(set(rows["sha256"]))
    assert all(sha(file.read_bytes()) == file.stem for file in stored)


def test_suppressed_photos_and_people_are_not_taken_and_leave(tree: Path, workspace: Workspace):
    workspace.root.mkdir()
    (workspace.root / "suppress.txt").write_text(f"Bob_Builder\n{sha(photo(1))}\n")
    assert counts(take_in(workspace, tree)) == (4, 1, 0, {"suppressed": 3}, {})
    assert table(workspace)["identity"].tolist() == ["ann"]
    assert len([file for file in workspace.images.rglob("*") if file.is_file()]) == 1
    (workspace.root / "suppress.txt").write_text("ann\n")
    assert counts(take_in(workspace, tree)) == (4, 2, 0, {"suppressed": 2}, {})
    assert table(workspace)["identity"].tolist() == ["Bob_Builder"] * 2
    assert sorted(file.stem for file in workspace.images.rglob("*.*")) == sorted(table(workspace)["sha256"])


def test_folders_of_one_name_are_one_identity_and_the_workspace_is_none(tree: Path, tmp_path: Path):
    workspace = Workspace(tree / "data")
    more = tmp_path / "more/ann/x.jpg"
    more.parent.mkdir(parents=True)
    more.write_bytes(photo(8))
    take_in(workspace, tree)
    take_in(workspace, tmp_path / "more")
    assert table(workspace)["identity"].value_counts().to_dict() == {"ann": 3, "Bob_Builder": 2}
    assert counts(take_in(workspace, tree)) == (4, 0, 4, {}, {})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTP server of a folder, and that folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"127.0.0.1:{serving.server_port}", folder
    serving.shutdown()
    thread.join()
    serving.server_close()


def crawl(workspace: Workspace, host: str, folder: Path, photos: dict[str, bytes]) -> None:
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    rows = [{"url": f"http://{host}/{name}", "who": "ann"} for name in photos]
    pd.DataFrame(rows).to_csv(folder / "list.csv", index=False)
    options = CrawlOptions(allow_private=(host,), min_res=60, rate=1000, contact=None)
    crawl_urls(workspace, options, folder / "list.csv", "url", "who")


def test_crawls_before_and_after_lose_no_photo(tree: Path, workspace: Workspace, server: tuple[str, Path]):
    host, folder = server
    crawl(workspace, host, folder, {"1.jpg": photo(11), "2.jpg": photo(12)})
    crawled = table(workspace)
    summary = take_in(workspace, tree)
    assert counts(summary) == (4, 4, 0, {}, {})
    assert summary.names == {"ann": "files:ann"}  # nobody said that the two are one person
    both = table(workspace)
    assert both["identity"].tolist() == ["ann", "ann", "Bob_Builder", "Bob_Builder", "files:ann", "files:ann"]
    pd.testing.assert_frame_equal(both.iloc[:2], crawled)
    crawl(workspace, host, folder, {"1.jpg": photo(11), "2.jpg": photo(12), "3.jpg": photo(13)})
    after = table(workspace)
    assert len(after) == 7
    assert set(both["sha256"]) | {sha(photo(13))} == set(after["sha256"])
    assert counts(take_in(workspace, tree)) == (4, 0, 4, {}, {})


def test_a_table_without_its_frontier_is_taken_over(tree: Path, tmp_path: Path):
    workspace = shelve(tmp_path, [("ann", photo(21)), ("eve", photo(22)), ("eve", photo(22))])
    before = table(workspace)
    take_in(workspace, tree)
    rows = table(workspace)
    assert sorted(rows["identity"]) == ["Bob_Builder"] * 2 + ["ann"] * 3 + ["eve"] * 2
    old = rows[rows["robots"] == "allowed"].reset_index(drop=True)
    assert old[["etag", "rights"]].isna().all(axis=None)
    told = [name for name in before.columns if name not in ("fetched_at", "etag", "rights")]
    pd.testing.assert_frame_equal(old[told], before[told], check_dtype=False)
    assert set(old["fetched_at"]) == {pd.Timestamp(2026, 1, 1, tz="UTC")}


def test_a_table_that_cannot_be_taken_over_is_left_as_it_is(tree: Path, workspace: Workspace):
    workspace.root.mkdir()
    pd.DataFrame({"sha256": ["a"]}).to_parquet(workspace.images_table)
    with pytest.raises(DataError, match=r"lacks the columns bytes, .*; move it away"):
        take_in(workspace, tree)
    workspace.images_table.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is damaged"):
        take_in(workspace, tree)
    assert workspace.images_table.read_bytes() == b"PAR1"


SAMPLES: list[tuple[str, object, bytes | None]] = [
    ("000000000", "ann", photo(31)),
    ("000000001", "ann", None),
    ("000000002", 7.0, photo(32)),
    ("000000003", None, photo(33)),
]
"""Key, person and photo of each sample; one was not downloaded, one is nobody's. As img2dataset 1.47 writes them."""


def meta(key: str, person: object, data: bytes | None) -> dict[str, object]:
    row: dict[str, object] = {"url": f"http://x.example/{key}.jpg", "person": person, "key": key}
    row |= {"status": "success" if data else "failed_to_download", "error_message": None if data else "HTTP Error 404"}
    return row | {"width": 64 if data else None, "height": 80 if data else None}


def write_output(folder: Path, form: str) -> Path:
    folder.mkdir()
    rows = [meta(*sample) for sample in SAMPLES]
    if form == "parquet":
        rows = [row | {"jpg": data} for row, (_, _, data) in zip(rows, SAMPLES, strict=True)]
    strings = {"person": [None if row["person"] is None else str(row["person"]) for row in rows]}
    pd.DataFrame(rows).assign(**strings).to_parquet(folder / "00000.parquet")
    (folder / "00000_stats.json").write_text('{"count": 4}')
    if form == "parquet":
        return folder
    entries = []
    for key, person, data in SAMPLES:
        if data:
            entries += [(f"{key}.jpg", data), (f"{key}.txt", b"a caption")]
            entries += [(f"{key}.json", json.dumps(meta(key, person, data), indent=4).encode())]
    if form == "files":
        (folder / "00000").mkdir()
        for name, data in entries:
            (folder / "00000" / name).write_bytes(data)
    else:
        with tarfile.open(folder / "00000.tar", "w") as archive:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_an_output_of_img2dataset_is_read(tmp_path: Path, workspace: Workspace, form: str):
    folder = write_output(tmp_path / "out", form)
    expected = (4, 2, 0, {"failed_to_download": 1, "no_identity": 1}, {})
    assert counts(take_in(workspace, folder, "person")) == expected
    rows = table(workspace)
    assert rows["identity"].tolist() == ["7.0", "ann"]
    assert rows["sha256"].tolist() == [sha(photo(32)), sha(photo(31))]
    assert rows["url"].tolist() == ["http://x.example/000000002.jpg", "http://x.example/000000000.jpg"]
    assert counts(take_in(workspace, folder, "person"))[:3] == (4, 0, 2)


@pytest.mark.parametrize("form", ["files", "webdataset"])
def test_a_shard_without_the_end_of_its_table_is_read_by_its_json(tmp_path: Path, workspace: Workspace, form: str):
    folder = write_output(tmp_path / "out", form)
    (folder / "00000.parquet").write_bytes(b"PAR1")
    # What was not downloaded is in the table alone.
    assert counts(take_in(workspace, folder, "person")) == (3, 2, 0, {"no_identity": 1}, {})
    assert sorted(table(workspace)["identity"]) == ["7", "ann"]  # a number in .json, which people write as 7


def test_an_archive_that_is_cut_off_costs_what_it_lacks(tmp_path: Path, workspace: Workspace):
    folder = write_output(tmp_path / "out", "webdataset")
    whole = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(whole[: whole.index(b"000000002.jpg") + 600])
    summary = take_in(workspace, folder, "person")
    assert counts(summary)[:3] == (4, 1, 0)
    assert summary.rejected["failed_to_download"] == 1
    assert sum(summary.failed.values()) == 2 - summary.rejected["no_identity"]
    (folder / "00000.tar").write_bytes(whole)
    assert counts(take_in(workspace, folder, "person")) == (
        4, 2, 0, {"failed_to_download": 1, "no_identity": 1}, {}
    )  # fmt: skip
    assert sorted(table(workspace)["sha256"]) == sorted((sha(photo(31)), sha(photo(32))))


def test_a_scaled_photo_of_img2dataset_does_not_stand_for_its_address(
    tmp_path: Path, workspace: Workspace, server: tuple[str, Path]
):
    host, folder = server
    out = tmp_path / "out"
    out.mkdir()
    (out / "00000").mkdir()
    row = {"url": f"http://{host}/1.jpg", "person": "ann", "key": "000000000", "status": "success"}
    pd.DataFrame([row]).to_parquet(out / "00000.parquet")
    (out / "00000/000000000.jpg").write_bytes(photo(1, (32, 40)))
    take_in(workspace, out, "person")
    crawl(workspace, host, folder, {"1.jpg": photo(1, (64, 80))})
    assert sorted(table(workspace)["width"]) == [32, 64]


def test_wrong_folders_and_columns_are_messages(tree: Path, workspace: Workspace, tmp_path: Path):
    with pytest.raises(UsageError, match="is not a folder"):
        take_in(workspace, tree / "ann/b.jpg")
    with pytest.raises(UsageError, match="is a plain folder tree"):
        take_in(workspace, tree, "person")
    with pytest.raises(DataError, match="holds no folder"):
        take_in(workspace, tree / "ann/a")
    with pytest.raises(UsageError, match="belongs to the workspace"):
        take_in(Workspace(tree), tree)
    out = write_output(tmp_path / "out", "files")
    with pytest.raises(
        UsageError, match=r"add --identity-column NAME, whose photo each is \(columns: url, person, key, status"
    ):
        take_in(workspace, out)
    with pytest.raises(UsageError, match=r"no column 'persn'; did you mean 'person'.*\(columns: url, person"):
        take_in(workspace, out, "persn")
    assert not workspace.root.exists()

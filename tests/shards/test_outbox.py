"""`bolid pack --out URL`: sent whole, manifest last, resumable; shown on a file system in memory."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from bolid.errors import DataError, UsageError, WorkspaceError
from bolid.shards import PackConfig, pack, read_index, read_manifest, verify
from fsspec.implementations.memory import MemoryFileSystem

from .conftest import EVEN, Curation
from .test_append import retire

CONFIG = PackConfig(shard_size=40_000, split=EVEN)
URL = "memory://bucket/shards"


class Killed(BaseException):
    """Stands for a kill: nothing catches it, nothing tidies up after it."""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("bolid.shards.remote.FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("BOLID_CACHE", str(tmp_path / "cache"))
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def stored() -> dict[str, str]:
    """Digest of every file at the address."""
    system = fsspec.filesystem("memory")
    paths = system.ls("/bucket/shards", detail=False) if system.exists("/bucket/shards") else []
    return {Path(path).name: hashlib.sha256(system.cat_file(path)).hexdigest() for path in paths}


def local(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.startswith(".")
    }


def test_what_arrives_is_what_a_local_pack_writes(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=5, photos=2)
    workspace = curation.write()
    summary = pack(workspace, CONFIG, URL)
    assert (summary.out, summary.added) == (URL, 10)
    assert stored() == local(pack(workspace, CONFIG, tmp_path / "here").out)
    assert verify(URL) == []
    assert [path.name for path in (workspace.root / "outbox").iterdir() if path.is_dir()] == []


def test_a_file_address_is_a_folder(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=3, photos=2)
    pack(curation.write(), CONFIG, f"file://{tmp_path / 'here'}")
    assert verify(tmp_path / "here") == []


def test_appending_sends_only_new_shards(curation: Curation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    curation.add_people(people=4, photos=2)
    pack(curation.write(), CONFIG, URL)
    before = stored()
    sent: list[str] = []
    put = MemoryFileSystem.put_file

    def counted(self: MemoryFileSystem, here: str, there: str, *rest: object, **options: object) -> None:
        sent.append(Path(there).name)
        put(self, here, there, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", counted)
    curation.add_people(people=2, photos=2, first=4)
    assert pack(curation.write(), CONFIG, URL).added == 4
    assert not set(sent) & {name for name in before if name.endswith(".tar")}
    assert sent[-1] == "manifest.json"
    assert read_index(URL).num_rows == 12
    assert verify(URL) == []
    sent.clear()
    assert pack(curation.write(), CONFIG, URL).added == 0
    assert not [name for name in sent if name.endswith(".tar")]


@pytest.mark.parametrize("how", ["first", "append", "repack"])
def test_a_kill_at_any_request_leaves_the_old_dataset_or_none(
    curation: Curation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """For every n: the pack dies at its n-th change of the address, which then holds the old dataset, or no manifest,
    or a torn one; the next pack completes it."""
    if how != "first":
        curation.add_people(people=3, photos=2)
        pack(curation.write(), CONFIG, URL)
    old, old_store = stored(), dict(MemoryFileSystem.store)
    curation.add_people(people=2, photos=1, first=3)
    workspace = curation.write()
    repack = how == "repack"
    left = 0

    def dying(name: str) -> None:
        original = getattr(MemoryFileSystem, name)

        def counted(self: MemoryFileSystem, *arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                if name == "put_file":  # torn: half of the file is there
                    here, there = arguments[:2]
                    self.pipe_file(there, Path(str(here)).read_bytes()[:100])
                raise Killed
            return original(self, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, name, counted)

    for name in ("put_file", "rm_file"):
        dying(name)
    for boundaries in range(100):
        MemoryFileSystem.store.clear()
        MemoryFileSystem.store.update(old_store)
        shutil.rmtree(workspace.root / "outbox", ignore_errors=True)
        left = boundaries
        try:
            pack(workspace, CONFIG, URL, repack=repack)
            break
        except Killed:
            now = stored()
            if "manifest.json" in now and now["manifest.json"] == old.get("manifest.json"):
                assert {name: now[name] for name in old} == old
            elif "manifest.json" in now:  # torn, as on file systems that are no object stores: no reader accepts it
                with pytest.raises(DataError, match="is damaged"):
                    read_manifest(URL)
        left = 1000
        pack(workspace, CONFIG, URL, repack=repack)
        assert verify(URL) == []
        assert read_index(URL).num_rows == sum(row["keep"] for row in curation.rows)
    assert boundaries >= 5


def test_sent_shards_are_not_sent_again(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    curation.add_people(people=6, photos=2)
    workspace = curation.write()
    put, sent = MemoryFileSystem.put_file, []

    def counted(self: MemoryFileSystem, here: str, there: str, *rest: object, **options: object) -> None:
        if there.endswith("index.parquet") and "index.parquet" not in sent:
            sent.append("index.parquet")
            raise Killed
        sent.append(Path(there).name)
        put(self, here, there, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", counted)
    with pytest.raises(Killed):
        pack(workspace, CONFIG, URL)
    assert "manifest.json" not in stored()
    pack(workspace, CONFIG, URL)
    tars = [name for name in sent if name.endswith(".tar")]
    assert len(tars) == len(set(tars)) == len(read_manifest(URL).shards)


def test_another_pack_in_the_meantime_is_noticed(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    curation.add_people(people=3, photos=2)
    pack(curation.write(), CONFIG, URL)
    put = MemoryFileSystem.put_file

    def meanwhile(self: MemoryFileSystem, here: str, there: str, *rest: object, **options: object) -> None:
        self.pipe_file("/bucket/shards/manifest.json", json.dumps({"other": 1}).encode())
        put(self, here, there, *rest, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", meanwhile)
    curation.add_people(people=1, photos=2, first=3)
    with pytest.raises(DataError, match=f"another pack wrote to {URL}"):
        pack(curation.write(), CONFIG, URL)


def test_exclusions_are_obeyed_there_too(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    here = pack(workspace, CONFIG, tmp_path / "here").out
    row = read_index(here).to_pylist()[0]
    retire(here, row["key"], "forgotten")
    pack(workspace, CONFIG, here, repack=True)
    fsspec.filesystem("memory").put(str(here) + "/", "/bucket/shards", recursive=True)
    for _ in range(2):
        pack(workspace, CONFIG, URL, repack=True)
        assert row["sha256"] not in read_index(URL, retired=True)["sha256"].to_pylist()
    assert read_manifest(URL).excluded == 1
    assert verify(URL) == []


def test_a_lost_shard_is_named(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    pack(workspace, CONFIG, URL)
    name = next(iter(read_manifest(URL).shards))
    fsspec.filesystem("memory").rm_file(f"/bucket/shards/{name}")
    with pytest.raises(DataError, match=rf"lacks {name} .*bolid pack --repack"):
        pack(workspace, CONFIG, URL)
    pack(workspace, CONFIG, URL, repack=True)
    assert verify(URL) == []


def test_failures_that_pass_are_tried_again(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    curation.add_people(people=3, photos=2)
    put, failing = MemoryFileSystem.put_file, [2]

    def failed(self: MemoryFileSystem, *arguments: object, **options: object) -> None:
        if failing[0]:
            failing[0] -= 1
            raise ConnectionError("reset")
        put(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", failed)
    workspace = curation.write()
    pack(workspace, CONFIG, URL)
    assert verify(URL) == []
    failing[0] = 99
    with pytest.raises(WorkspaceError, match=r"failed 4 times: ConnectionError.*check the address"):
        pack(workspace, CONFIG, URL, repack=True)


def test_foreign_tars_and_unknown_addresses_are_refused(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    fsspec.filesystem("memory").pipe_file("/bucket/shards/train-000000.tar", b"precious")
    with pytest.raises(DataError, match="not a dataset of bolid"):
        pack(workspace, CONFIG, URL)
    with pytest.raises(UsageError, match="nonsense"):
        pack(workspace, CONFIG, "nonsense://bucket/shards")
    with pytest.raises(UsageError, match="as a string"):
        pack(workspace, CONFIG, Path("s3://bucket/shards"))

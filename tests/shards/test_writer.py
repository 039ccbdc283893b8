import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bolid import atomic
from bolid.errors import DataError, WorkspaceError
from bolid.shards import PackConfig, PackSummary, pack, read_index, read_manifest, verify
from bolid.shards.schema import INDEX_SCHEMA, META_FIELDS
from bolid.workspace import Workspace
from PIL import Image

from .conftest import EVEN, Curation, encoded, pattern


def files(folder: Path) -> dict[str, str]:
    """Digest of every file that belongs to a dataset."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


def part(folder: Path, name: str) -> bytes:
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            if name in tar.getnames():
                return tar.extractfile(name).read()
    raise KeyError(name)


def metas(folder: Path) -> list[dict]:
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    return found


def test_a_dataset_has_the_files_of_the_contract(packed: PackSummary) -> None:
    names = set(files(packed.out))
    assert {"index.parquet", "manifest.json", "README.md", "croissant.json"} <= names
    assert len([name for name in names if name.endswith(".tar")]) == packed.shards >= 4
    assert sum(packed.samples.values()) == 40
    assert sum(packed.identities.values()) == 8
    assert packed.bytes == sum(path.stat().st_size for path in packed.out.glob("*.tar"))


def test_tars_follow_the_portable_rules(packed: PackSummary) -> None:
    seen = set()
    for path in sorted(packed.out.glob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            found = tar.getmembers()
            assert tar.format == tarfile.USTAR_FORMAT or path.read_bytes()[257:263] == b"ustar\0"
        for member in found:
            owner = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
            assert owner == (0, 0, 0, "", "", 0o644)
        names = [member.name for member in found]
        keys = [name.split(".")[0] for name in names[::4]]
        assert names == [f"{key}.{part}" for key in keys for part in ("jpg", "json", "npy", "txt")]
        assert keys == sorted(keys)
        assert not seen & set(keys)
        seen |= set(keys)
    assert len(seen) == 40


def test_the_original_bytes_are_kept(packed: PackSummary) -> None:
    index = read_index(packed.out)
    for row in index.to_pylist():
        with (packed.out / row["shard"]).open("rb") as file:
            file.seek(row["image_offset"])
            assert hashlib.sha256(file.read(row["image_size"])).hexdigest() == row["sha256"]


def test_the_index_locates_every_part_as_tarfile_does(packed: PackSummary) -> None:
    index = read_index(packed.out)
    assert index.schema.equals(INDEX_SCHEMA)
    places = {}
    for path in packed.out.glob("*.tar"):
        with tarfile.open(path) as tar:
            places |= {(path.name, member.name): (member.offset_data, member.size) for member in tar}
    for row in index.to_pylist():
        for part in ("image", "json", "npy", "txt"):
            name = f"{row['key']}.{'jpg' if part == 'image' else part}"
            assert places.pop((row["shard"], name)) == (row[f"{part}_offset"], row[f"{part}_size"])
    assert not places


def test_every_sample_has_the_same_keys_and_types(packed: PackSummary) -> None:
    shapes = {
        tuple(
            (name, type(value).__name__, np.shape(value) if isinstance(value, list) else ())
            for name, value in m.items()
        )
        for m in metas(packed.out)
    }
    assert len(shapes) == 1
    assert [name for name, *_ in shapes.pop()] == list(META_FIELDS)


def test_what_was_not_measured_is_zero_and_says_so(packed: PackSummary) -> None:
    for meta in metas(packed.out):
        assert meta["pose_model"] == ""
        assert not np.any(meta["keypoints"])
        assert not meta["has_face"]
        assert meta["fetched_at"] == "2023-11-14T22:13:20.500000+00:00"


def test_identities_stay_whole_and_splits_share_none(packed: PackSummary) -> None:
    homes: dict[int, set[tuple[str, str]]] = {}
    for row in read_index(packed.out).to_pylist():
        homes.setdefault(row["identity"], set()).add((row["split"], row["shard"]))
    assert len(homes) == 8
    assert all(len(places) == 1 for places in homes.values())
    assert {split for places in homes.values() for split, _ in places} == {"train", "val", "test"}


def test_shards_stay_below_the_size_asked_for(packed: PackSummary) -> None:
    sizes = {path.name: path.stat().st_size for path in packed.out.glob("*.tar")}
    several = [name for name, entry in read_manifest(packed.out).shards.items() if entry.identities > 1]
    assert all(sizes[name] <= 60_000 for name in several)


def test_two_packs_of_the_same_photos_are_the_same_bytes(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=5, photos=3)
    curation.add("person_000", encoded(pattern(9, (40, 40)), "PNG"), "png")
    config = PackConfig(shard_size=40_000, split=EVEN)
    pack(curation.write(), config, tmp_path / "a")
    curation.rows.reverse()
    pack(curation.write(), config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) > 6


def test_rejected_photos_are_not_packed(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    rejected = curation.add("person_000", encoded(pattern(77, (30, 30)), "JPEG"), keep=False)
    summary = pack(curation.write(), PackConfig())
    assert sum(summary.samples.values()) == 6
    assert rejected not in read_index(summary.out)["sha256"].to_pylist()


def test_other_formats_become_jpeg_and_look_the_same(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    picture = pattern(5, (64, 48))
    for name, kind in (("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF")):
        curation.add("person_000", encoded(picture, kind), name)
    out = pack(curation.write(), PackConfig(jpeg_quality=95)).out
    found = {meta["original_format"]: meta["key"] for meta in metas(out)}
    assert set(found) == {"jpg", "png", "webp", "gif"}
    with Image.open(io.BytesIO(part(out, f"{found['png']}.jpg"))) as decoded:
        assert decoded.format == "JPEG"
        assert np.abs(np.asarray(decoded, int) - np.asarray(picture, int)).mean() < 3


def test_keep_format_keeps_the_bytes(curation: Curation) -> None:
    for identity in range(3):
        curation.add(f"person_{identity}", encoded(pattern(identity, (32, 32)), "PNG"), "png")
    out = pack(curation.write(), PackConfig(keep_format=True)).out
    index = read_index(out)
    assert set(index["image_suffix"].to_pylist()) == {"png"}
    assert [digest.hex() for digest in index["image_sha256"].to_pylist()] == index["sha256"].to_pylist()
    assert verify(out) == []


def test_transparent_and_deep_pictures_become_plain_rgb(curation: Curation) -> None:
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((32, 32), 0x8000, np.uint16))
    curation.add("a", encoded(clear, "PNG"), "png")
    curation.add("b", encoded(deep, "PNG"), "png")
    out = pack(curation.write(), PackConfig()).out
    with tarfile.open(out / "train-000000.tar") as tar:
        found = [np.asarray(Image.open(tar.extractfile(m))) for m in tar if m.name.endswith(".jpg")]
    assert found[0].min() >= 254  # transparency shows white
    assert np.abs(found[1].astype(int) - 128).max() <= 1


def test_later_columns_reach_the_sample(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    keypoints = [float(value) for value in np.linspace(0, 40, 51, dtype=np.float32)]
    face = [0.5] * 512
    curation.add(
        "person_000",
        encoded(pattern(55, (48, 64)), "JPEG"),
        caption="eine Frau — im Garten",
        keypoints=keypoints,
        person_box=[1.0, 2.0, 30.0, 60.0],
        face_box=[3.0, 4.0, 9.0, 10.0],
        face_embedding=face,
        pose_confidence=0.75,
        pose_model="yolo11x-pose",
        view="front",
        framing="full body",
    )
    out = pack(curation.write(), PackConfig()).out
    [meta] = [meta for meta in metas(out) if meta["pose_model"]]
    assert np.allclose(np.ravel(meta["keypoints"]), keypoints, atol=1e-4)
    assert (meta["person_box"], meta["face_box"]) == ([1.0, 2.0, 30.0, 60.0], [3.0, 4.0, 9.0, 10.0])
    assert (meta["pose_confidence"], meta["view"], meta["has_face"]) == (0.75, "front", True)
    assert part(out, f"{meta['key']}.txt").decode() == "eine Frau — im Garten"
    assert np.load(io.BytesIO(part(out, f"{meta['key']}.npy"))).tolist() == face


def test_an_empty_curation_says_what_to_do(curation: Curation) -> None:
    curation.add("a", encoded(pattern(1, (32, 32)), "JPEG"), keep=False)
    with pytest.raises(DataError, match=r"keeps no photo.*bolid curate"):
        pack(curation.write(), PackConfig())


def test_a_missing_table_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="bolid curate"):
        pack(Workspace(tmp_path), PackConfig())


def test_a_missing_file_is_found_before_anything_is_written(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    next(workspace.images.rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match="1 of 6 kept photos have no file"):
        pack(workspace, PackConfig())
    assert not list(workspace.shards.glob("*.tar"))


def test_a_damaged_file_is_named(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    victim = next(workspace.images.rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=rf"{victim.name}.* is damaged"):
        pack(workspace, PackConfig())
    assert not (workspace.shards / "manifest.json").exists()


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_a_file_that_is_no_whole_picture_is_named(curation: Curation, name: str) -> None:
    suffix = {"PNG": "png", "JPEG": "jpg"}[name]
    data = encoded(pattern(1, (64, 64)), name)
    curation.add("a", data, suffix)
    torn = data[:60] + bytes(len(data) - 60)
    sha256 = hashlib.sha256(torn).hexdigest()
    path = curation.workspace.image(sha256, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(torn)
    curation.rows[0]["sha256"] = sha256
    with pytest.raises(DataError, match=rf"{sha256}.* of a cannot be packed"):
        pack(curation.write(), PackConfig(max_side=32))


def test_a_file_larger_than_the_index_can_say_is_named(curation: Curation) -> None:
    curation.add_people(people=1, photos=1)
    workspace = curation.write()
    victim = next(workspace.images.rglob("*.jpg"))
    with victim.open("r+b") as file:
        file.truncate(2**31)  # takes no space
    with pytest.raises(DataError, match=rf"{victim.name}.* is larger than"):
        pack(workspace, PackConfig())


def test_a_full_disk_says_so_and_leaves_no_shard(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    curation.add_people(people=3, photos=2)
    monkeypatch.setattr("bolid.shards.tar.TarWriter._flush", full)
    with pytest.raises(WorkspaceError, match=r"train-000000\.tar: the disk is full"):
        pack(curation.write(), PackConfig())
    assert not list(curation.workspace.shards.glob("*.tar"))
    assert not list(curation.workspace.shards.glob(".*.tmp"))


def test_a_photo_kept_twice_is_refused(curation: Curation) -> None:
    data = encoded(pattern(1, (32, 32)), "JPEG")
    curation.add("a", data)
    curation.add("a", data)
    with pytest.raises(DataError, match="of a 2 times"):
        pack(curation.write(), PackConfig())


def test_a_second_pack_at_the_same_time_says_so(curation: Curation) -> None:
    curation.add_people(people=3, photos=1)
    workspace = curation.write()
    with (
        atomic.locked(workspace.shards / ".lock", "x"),
        pytest.raises(WorkspaceError, match=r"the packing of .*in use"),
    ):
        pack(workspace, PackConfig())


def test_a_folder_with_foreign_tars_is_left_alone(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=3, photos=1)
    out = tmp_path / "mine"
    out.mkdir()
    (out / "train-000000.tar").write_bytes(b"precious")
    with pytest.raises(DataError, match="not a dataset of bolid"):
        pack(curation.write(), PackConfig(), out)
    assert (out / "train-000000.tar").read_bytes() == b"precious"


KILLED = """
import os, signal, sys
from pathlib import Path
from bolid.shards import writer, PackConfig, pack
from bolid.workspace import Workspace
left = int(sys.argv[2])
original = writer.TarWriter.add
def counted(self, name, data):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, name, data)
writer.TarWriter.add = counted
pack(Workspace(Path(sys.argv[1])), PackConfig(shard_size=20_000, split=(0.6, 0.2, 0.2)))
"""


def test_a_killed_pack_leaves_whole_shards_and_goes_on(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=6, photos=3)
    workspace = curation.write()
    died = subprocess.run([sys.executable, "-c", KILLED, workspace.root, "40"], cwd=tmp_path, check=False)
    assert died.returncode == -signal.SIGKILL
    noted = [path.stem for path in (workspace.shards / ".pack").glob("*.tar.parquet")]
    finished = {workspace.shards / name: (workspace.shards / name).stat().st_mtime_ns for name in noted}
    assert finished
    assert not (workspace.shards / "manifest.json").exists()
    for path in workspace.shards.glob("*.tar"):  # the last one may not be noted yet
        with tarfile.open(path) as tar:
            assert len(tar.getmembers()) % 4 == 0
    with pytest.raises(DataError, match="no finished dataset"):
        read_index(workspace.shards)

    summary = pack(workspace, PackConfig(shard_size=20_000, split=EVEN))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # not written again
    assert verify(summary.out) == []
    assert not list(summary.out.glob(".*.tmp"))
    fresh = pack(workspace, PackConfig(shard_size=20_000, split=EVEN), tmp_path / "fresh")
    assert files(summary.out) == files(fresh.out)


def test_a_pack_killed_from_outside_goes_on(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=6, photos=3)
    workspace = curation.write()
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, workspace.root, "20"], cwd=tmp_path)
    while not list(workspace.shards.glob(".*.tmp")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert verify(pack(workspace, PackConfig(shard_size=20_000, split=EVEN)).out) == []


def test_the_index_reads_as_plain_parquet(packed: PackSummary) -> None:
    assert pq.read_metadata(packed.out / "index.parquet").num_rows == 40

"""Packing into a dataset that exists: what is there stays, what is new is added, what is gone is retired."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.errors import DataError
from bolid.shards import (
    IdentityBatchSampler,
    IdentityDataset,
    PackConfig,
    pack,
    read_index,
    read_manifest,
    stream,
    verify,
)
from bolid.shards.excluded import write_excluded
from bolid.shards.plan import position

from .conftest import EVEN, Curation, encoded, pattern

CONFIG = PackConfig(shard_size=40_000, split=EVEN)


def tars(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob("*.tar"))
    }


def retire(folder: Path, key: str, reason: str) -> None:
    """What a later command does to forget someone: the index says so, and the manifest names the new index."""
    path = folder / "index.parquet"
    index = pq.read_table(path)
    rows = index["key"].to_pylist()
    flags = [flag or name == key for flag, name in zip(index["retired"].to_pylist(), rows, strict=True)]
    reasons = [
        reason if name == key else old for name, old in zip(rows, index["retired_reason"].to_pylist(), strict=True)
    ]
    for name, values in (("retired", flags), ("retired_reason", reasons)):
        field = index.schema.field(name)
        index = index.set_column(index.schema.get_field_index(name), field, pa.array(values, field.type))
    pq.write_table(index, path)
    manifest = read_manifest(folder)
    splits = dict(manifest.splits)
    split = next(row["split"] for row in index.to_pylist() if row["key"] == key)
    splits[split] = splits[split].model_copy(update={"samples": splits[split].samples - 1})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.model_copy(update={"index_sha256": digest, "splits": splits, "retired": manifest.retired + 1}).write(
        folder
    )


def test_packing_again_changes_nothing(curation: Curation) -> None:
    curation.add_people(people=4, photos=2)
    workspace = curation.write()
    out = pack(workspace, CONFIG).out
    before = tars(out), (out / "manifest.json").read_bytes(), (out / "index.parquet").read_bytes()
    again = pack(workspace, CONFIG)
    assert (tars(out), (out / "manifest.json").read_bytes(), (out / "index.parquet").read_bytes()) == before
    assert again.added == 0


def test_new_photos_become_new_shards_and_nothing_old_is_rewritten(curation: Curation) -> None:
    curation.add_people(people=6, photos=2)
    out = pack(curation.write(), CONFIG).out
    old, old_rows = tars(out), read_index(out).to_pylist()
    curation.add_people(people=3, photos=2, first=6)  # three new people
    curation.add("person_001", encoded(pattern(901, (48, 64)), "JPEG"))  # a new photo of an old one
    summary = pack(curation.write(), CONFIG)
    assert summary.added == 7
    now = tars(out)
    assert {name: now[name] for name in old} == old
    assert len(now) > len(old)
    rows = {row["key"]: row for row in read_index(out).to_pylist()}
    assert all(rows[row["key"]] == row for row in old_rows)
    assert verify(out) == []
    people = {(row["identity"], row["split"]) for row in rows.values()}
    assert len(people) == 9
    [added] = [row for row in rows.values() if row["identity_slug"] == "person_001" and row["pack"] == 1]
    assert added["key"] == "i000001_000002"


def test_added_people_go_where_their_names_say(curation: Curation) -> None:
    """Few of them too: the rule for tiny datasets looks at the whole dataset, not at what is added."""
    curation.add_people(people=20, photos=1)
    out = pack(curation.write(), CONFIG).out
    wanted = {"val": "", "test": "", "train": ""}
    for number in range(1000):
        u = position(f"new_{number}", CONFIG.split_key)
        wanted["val" if u < 0.2 else "test" if u >= 0.8 else "train"] = f"new_{number}"
    for split, name in wanted.items():
        curation.add(name, encoded(pattern(len(curation.rows) + 5000, (48, 64)), "JPEG"))
        pack(curation.write(), CONFIG)
        assert {row["split"] for row in read_index(out).to_pylist() if row["identity_slug"] == name} == {split}


def test_photos_that_are_no_longer_kept_are_retired_everywhere_and_come_back(curation: Curation) -> None:
    curation.add_people(people=4, photos=3)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    gone = next(row for row in curation.rows if row["sha256"] == read_index(out)["sha256"][4].as_py())
    gone["keep"] = False
    summary = pack(curation.write(), PackConfig(split=(1, 0, 0)))
    assert (summary.retired, summary.samples["train"]) == (1, 11)
    assert read_index(out).num_rows == 11
    assert read_index(out, retired=True).num_rows == 12
    people = IdentityDataset(out, refs=2, size=16)
    assert len(people) == 11
    key = "i000001_000001"
    seen = [people[draw] for batch in IdentityBatchSampler(people.index, 4) for draw in batch]
    assert key not in {item["key"] for item in seen} | {name for item in seen for name in item["reference_keys"]}
    assert verify(out) == []

    gone["keep"] = True
    assert pack(curation.write(), PackConfig(split=(1, 0, 0))).retired == 0
    assert key in read_index(out)["key"].to_pylist()


def test_an_index_with_retired_rows_gives_the_same_targets(curation: Curation) -> None:
    """A sampler over `read_index(…, retired=True)` must not draw the neighbours of what it means."""
    curation.add_people(people=4, photos=3)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    retire(out, "i000000_000001", "forgotten")
    people = IdentityDataset(out, refs=1, size=16)
    whole = read_index(out, "train", retired=True)
    assert whole.num_rows == len(people) + 1
    drawn = [people[draw]["key"] for batch in IdentityBatchSampler(whole, 3) for draw in batch if draw.weight]
    assert sorted(drawn) == read_index(out)["key"].to_pylist()
    aspects = [(64, 48), (48, 64)]
    assert list(IdentityBatchSampler(whole, 3, buckets=aspects)) == list(
        IdentityBatchSampler(people.index, 3, buckets=aspects)
    )


def test_a_photo_replaced_by_another_changes_the_index_hash(curation: Curation) -> None:
    """The numbers are the same after a repack, the photos are not."""
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    before = IdentityDataset(out, refs=1, size=16)
    state = IdentityBatchSampler(before.index, 2).state_dict()
    assert IdentityBatchSampler(read_index(out, "train"), 2).state_dict() == state
    pack(curation.write(), PackConfig(split=(1, 0, 0), shard_size=30_000), repack=True)  # the same photos
    IdentityBatchSampler(IdentityDataset(out, refs=1, size=16).index, 2).load_state_dict(state)
    curation.rows = [row for row in curation.rows if row["identity"] != "person_001"]
    for seed in (901, 902):
        curation.add("person_001", encoded(pattern(seed, (48, 64)), "JPEG"))
    pack(curation.write(), PackConfig(split=(1, 0, 0)), repack=True)
    after = IdentityDataset(out, refs=1, size=16)
    assert after.index.select(["identity", "number"]) == before.index.select(["identity", "number"])
    with pytest.raises(DataError, match="index changed"):
        IdentityBatchSampler(after.index, 2).load_state_dict(state)


def test_the_stream_skips_retired_photos(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    retire(out, "i000001_000001", "forgotten")
    assert "i000001_000001" not in {sample["__key__"] for sample in stream(out)}
    assert len(list(stream(out))) == 5


def test_a_forgotten_photo_does_not_come_back(curation: Curation) -> None:
    curation.add_people(people=4, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    sha256 = read_index(out)["sha256"][3].as_py()
    retire(out, "i000001_000001", "forgotten")
    assert verify(out) == []
    curation.add_people(people=1, photos=2, first=4)
    pack(curation.write(), PackConfig(split=(1, 0, 0)))
    assert sha256 not in read_index(out)["sha256"].to_pylist()
    pack(curation.write(), PackConfig(split=(1, 0, 0)), repack=True)
    assert sha256 not in read_index(out, retired=True)["sha256"].to_pylist()
    assert verify(out) == []
    pack(curation.write(), PackConfig(split=(1, 0, 0)))  # the index knows nothing of it any more
    pack(curation.write(), PackConfig(split=(1, 0, 0)), repack=True)
    assert sha256 not in read_index(out, retired=True)["sha256"].to_pylist()
    assert verify(out) == []
    assert read_manifest(out).excluded == 1
    assert pq.read_table(out / "excluded.parquet").to_pylist() == [{"sha256": sha256, "reason": "forgotten"}]


def test_a_forgotten_photo_comes_back_under_no_name(curation: Curation) -> None:
    data = encoded(pattern(700, (48, 64)), "JPEG")
    curation.add_people(people=4, photos=2)
    sha256 = curation.add("person_000", data)
    curation.add("person_001", data)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    retire(out, "i000000_000002", "forgotten")
    curation.add("person_002", data)
    pack(curation.write(), PackConfig(split=(1, 0, 0)))
    rows = [row for row in read_index(out, retired=True).to_pylist() if row["sha256"] == sha256]
    assert [(row["identity"], row["retired"], row["retired_reason"]) for row in rows] == [
        (0, True, "forgotten"),
        (1, True, "forgotten"),
    ]
    assert verify(out) == []


def test_a_damaged_list_of_exclusions_stops_the_pack(curation: Curation) -> None:
    curation.add_people(people=4, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    retire(out, "i000001_000001", "forgotten")
    pack(curation.write(), PackConfig(split=(1, 0, 0)))
    (out / "excluded.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"excluded\.parquet cannot be read .* must not come back"):
        pack(curation.write(), PackConfig(split=(1, 0, 0)))
    (out / "excluded.parquet").unlink()
    assert "excluded.parquet is not the one that manifest.json names" in {problem.text for problem in verify(out)}
    with pytest.raises(DataError, match=r"excluded\.parquet is missing.* 1 photos that must not come back"):
        pack(curation.write(), PackConfig(split=(1, 0, 0)))


def test_a_pack_without_any_photo_that_may_be_packed_says_so(curation: Curation) -> None:
    curation.add_people(people=1, photos=2)
    out = pack(curation.write(), PackConfig()).out
    write_excluded(out, dict.fromkeys(read_index(out)["sha256"].to_pylist(), "forgotten"))
    with pytest.raises(DataError, match=r"all kept photos are excluded by .*excluded\.parquet"):
        pack(curation.write(), PackConfig())


def test_other_options_need_a_repack(curation: Curation) -> None:
    curation.add_people(people=4, photos=2)
    workspace = curation.write()
    pack(workspace, CONFIG)
    with pytest.raises(DataError, match=r"packed with jpeg_quality = 92.*--repack"):
        pack(workspace, CONFIG.model_copy(update={"jpeg_quality": 80}))
    summary = pack(workspace, PackConfig(shard_size="1M", split=EVEN, jpeg_quality=80), repack=True)
    assert summary.shards == 3
    assert verify(summary.out) == []  # also: no tar of the first pack is left


def test_a_repack_is_what_a_first_pack_would_be(curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=3, photos=2)
    pack(curation.write(), CONFIG)
    curation.add_people(people=3, photos=2, first=3)
    workspace = curation.write()
    pack(workspace, CONFIG)
    out = pack(workspace, CONFIG, repack=True).out
    fresh = pack(workspace, CONFIG, tmp_path / "fresh").out
    assert [digest for digest, _ in tars(out).values()] == [digest for digest, _ in tars(fresh).values()]
    assert (out / "index.parquet").read_bytes() == (fresh / "index.parquet").read_bytes()
    assert (out / "manifest.json").read_bytes() == (fresh / "manifest.json").read_bytes()


def test_newer_annotations_are_told(curation: Curation, capsys: pytest.CaptureFixture[str]) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    pack(workspace, CONFIG)
    curation.rows[0]["caption"] = "a caption that came later"
    curation.write()
    assert pack(workspace, CONFIG).stale == 1
    assert "1 packed photos have other annotations" in capsys.readouterr().err
    assert pack(workspace, CONFIG, repack=True).stale == 0


EVERY_BOUNDARY = """
import os, shutil, signal, sys
from pathlib import Path
# All imports before the forks; nothing is run here, because running starts threads, which do not survive a fork.
import numpy, PIL.Image, pyarrow.acero, pyarrow.dataset, pyarrow.parquet
PIL.Image.preinit()
from bolid import atomic
from bolid.shards import PackConfig, pack, read_index, tar, verify, writer
from bolid.shards.reader import COLUMNS, SampleReader
from bolid.shards.store import open_store
from bolid.workspace import Workspace

workspace, how, left = Workspace(Path(sys.argv[1])), sys.argv[2], 0
os.fsync = lambda descriptor: None  # a kill of the process loses nothing that was written
config = PackConfig(shard_size=40_000, split=(0.6, 0.2, 0.2))
saved, out = workspace.root / "saved", workspace.shards

def boundary(original):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return counted

def interrupted():
    Path.replace, Path.unlink = boundary(Path.replace), boundary(Path.unlink)
    Path.mkdir, atomic.sync_folder = boundary(Path.mkdir), boundary(atomic.sync_folder)
    tar.write_all, writer.TarWriter.finish = boundary(tar.write_all), boundary(writer.TarWriter.finish)
    pack(workspace, config, repack=how == "repack")

def readable(least):
    index = read_index(out, retired=True)
    assert index.num_rows >= least or how != "append", index.num_rows
    reader = SampleReader(open_store(out), index, check=1.0)
    for row in range(index.num_rows):
        reader.record(row)

def completed():
    if how == "append" or (out / "manifest.json").exists():
        readable(least=3)
    summary = pack(workspace, config, repack=False)
    assert sum(summary.samples.values()) == 4, summary
    assert verify(out) == [], verify(out)
    assert not list(out.glob(".*.tmp")) and not (out / ".pack").exists()

def child(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for boundaries in range(1000):
    shutil.rmtree(out)
    shutil.copytree(saved, out)
    left = boundaries
    status = child(interrupted)
    assert status in (0, -signal.SIGKILL), status
    assert child(completed) == 0, f"after boundary {boundaries}"
    if status == 0:
        break
print(boundaries)
"""


@pytest.mark.parametrize("how", ["first", "append", "repack"])
def test_a_kill_at_any_boundary_loses_nothing(curation: Curation, tmp_path: Path, how: str) -> None:
    """For every n: the process is killed at the n-th change of the disk; what was there stays readable, the next pack
    completes the dataset."""
    curation.add_people(people=3, photos=1)
    workspace = curation.write()
    if how == "first":
        for folder in ("saved", "shards"):
            (workspace.root / folder).mkdir()
    else:
        shutil.copytree(pack(workspace, CONFIG).out, workspace.root / "saved")
    curation.add_people(people=2, photos=1, first=3)
    curation.rows[0]["keep"] = False
    curation.write()
    code = [sys.executable, "-c", EVERY_BOUNDARY, workspace.root, how]
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20

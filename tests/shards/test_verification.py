import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.errors import DataError
from bolid.shards import PackConfig, PackSummary, find_rows, pack, read_index, read_manifest, require_sound, verify
from bolid.shards.manifest import Manifest

from .conftest import EVEN, Curation, npy_bytes


@pytest.fixture
def dataset(curation: Curation) -> Path:
    curation.add_people(people=4, photos=2)
    return pack(curation.write(), PackConfig(shard_size=40_000, split=EVEN)).out


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def test_a_fresh_dataset_is_sound(packed: PackSummary) -> None:
    assert verify(packed.out) == []
    require_sound(packed.out)


@pytest.mark.parametrize("part", ["image", "json", "npy", "txt"])
def test_a_flipped_byte_is_found_with_shard_and_key(dataset: Path, part: str) -> None:
    row = read_index(dataset).to_pylist()[3]
    # The caption is empty: its header is hit instead.
    flip(dataset / row["shard"], row[f"{part}_offset"] + (row[f"{part}_size"] // 2 if part != "txt" else -512))
    problems = verify(dataset)
    assert (row["shard"], row["key"]) in {(problem.shard, problem.key) for problem in problems}
    with pytest.raises(DataError, match=f"{row['shard']}, {row['key']}"):
        require_sound(dataset)


def test_every_byte_of_a_tar_counts(dataset: Path) -> None:
    path = min(dataset.glob("*.tar"))
    for offset in range(0, path.stat().st_size, 997):
        flip(path, offset)
        assert verify(dataset), offset
        flip(path, offset)
    assert verify(dataset) == []


def test_a_missing_and_a_stray_shard_are_found(dataset: Path) -> None:
    first = min(dataset.glob("*.tar"))
    first.rename(dataset / "train-000099.tar")
    texts = {problem.shard: problem.text for problem in verify(dataset)}
    assert texts == {first.name: "the file is missing", "train-000099.tar": "manifest.json does not name it; delete it"}


def test_a_cut_tar_is_found(dataset: Path) -> None:
    path = min(dataset.glob("*.tar"))
    with path.open("r+b") as file:
        file.truncate(3000)
    assert any("no tar any more" in problem.text for problem in verify(dataset))


def test_a_tar_written_by_another_program_is_found(dataset: Path, tmp_path: Path) -> None:
    path = min(dataset.glob("*.tar"))
    copy = tmp_path / "copy.tar"
    with tarfile.open(path) as old, tarfile.open(copy, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            member.mtime = 1
            new.addfile(member, old.extractfile(member))
    copy.replace(path)
    assert any("a time, an owner" in problem.text for problem in verify(dataset))


def rewrite_index(dataset: Path, change: dict[str, list]) -> None:
    index = pq.read_table(dataset / "index.parquet")
    for name, values in change.items():
        column = pa.array(values, index.schema.field(name).type)
        index = index.set_column(index.schema.get_field_index(name), index.schema.field(name), column)
    pq.write_table(index, dataset / "index.parquet")


def test_an_identity_in_two_splits_is_found(dataset: Path) -> None:
    splits = pq.read_table(dataset / "index.parquet")["split"].to_pylist()
    other = {"train": "val", "val": "test", "test": "train"}
    rewrite_index(dataset, {"split": [other[splits[0]], *splits[1:]]})
    texts = {problem.text for problem in verify(dataset)}
    assert {"is in several splits", "index.parquet is not the one that manifest.json names"} <= texts


def test_a_wrong_offset_is_found(dataset: Path) -> None:
    offsets = pq.read_table(dataset / "index.parquet")["json_offset"].to_pylist()
    rewrite_index(dataset, {"json_offset": [offsets[0] + 512, *offsets[1:]]})
    assert any("not where the index says" in problem.text for problem in verify(dataset))


def test_a_key_used_twice_is_found(dataset: Path) -> None:
    keys = pq.read_table(dataset / "index.parquet")["key"].to_pylist()
    rewrite_index(dataset, {"key": [keys[1], *keys[1:]]})
    assert any(problem.text == "the key is not unique" for problem in verify(dataset))


@pytest.mark.parametrize("name", ["ünïcode.jpg", "a" * 90 + "/" + "b" * 60])
def test_names_that_we_never_write_are_told(dataset: Path, tmp_path: Path, name: str) -> None:
    path = min(dataset.glob("*.tar"))
    copy = tmp_path / "copy.tar"
    with tarfile.open(path) as old, tarfile.open(copy, "w", format=tarfile.USTAR_FORMAT) as new:
        for number, member in enumerate(old):
            member.name = name if number == 0 else member.name
            new.addfile(member, old.extractfile(member))
    copy.replace(path)
    assert any("the tar has" in problem.text for problem in verify(dataset))


def renew_digest(dataset: Path) -> None:
    """Let the manifest name the index that lies there, as if the packer had written both."""
    digest = hashlib.sha256((dataset / "index.parquet").read_bytes()).hexdigest()
    read_manifest(dataset).model_copy(update={"index_sha256": digest}).write(dataset)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("number", "the tar has"),
        ("pose_confidence", "'pose_confidence' is 0.0 in its JSON and 0.5 in the index"),
        ("has_face", "'has_face' is False in its JSON and True in the index"),
        ("width", "'width' is 48 in its JSON and 5 in the index"),
        ("digest", "its digest in the index is not that of its four sha256"),
    ],
)
def test_an_index_that_contradicts_its_samples_is_found(dataset: Path, column: str, text: str) -> None:
    wrong = {"number": 5, "pose_confidence": 0.5, "has_face": True, "width": 5, "digest": bytes(16)}[column]
    values = pq.read_table(dataset / "index.parquet")[column].to_pylist()
    rewrite_index(dataset, {column: [wrong, *values[1:]]})
    renew_digest(dataset)
    assert any(text in problem.text for problem in verify(dataset))


@pytest.mark.parametrize("part", ["shard", "split", "retired", "shard split"])
def test_a_manifest_that_counts_wrong_is_found(dataset: Path, part: str) -> None:
    manifest = read_manifest(dataset)
    first = min(manifest.shards)
    changes = {
        "shard": {"shards": {**manifest.shards, first: manifest.shards[first].model_copy(update={"samples": 9})}},
        "shard split": {"shards": {**manifest.shards, first: manifest.shards[first].model_copy(update={"split": "x"})}},
        "split": {"splits": {name: one for name, one in manifest.splits.items() if name != "val"}},
        "retired": {"retired": 3},
    }
    manifest.model_copy(update=changes[part]).write(dataset)
    text = {
        "shard": "counts 9 samples",
        "shard split": "calls it a shard of x",
        "split": "splits.val = None",
        "retired": "retired = 3, the index holds 0",
    }[part]
    assert any(text in problem.text for problem in verify(dataset))


def test_a_photo_in_two_splits_is_found(dataset: Path) -> None:
    index = pq.read_table(dataset / "index.parquet")
    splits, shas = index["split"].to_pylist(), index["sha256"].to_pylist()
    other = next(row for row, split in enumerate(splits) if split != splits[0])
    rewrite_index(dataset, {"sha256": [shas[other] if row == 0 else sha for row, sha in enumerate(shas)]})
    assert (f"photo {shas[other]}", "is in several splits") in {(one.key, one.text) for one in verify(dataset)}


def test_keypoints_of_another_shape_are_found() -> None:
    from bolid.shards.reader import parse

    face = npy_bytes(np.zeros(512, np.float32))
    meta = {"identity": 0, "width": 1, "height": 1, "keypoints": [[0, 0, 0]] * 17, "person_box": [0] * 4}
    meta |= {"pose_model": "", "pose_confidence": 0}
    assert parse("k", b"", json.dumps(meta).encode(), face, b"").keypoints.shape == (17, 3)
    for wrong in ({"keypoints": [[0, 0, 0]] * 16}, {"person_box": [0] * 3}):
        with pytest.raises(ValueError, match="have the shapes"):
            parse("k", b"", json.dumps(meta | wrong).encode(), face, b"")


def test_a_damaged_manifest_and_index_are_named(dataset: Path) -> None:
    (dataset / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"index\.parquet cannot be read"):
        read_index(dataset)
    (dataset / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="this bolid reads bolid-shards version 1"):
        read_manifest(dataset)
    (dataset / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_manifest(dataset)


def test_the_manifest_says_what_the_dataset_holds(packed: PackSummary) -> None:
    manifest = Manifest.model_validate(json.loads((packed.out / "manifest.json").read_text()))
    assert {split: entry.samples for split, entry in manifest.splits.items()} == packed.samples
    assert sum(entry.samples for entry in manifest.shards.values()) == 40
    assert manifest.options == PackConfig(shard_size=60_000, split=EVEN)


def test_rows_are_found_by_key_slug_and_number(packed: PackSummary) -> None:
    index = read_index(packed.out)
    assert find_rows(index, "i000002_000001")["number"].to_pylist() == [1]
    assert find_rows(index, "person_003")["identity"].to_pylist() == [3] * 5
    assert find_rows(index, "3").equals(find_rows(index, "person_003"))
    with pytest.raises(Exception, match="no sample or identity 'nobody'"):
        find_rows(index, "nobody")

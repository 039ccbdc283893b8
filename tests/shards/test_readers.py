"""Our tars in other people's readers."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from bolid.errors import DataError
from bolid.shards import IdentityDataset, PackConfig, PackSummary, pack, read_index, stream, verify
from bolid.shards.schema import META_FIELDS

from .conftest import Curation, encoded, pattern


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> PackSummary:
    """Some photos with caption, pose and face, some without."""
    from bolid.workspace import Workspace

    curation = Curation(Workspace(tmp_path_factory.mktemp("mixed")))
    curation.add_people(people=4, photos=3)
    for number in range(3):
        curation.add(
            "person_000",
            encoded(pattern(500 + number, (48, 64)), "PNG"),
            "png",
            caption=f"caption {number}",
            keypoints=[1.5] * 51,
            face_embedding=[0.25] * 512,
            pose_confidence=0.5,
            pose_model="m",
        )
    return pack(curation.write(), PackConfig(shard_size=60_000, split=(1.0, 0.0, 0.0)))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the last tar to the garbage collector
def test_webdataset_opens_them(mixed: PackSummary) -> None:
    import webdataset

    tars = sorted(str(path) for path in mixed.out.glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=True).decode("pil"))
    assert sorted(sample["__key__"] for sample in samples) == sorted(read_index(mixed.out)["key"].to_pylist())
    assert {tuple(sorted(key for key in sample if key[0] != "_")) for sample in samples} == {
        ("jpg", "json", "npy", "txt")
    }
    assert samples[0]["jpg"].size == (samples[0]["json"]["width"], samples[0]["json"]["height"])
    assert samples[0]["npy"].shape == (512,)
    assert "caption 1" in [sample["txt"] for sample in samples]


def test_hf_datasets_opens_them_with_equal_features(mixed: PackSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    features = []
    rows = []
    for path in sorted(mixed.out.glob("*.tar")):
        found = datasets.load_dataset(
            "webdataset",
            data_files={"train": str(path)},
            split="train",
            streaming=True,
            cache_dir=str(mixed.out / ".hf"),
        )
        features.append(found.features)
        rows += list(found)
    assert len(features) > 1
    assert all(one == features[0] for one in features)
    assert len(rows) == 15
    assert list(features[0]["json"]) == list(META_FIELDS)
    assert {row["jpg"].size for row in rows} == {(48, 64)}
    assert {len(row["npy"]) for row in rows} == {512}
    assert {np.shape(row["json"]["keypoints"]) for row in rows} == {(17, 3)}


def test_tarfile_opens_them(mixed: PackSummary) -> None:
    for path in mixed.out.glob("*.tar"):
        with tarfile.open(path, "r:") as tar:
            assert len(tar.getnames()) % 4 == 0


def test_stream_passes_over_a_split(packed: PackSummary) -> None:
    index = read_index(packed.out, "train")
    samples = list(stream(packed.out, "train"))
    assert sorted(sample["__key__"] for sample in samples) == index["key"].to_pylist()
    assert samples[0]["json"]["identity_slug"].startswith("person_")
    assert samples[0]["jpg"].size == (48, 64)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_stream_takes_single_tars_and_undecoded_bytes(packed: PackSummary) -> None:
    [first, *_] = sorted(packed.out.glob("*.tar"))
    [sample, *_] = list(stream(first, decode=False))
    assert sample["jpg"][:2] == b"\xff\xd8"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tars_of_img2dataset_can_be_streamed(tmp_path: Path) -> None:
    """Its layout: nine digits, .jpg, .txt and .json in shards of five digits."""
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(3):
            parts = {
                "jpg": encoded(pattern(number, (32, 24)), "JPEG"),
                "txt": b"a caption",
                "json": b'{"status": "success"}',
            }
            for name, data in parts.items():
                member = tarfile.TarInfo(f"{number:09d}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    samples = list(stream(tmp_path / "00000.tar"))
    assert [(sample["__key__"], sample["jpg"].size, sample["txt"]) for sample in samples] == [
        (f"{number:09d}", (32, 24), "a caption") for number in range(3)
    ]


def test_stream_names_a_folder_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished dataset"):
        stream(tmp_path)


def test_a_dataset_of_kept_formats_is_read_by_us(curation: Curation) -> None:
    curation.add_people(people=1, photos=2)
    for name in ("PNG", "WEBP", "GIF", "AVIF"):
        curation.add("person_000", encoded(pattern(5, (48, 64)), name), name.lower())
    out = pack(curation.write(), PackConfig(keep_format=True)).out
    assert sorted(read_index(out)["image_suffix"].to_pylist()) == ["avif", "gif", "jpg", "jpg", "png", "webp"]
    assert verify(out) == []
    people = IdentityDataset(out, refs=1, size=32)
    assert {tuple(people[row]["target"].shape) for row in range(len(people))} == {(3, 32, 32)}

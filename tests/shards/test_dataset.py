import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.errors import DataError, UsageError
from bolid.shards import (
    Draw,
    IdentityBatchSampler,
    IdentityDataset,
    PackConfig,
    PackSummary,
    collate,
    pack,
    read_index,
    show,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from .conftest import EVEN, Curation, encoded, npy_bytes, pattern

POSE = {"pose_model": "test", "pose_confidence": 0.6}


def dots(size: tuple[int, int], points: np.ndarray) -> Image.Image:
    """A black picture with a white disc of radius 6 around each point (x, y)."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    lit = np.zeros((size[1], size[0]), bool)
    for px, py in points:
        lit |= (x - px) ** 2 + (y - py) ** 2 <= 36
    return Image.fromarray((lit * 255).astype(np.uint8)).convert("RGB")


def centres(pixels: np.ndarray, near: np.ndarray, radius: float) -> np.ndarray:
    """Centre of brightness around each point, in pixels."""
    grey = pixels.mean(-1)
    y, x = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]] + 0.5
    found = []
    for px, py in near:
        weight = grey * ((x - px) ** 2 + (y - py) ** 2 <= radius**2)
        found.append(((x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()))
    return np.array(found)


@pytest.fixture(scope="module")
def people(packed: PackSummary) -> IdentityDataset:
    return IdentityDataset(packed.out, "train", refs=3, size=(24, 32))


def test_an_item_has_the_keys_shapes_and_types_promised(people: IdentityDataset) -> None:
    item = people[0]
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in item.items() if hasattr(value, "shape")}
    assert shapes == {
        "target": ((3, 32, 24), torch.float32),
        "references": ((3, 3, 32, 24), torch.float32),
        "keypoints": ((17, 3), torch.float32),
        "reference_keypoints": ((3, 17, 3), torch.float32),
        "view_weight": ((), torch.float32),
        "reference_view_weight": ((3,), torch.float32),
        "face": ((512,), torch.float32),
        "reference_faces": ((3, 512), torch.float32),
        "loss_weight": ((), torch.float32),
        "original_size": ((2,), torch.int64),
        "crop_top_left": ((2,), torch.int64),
    }
    assert item["key"] not in item["reference_keys"]
    assert len(set(item["reference_keys"])) == 3
    assert {key[:7] for key in item["reference_keys"]} == {item["key"][:7]}
    assert item["reference_view_weight"].tolist() == [1.0, 1.0, 1.0]  # the pose stage did not run
    assert item["original_size"].tolist() == [64, 48]
    assert -1 <= item["target"].min() < item["target"].max() <= 1


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 99), st.integers(0, 9))
def test_references_are_others_of_the_same_person(
    people: IdentityDataset, row: int, seed: int, epoch: int, step: int, slot: int
) -> None:
    draw = Draw(row % len(people), 1.0, seed, epoch, step, slot)
    rows = people.references(draw).tolist()
    identity = people.index["identity"].to_pylist()
    assert draw.target not in rows
    assert len(set(rows)) == 3
    assert {identity[row] for row in rows} == {identity[draw.target]}
    assert people.references(draw).tolist() == rows


def test_references_change_with_the_epoch_and_reach_everyone(people: IdentityDataset) -> None:
    chosen = [tuple(people.references(Draw(0, epoch=epoch)).tolist()) for epoch in range(40)]
    assert len(set(chosen)) > 10
    assert {row for rows in chosen for row in rows} == set(range(1, 5))


def test_batches_are_the_same_for_any_number_of_workers(people: IdentityDataset) -> None:
    def keys(workers: int) -> list[list[object]]:
        order = IdentityBatchSampler(people.index, 4, seed=3)
        loader = DataLoader(
            people,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )
        return [
            [batch["key"], batch["reference_keys"], batch["target"].sum().item(), batch["step"], batch["epoch"]]
            for _ in range(2)
            for batch in loader
        ]

    alone = keys(0)
    assert keys(2) == alone
    assert len(alone) == 2 * IdentityBatchSampler(people.index, 4).steps


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_resume_in_mid_epoch_as_if_uninterrupted(people: IdentityDataset, persistent: bool) -> None:
    """Workers fetch ahead, so the state is that of the last batch that was trained on; another process goes on."""

    def loader(order: IdentityBatchSampler, workers: int) -> DataLoader:
        return DataLoader(
            people,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
            multiprocessing_context="fork" if workers else None,
        )

    def told(batch: dict[str, object]) -> list[object]:
        return [batch["epoch"], batch["step"], batch["key"], batch["reference_keys"], batch["target"].sum().item()]

    whole = IdentityBatchSampler(people.index, 3, seed=5)
    expected = [told(batch) for _ in range(3) for batch in loader(whole, 0)]
    first, trained = IdentityBatchSampler(people.index, 3, seed=5), []
    ahead = loader(first, 2)
    for stop in (whole.steps, 2):  # one epoch, then two steps of the next
        for batch in ahead:
            trained.append(told(batch))
            stop -= 1
            if not stop:
                break
    state = first.state_dict(batch["epoch"], batch["step"] + 1)
    assert (state["epoch"], state["step"]) == (1, 2)
    later = IdentityBatchSampler(people.index, 3)
    later.load_state_dict(state)
    again = loader(later, 2)
    trained += [told(batch) for _ in range(2) for batch in again]
    assert trained == expected
    first.load_state_dict(state)  # the same process, its workers still alive
    assert [told(batch) for batch in ahead] == expected[len(expected) // 3 + 2 : 2 * len(expected) // 3]


def test_batches_can_be_pinned(people: IdentityDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `DataLoader(pin_memory=True)` does to a batch: every tensor is pinned, nothing else changes."""
    from torch.utils.data._utils.pin_memory import pin_memory

    pinned: list[torch.Size] = []

    def pin(tensor: torch.Tensor, *_: object) -> torch.Tensor:
        pinned.append(tensor.shape)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)  # this machine may have no accelerator
    batch = collate([people[row] for row in range(3)])
    found = pin_memory(batch)
    tensors = [name for name, value in batch.items() if isinstance(value, torch.Tensor)]
    assert len(pinned) == len(tensors) == 12
    assert set(found) == set(batch)
    for name, value in batch.items():
        assert torch.equal(found[name], value) if name in tensors else found[name] == value


def test_a_batch_is_stacked(people: IdentityDataset) -> None:
    order = IdentityBatchSampler(people.index, 4)
    batch = collate([people[draw] for draw in order.global_batch(0, order.steps - 1)])
    assert batch["target"].shape == (4, 3, 32, 24)
    assert batch["references"].shape == (4, 3, 3, 32, 24)
    assert batch["identity"].dtype == torch.int64
    assert isinstance(batch["step"], int)
    assert len(batch["caption"]) == 4
    assert batch["loss_weight"].sum() == len(people) - 4 * (order.steps - 1)


def test_too_few_photos_are_repeated_with_weight_zero(curation: Curation) -> None:
    curation.add_people(people=3, photos=3)
    people = IdentityDataset(pack(curation.write(), PackConfig(split=(1, 0, 0))).out, refs=5, size=16)
    item = people[0]
    assert item["reference_view_weight"].tolist() == [1, 1, 0, 0, 0]
    assert len(set(item["reference_keys"])) == 2
    assert item["key"] not in item["reference_keys"]


def test_a_single_photo_has_blank_references_of_weight_zero(curation: Curation) -> None:
    curation.add_people(people=3, photos=1)
    item = IdentityDataset(pack(curation.write(), PackConfig(split=(1, 0, 0))).out, refs=2, size=16)[0]
    assert item["reference_view_weight"].tolist() == [0, 0]
    assert item["reference_keys"] == ["", ""]
    assert not item["reference_keypoints"].any()


def test_no_references_are_possible_too(packed: PackSummary) -> None:
    item = IdentityDataset(packed.out, refs=0, size=16)[0]
    assert item["references"].shape == (0, 3, 16, 16)
    assert item["reference_faces"].shape == (0, 512)


def test_bytes_are_the_same_pixels_as_floats(packed: PackSummary) -> None:
    whole = IdentityDataset(packed.out, size=16, pixels="uint8")[0]["target"]
    floats = IdentityDataset(packed.out, size=16)[0]["target"]
    assert whole.dtype == torch.uint8
    assert torch.allclose(whole.float() / 127.5 - 1, floats)


def test_view_weight_is_the_pose_confidence_where_the_pose_was_measured(curation: Curation) -> None:
    for number in range(3):
        columns = {"pose_model": "m", "pose_confidence": 0.25 * number} if number else {}
        curation.add("a", encoded(pattern(number, (32, 32)), "JPEG"), **columns)
    people = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=2, size=16)
    weights = {people[row]["key"]: people[row]["view_weight"].item() for row in range(3)}
    assert sorted(weights.values()) == [0.25, 0.5, 1.0]


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(120, 400),
    height=st.integers(120, 400),
    out=st.tuples(st.integers(90, 200), st.integers(90, 200)),
    crop=st.sampled_from(["person", "image"]),
    orientation=st.sampled_from([1, 3, 6, 8]),
    corner=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)),
)
def test_keypoints_stay_on_the_picture_through_crop_and_resize(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    out: tuple[int, int],
    crop: str,
    orientation: int,
    corner: tuple[float, float],
) -> None:
    """Discs are drawn at the keypoints; after packing and reading they are found where the keypoints say."""
    from bolid.workspace import Workspace

    size = (width, height)
    points = np.array([(0.3, 0.35), (0.7, 0.4), (0.5, 0.75)]) * size
    box = [corner[0] * width, corner[1] * height, 0.95 * width, 0.98 * height]
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[5:8] = np.c_[points, [0.9, 0.8, 0.7]]
    picture = dots(size, points)
    turned = {
        1: picture,
        3: picture.rotate(180),
        6: picture.rotate(90, expand=True),
        8: picture.rotate(270, expand=True),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(turned[orientation], "JPEG", quality=95, exif=exif)
    curation = Curation(Workspace(tmp_path_factory.mktemp("dots")))
    curation.add("a", data, keypoints=keypoints.ravel().tolist(), person_box=box, **POSE)
    people = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=0, size=out, crop=crop, pixels="uint8")
    item = people[0]
    assert item["original_size"].tolist() == [height, width]
    mapped = item["keypoints"].numpy()
    assert not mapped[:5].any()
    seen = (mapped[5:8, 2] > 0) & ((mapped[5:8, :2] > 8) & (mapped[5:8, :2] < np.array(out) - 8)).all(1)
    scale = np.linalg.norm(mapped[5, :2] - mapped[6, :2]) / np.linalg.norm(points[0] - points[1])
    radius = max(6 * scale + 2, 4)
    near = mapped[5:8, :2][seen]
    if len(near):
        found = centres(item["target"].permute(1, 2, 0).numpy().astype(float), near, radius)
        assert np.abs(found - near).max() < 1.0


def test_a_keypoint_outside_the_crop_cannot_be_seen(curation: Curation) -> None:
    keypoints = np.full((17, 3), 0.9, np.float32)
    keypoints[:, 0], keypoints[:, 1] = 100, 10
    keypoints[0, 1] = 100
    curation.add("a", encoded(pattern(1, (200, 200)), "JPEG"), keypoints=keypoints.ravel().tolist(), **POSE)
    item = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=0, size=(200, 100), crop="image")[0]
    assert item["keypoints"][0].tolist() == pytest.approx([100, 50, 0.9])
    assert item["keypoints"][1].tolist() == pytest.approx([100, -40, 0])


def test_the_picture_is_that_of_pillow(curation: Curation) -> None:
    picture = pattern(3, (90, 60))
    data = encoded(picture, "JPEG", quality=95)
    curation.add("a", data)
    item = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=0, size=60, crop="image", pixels="uint8")[0]
    with Image.open(io.BytesIO(data)) as decoded:
        expected = np.asarray(decoded)[:, 15:75]
    assert np.abs(item["target"].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
    assert item["crop_top_left"].tolist() == [0, 15]


def test_a_window_beyond_the_picture_shows_grey(curation: Curation) -> None:
    curation.add("a", encoded(Image.new("RGB", (40, 80), "white"), "JPEG"), person_box=[0.0, 0.0, 40.0, 80.0], **POSE)
    item = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=0, size=80, pixels="uint8")[0]
    assert (item["target"][:, 40, :10] == 127).all()
    assert (item["target"][:, 40, 35:45] > 250).all()


def test_references_may_have_their_own_size(packed: PackSummary) -> None:
    item = IdentityDataset(packed.out, refs=2, size=(32, 40), reference_size=(12, 16), reference_crop="image")[0]
    assert item["target"].shape == (3, 40, 32)
    assert item["references"].shape == (2, 3, 16, 12)


def test_a_flipped_byte_is_found_when_bytes_are_checked(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    row = read_index(out).to_pylist()[1]
    with (out / row["shard"]).open("r+b") as file:
        file.seek(row["image_offset"] + row["image_size"] - 20)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    people = IdentityDataset(out, refs=0, size=16, check=1.0)
    people[0]
    with pytest.raises(DataError, match=f"train-000000.tar, sample {row['key']}: the sha256 of its image"):
        people[1]


def test_embeddings_are_those_of_numpy() -> None:
    from bolid.shards.reader import NPY_HEADER, _embedding

    face = np.random.default_rng(0).normal(size=512).astype(np.float32)
    plain = npy_bytes(face)
    assert plain.startswith(NPY_HEADER)
    for array in (face, face.astype(np.float64), face[:3], face.astype(">f4")):
        found = _embedding(npy_bytes(array))
        assert np.array_equal(found, array)
    for broken in (plain[:-1], plain[:100], b"", b"nonsense" * 300):
        with pytest.raises((ValueError, EOFError)):
            _embedding(broken)


def test_a_sampled_check_looks_at_its_share() -> None:
    from bolid.shards.reader import _in_share

    for share in (0.0, 0.1, 0.5, 1.0):
        checked = sum(_in_share(row, share) for row in range(4000))
        assert checked == pytest.approx(4000 * share, abs=120)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_picture_that_cannot_be_decoded_names_shard_and_sample(curation: Curation, name: str) -> None:
    for seed in range(2):
        curation.add("a", encoded(pattern(seed, (64, 48)), name), name.lower().replace("jpeg", "jpg"))
    out = pack(curation.write(), PackConfig(keep_format=True)).out
    row = read_index(out).to_pylist()[1]
    with (out / row["shard"]).open("r+b") as file:
        file.seek(row["image_offset"] + 60)
        file.write(bytes(row["image_size"] - 60))
    people = IdentityDataset(out, refs=0, size=16)
    people[0]
    with pytest.raises(DataError, match=rf"train-000000.tar, sample {row['key']}: its picture cannot be decoded"):
        people[1]
    with pytest.raises(DataError, match=rf"picture of '{row['key']}' cannot be decoded"):
        show(out, row["key"], out.parent / "shown.png")


def test_a_cut_shard_is_named(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    row = read_index(out).to_pylist()[-1]
    with (out / row["shard"]).open("r+b") as file:
        file.truncate(row["image_offset"] + 10)
    people = IdentityDataset(out, refs=0, size=16)
    with pytest.raises(DataError, match=rf"{row['shard']}, sample {row['key']}: it ends at byte"):
        people[len(people) - 1]


def test_a_missing_shard_is_named(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    (out / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000000.tar, sample i000000_000000: .*No such file"):
        IdentityDataset(out, refs=0, size=16)[0]


def test_a_split_without_photos_says_so(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    out = pack(curation.write(), PackConfig(split=(1, 0, 0))).out
    with pytest.raises(DataError, match="no live sample in the split 'val'"):
        IdentityDataset(out, "val")
    with pytest.raises(UsageError, match="no split 'valid'"):
        IdentityDataset(out, "valid")


@pytest.mark.parametrize("option", [{"crop": "face"}, {"reference_crop": "face"}, {"pixels": "float16"}, {"size": 0}])
def test_options_that_do_not_exist_are_refused(packed: PackSummary, option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(option.values())))):
        IdentityDataset(packed.out, **option)


def test_many_shards_need_few_open_files(curation: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems allow 1024 open files or fewer; ten million photos lie in thousands of shards."""
    curation.add_people(people=12, photos=1)
    out = pack(curation.write(), PackConfig(shard_size=1, split=(1, 0, 0))).out
    monkeypatch.setattr("bolid.shards.store.MOST_HANDLES", 3)
    people = IdentityDataset(out, refs=0, size=16)
    before = len(list(Path("/proc/self/fd").iterdir()))
    keys = [people[row]["key"] for _ in range(2) for row in range(12)]
    assert len(list(Path("/proc/self/fd").iterdir())) - before == 3
    assert keys == 2 * read_index(out)["key"].to_pylist()
    people._reader.prefetch(range(12))
    assert len(list(Path("/proc/self/fd").iterdir())) - before == 3


def test_a_dataset_travels_to_other_processes(people: IdentityDataset) -> None:
    people[0]
    copy = pickle.loads(pickle.dumps(people))
    assert torch.equal(copy[0]["target"], people[0]["target"])


def test_an_unfinished_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bolid pack"):
        IdentityDataset(tmp_path)


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, bolid.shards; from bolid.shards import PackConfig;"
        "print([m for m in ('torch', 'pyarrow', 'PIL', 'webdataset') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys; from bolid.shards import read_index, IdentityBatchSampler, pack; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_exported_name_is_what_it_says() -> None:
    """A function with the name of its module would be hidden by the module."""
    import types

    import bolid.shards

    for name in bolid.shards.__all__:
        assert not isinstance(getattr(bolid.shards, name), types.ModuleType), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bolid.shards.nothing


def test_every_split_can_be_read(packed: PackSummary) -> None:
    total = sum(len(IdentityDataset(packed.out, split, size=16)) for split in ("train", "val", "test"))
    assert total == len(IdentityDataset(packed.out, None, size=16)) == 40
    assert EVEN == (0.6, 0.2, 0.2)

import io
import tarfile

import numpy as np
import pytest
from bolid.shards import IdentityDataset, PackConfig, pack, parse_bytes, read_index
from bolid.shards.geometry import Window, keypoints_in_window, person_window, picture_window
from bolid.shards.picture import decode, for_shard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from .conftest import Curation, encoded, pattern

sides = st.integers(1, 3000)
sizes = st.tuples(st.integers(1, 1024), st.integers(1, 1024))


@given(sides, sides, sizes)
def test_the_picture_window_is_the_largest_of_its_aspect(width: int, height: int, size: tuple[int, int]) -> None:
    window = picture_window((width, height), size)
    assert window.width / window.height == pytest.approx(size[0] / size[1])
    assert window.left >= -1e-9
    assert window.left + window.width <= width + 1e-6
    assert window.top + window.height <= height + 1e-6
    assert min(width - window.width, height - window.height) == pytest.approx(0, abs=1e-6)


@given(
    st.integers(20, 2000),
    st.integers(20, 2000),
    sizes,
    st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), st.floats(0.5, 1), st.floats(0.5, 1)),
)
def test_the_person_window_holds_the_box_and_stays_inside_if_it_can(
    width: int, height: int, size: tuple[int, int], part: tuple[float, float, float, float]
) -> None:
    box = np.array(part, np.float32) * np.array([width, height, width, height], np.float32)
    window = person_window(box, (width, height), size, margin=0.1)
    assert window.width / window.height == pytest.approx(size[0] / size[1])
    slack = 1e-3 * max(width, height)
    assert window.left <= box[0] + slack
    assert window.top <= box[1] + slack
    assert window.left + window.width >= box[2] - slack
    assert window.top + window.height >= box[3] - slack
    if window.width <= width:
        assert window.left >= -slack
        assert window.left + window.width <= width + slack


@given(st.floats(0, 500), st.floats(0, 500), st.floats(10, 500), st.floats(10, 500), sizes)
def test_keypoints_can_be_mapped_back(
    left: float, top: float, width: float, height: float, size: tuple[int, int]
) -> None:
    keypoints = np.random.default_rng(0).uniform(0, 1000, (17, 3)).astype(np.float32)
    keypoints[:, 2] = 0.5
    mapped = keypoints_in_window(keypoints, Window(left, top, width, height), size)
    back = mapped[:, :2] * [width / size[0], height / size[1]] + [left, top]
    assert np.allclose(back, keypoints[:, :2], atol=0.1)
    inside = (keypoints[:, :2] >= [left, top]).all(1) & (keypoints[:, :2] <= [left + width, top + height]).all(1)
    clear = np.abs(keypoints[:, :2] - [left, top]).min(1) > 0.01
    clear &= np.abs(keypoints[:, :2] - [left + width, top + height]).min(1) > 0.01
    assert ((mapped[:, 2] == 0.5) == inside)[clear].all()


def test_draft_scaling_gives_nearly_the_same_pixels() -> None:
    """Against a plain decode at full size and one resize, by Pillow."""
    picture = pattern(5, (1600, 1200))
    data = encoded(picture, "JPEG", quality=95)
    fast = decode(data, Window(200, 100, 1200, 900), (160, 120))
    with Image.open(io.BytesIO(data)) as opened:
        slow = opened.convert("RGB").resize((160, 120), Image.Resampling.BICUBIC, box=(200, 100, 1400, 1000))
    assert np.abs(fast.astype(int) - np.asarray(slow, int)).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(pattern(2, (64, 40)), "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened)
    stored = for_shard(data, "jpg", PackConfig())
    assert (stored.data, stored.size) == (data, upright.size)
    whole = decode(data, Window(0, 0, *upright.size), upright.size)
    assert np.array_equal(whole, np.asarray(upright))
    small = for_shard(data, "jpg", PackConfig(max_side=32))
    with Image.open(io.BytesIO(small.data)) as opened:
        assert opened.size == small.size == ((32, 20) if orientation < 5 else (20, 32))
        assert 0x0112 not in opened.getexif()


def test_max_side_scales_picture_keypoints_and_boxes(curation: Curation) -> None:
    keypoints = np.tile(np.array([400.0, 200.0, 0.5], np.float32), (17, 1))
    annotated = {"keypoints": keypoints.ravel().tolist(), "person_box": [100.0, 50.0, 800.0, 600.0]}
    large = encoded(pattern(1, (1000, 600)), "JPEG", quality=90)
    small = encoded(pattern(2, (200, 100)), "JPEG", quality=90)
    curation.add("a", large, **annotated, pose_model="m", pose_confidence=0.5)
    curation.add("a", small)
    out = pack(curation.write(), PackConfig(max_side=250)).out
    rows = {row["sha256"]: row for row in read_index(out).to_pylist()}
    [scaled, kept] = [rows[row["sha256"]] for row in curation.rows]
    assert (scaled["width"], scaled["height"]) == (250, 150)
    assert kept["image_sha256"].hex() == kept["sha256"]  # small enough: the original bytes
    with tarfile.open(out / scaled["shard"]) as tar, Image.open(tar.extractfile(f"{scaled['key']}.jpg")) as opened:
        assert opened.size == (250, 150)
    people = IdentityDataset(out, refs=0, size=(250, 150), crop="image")
    [item] = [people[row] for row in range(2) if people[row]["key"] == scaled["key"]]
    assert np.allclose(item["keypoints"].numpy(), [[100, 50, 0.5]] * 17)


def test_profiles_survive_encoding() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = for_shard(encoded(pattern(1, (32, 32)), "PNG", icc_profile=profile), "png", PackConfig())
    with Image.open(io.BytesIO(stored.data)) as opened:
        assert opened.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 * 2**20), ("64k", 65536), ("2GiB", 2**31), ("77", 77), ("3MB", 3 * 2**20)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert PackConfig(shard_size=text).shard_size == size


@pytest.mark.parametrize("split", [(0.5, 0.5, 0.5), (1.1, -0.1, 0)])
def test_splits_must_be_a_partition(split: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match="whose sum is 1"):
        PackConfig(split=split)

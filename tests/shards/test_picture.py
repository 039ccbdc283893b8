import io
import tarfile

import numpy as np
import pytest
from bolid.shards import IdentityDataset, PackConfig, pack, parse_bytes, read_index
from bolid.shards.geometry import Window, keypoints_in_window, person_window, picture_window, whole_pixels
from bolid.shards.picture import decode, decode_planes, for_shard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
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


def disc(size: tuple[int, int], centre: tuple[float, float]) -> Image.Image:
    """White, of radius 40, on black."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    lit = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= 1600
    return Image.fromarray((lit * 255).astype(np.uint8)).convert("RGB")


def centre_of(pixels: np.ndarray) -> np.ndarray:
    """Centre of brightness (x, y) in pixels."""
    grey = pixels.astype(float).mean(-1)
    grey[grey < 40] = 0  # ringing of the encoder
    y, x = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]] + 0.5
    return np.array([(x * grey).sum(), (y * grey).sum()]) / grey.sum()


STORED = {  # how a camera held that way stores the upright picture
    1: lambda picture: picture,
    2: lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    4: lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    6: lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    7: lambda picture: picture.transpose(Image.Transpose.TRANSVERSE),
    8: lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
}


def turned(picture: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(STORED[orientation](picture), "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("size", [(1001, 1401), (1023, 777)])
def test_a_point_stays_where_it_is_at_any_scale_of_the_decoder(size: tuple[int, int], orientation: int) -> None:
    """Sides that eight does not divide: the decoder's last column is only partly picture."""
    for at in ((size[0] - 60, size[1] - 60), (60, 60)):
        data = turned(disc(size, at), orientation)
        for out in ((64, 64), (120, 160), (300, 200)):
            found = centre_of(decode(data, Window(0, 0, *size), out))
            assert np.abs(found - np.array(at) / size * out).max() < 0.15, (at, out)


@pytest.mark.parametrize("orientation", list(STORED))
def test_max_side_moves_no_point(orientation: int) -> None:
    size, at = (1001, 1401), (941, 1341)
    data = memoryview(turned(disc(size, at), orientation))
    for longest in (125, 174, 250, 500):
        small = for_shard(data, "jpg", PackConfig(max_side=longest))
        with Image.open(io.BytesIO(small.data)) as opened:
            found = centre_of(np.asarray(opened))
        assert np.abs(found - np.array(at) / size * small.size).max() < 0.1, longest


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("size", [(1001, 1401), (1023, 777)])
def test_planes_say_exactly_which_window_they_show(size: tuple[int, int], orientation: int) -> None:
    """The window may be moved to whole pixels, but a point is where the returned window says."""
    for at in ((size[0] - 100, size[1] - 100), (100, 100)):
        data = turned(disc(size, at), orientation)
        for out, margin in (((64, 48), 70.3), ((30, 40), 99.9), ((300, 200), 55.5)):
            asked = Window(at[0] - margin, at[1] - margin, 2 * margin, 1.9 * margin)
            planes, shown = decode_planes(data, asked, out)
            assert planes.shape == (3, out[1], out[0])
            scale = np.array([out[0] / shown.width, out[1] / shown.height])
            expected = (np.array(at) - [shown.left, shown.top]) * scale
            assert np.abs(centre_of(planes.transpose(1, 2, 0)) - expected).max() < 0.15, (at, out)
            pixel = max(1, 2 ** np.floor(np.log2(2 * margin * 1.03 / out[0])))  # what one of the decoder's covers
            edges = np.array([shown.left, shown.top, shown.left + shown.width, shown.top + shown.height])
            wanted = [asked.left, asked.top, asked.left + asked.width, asked.top + asked.height]
            assert np.abs(edges - wanted).max() <= pixel


@pytest.mark.parametrize("orientation", list(STORED))
def test_planes_are_upright_and_those_of_pillow(orientation: int) -> None:
    picture = pattern(3, (90, 64))
    data = turned(picture, orientation)
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    planes, shown = decode_planes(data, Window(0, 0, 90, 64), (90, 64))
    assert np.array_equal(planes.transpose(1, 2, 0), np.asarray(upright))
    assert shown == Window(0, 0, 90, 64)
    small, shown = decode_planes(data, Window(10, 4, 60, 40), (45, 30))
    expected = np.asarray(upright.crop((10, 4, 70, 44)).resize((45, 30), Image.Resampling.BICUBIC), int)
    assert np.abs(small.transpose(1, 2, 0).astype(int) - expected).max() <= 2
    assert shown == Window(10, 4, 60, 40)


@given(
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.tuples(st.floats(-50, 500), st.floats(-50, 500), st.floats(0.1, 600), st.floats(0.1, 600)),
)
def test_whole_pixels_are_the_nearest_and_stay_inside(
    picture: tuple[int, int], window: tuple[float, float, float, float]
) -> None:
    found = whole_pixels(Window(*window), picture)
    for first, length, start, asked, limit in (
        (found.left, found.width, window[0], window[2], picture[0]),
        (found.top, found.height, window[1], window[3], picture[1]),
    ):
        assert (first, length) == (int(first), int(length))
        assert length >= 1
        assert abs(length - asked) <= max(0.5, 1 - asked)
        assert abs(first - start) <= 1
        if start >= 0 and start + asked <= limit:
            assert 0 <= first <= limit - length


def test_planes_beyond_the_picture_are_grey() -> None:
    data = encoded(Image.new("RGB", (40, 40), "white"), "PNG")
    planes, _ = decode_planes(data, Window(-20, 0, 40, 40), (40, 40))
    assert (planes[:, :, :19] == 127).all()
    assert (planes[:, :, 21:] == 255).all()


def test_an_orientation_that_does_not_exist_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    data = memoryview(encoded(pattern(2, (64, 40)), "JPEG", exif=exif))
    assert for_shard(data, "jpg", PackConfig()).size == (64, 40)
    assert decode(bytes(data), Window(0, 0, 64, 40), (64, 40)).shape == (40, 64, 3)


def test_a_broken_exif_block_costs_the_orientation_not_the_photo() -> None:
    data = memoryview(encoded(pattern(2, (64, 40)), "JPEG", exif=b"Exif\0\0this is no TIFF header"))
    assert for_shard(data, "jpg", PackConfig()).data is data
    assert for_shard(data, "jpg", PackConfig(max_side=32)).size == (32, 20)
    assert decode(bytes(data), Window(0, 0, 64, 40), (64, 40)).shape == (40, 64, 3)


def test_a_jpeg_with_a_preview_behind_it_keeps_its_bytes() -> None:
    """MPO, as cameras and phones write it."""
    photo, preview = pattern(2, (640, 400)), pattern(2, (64, 40))
    data = memoryview(encoded(photo, "MPO", save_all=True, append_images=[preview]))
    stored = for_shard(data, "jpg", PackConfig())
    assert (stored.data is data, stored.suffix, stored.size) == (True, "jpg", (640, 400))
    small = decode(bytes(data), Window(0, 0, 640, 400), (160, 100))
    expected = np.asarray(photo.resize((160, 100), Image.Resampling.BICUBIC), int)
    assert np.abs(small.astype(int) - expected).mean() < 4


def test_a_keypoint_that_is_not_a_number_was_not_measured(curation: Curation) -> None:
    keypoints = np.tile(np.array([10.0, 20.0, 0.5], np.float32), (17, 1))
    keypoints[3, 0], keypoints[4, 2] = np.nan, np.inf
    curation.add("a", encoded(pattern(1, (64, 64)), "JPEG"), keypoints=keypoints.ravel().tolist(), pose_model="m")
    found = IdentityDataset(pack(curation.write(), PackConfig()).out, refs=0, size=64, crop="image")[0]["keypoints"]
    assert not found[3:5].any()
    assert found[5].tolist() == [10.0, 20.0, 0.5]

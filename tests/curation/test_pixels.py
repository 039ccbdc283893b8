import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from bolid.curation import pixels
from bolid.curation.stages import decode, duplicates, quality
from PIL import Image, ImageCms


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_whole_photo_has_no_defect(format_: str):
    photo = pixels.decode(encoded(noise(60, 40), format_))
    assert photo.defect is None
    assert photo.picture is not None
    assert (photo.picture.size, photo.picture.mode) == ((60, 40), "RGB")


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_truncated_photo_is_corrupt(format_: str):
    data = encoded(noise(200, 200), format_)
    assert pixels.decode(data[: len(data) // 2]).defect == "corrupt"


def test_other_bytes_are_no_image():
    assert pixels.decode(b"<html>not here</html>").defect == "not_an_image"
    assert pixels.decode(b"").defect == "not_an_image"


def test_animations_are_named():
    frames = [noise(20, 20), Image.new("RGB", (20, 20), "red")]
    assert pixels.decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).defect == "animated"


def test_a_cameras_mpo_is_a_photo():
    first, second = noise(40, 30), Image.new("RGB", (40, 30), "red")
    photo = pixels.decode(encoded(first, "MPO", save_all=True, append_images=[second], quality=95))
    assert photo.defect is None
    assert photo.picture is not None
    assert photo.picture.size == (40, 30)


def test_sixteen_bits_become_eight_by_scaling():
    grey = np.array([[0, 257 * 100, 65535]], dtype=np.uint16).repeat(4, axis=0)
    photo = pixels.decode(encoded(Image.fromarray(grey), "PNG"))
    assert photo.picture is not None
    assert [photo.picture.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (100, 100, 100), (255, 255, 255)]


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "MAX_PIXELS", 99)
    assert pixels.decode(encoded(noise(10, 10), "PNG")).defect == "decompression_bomb"
    assert pixels.decode(encoded(noise(9, 11), "PNG")).defect is None


def test_pictures_come_upright():
    left_right = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)).resize((80, 40), 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    photo = pixels.decode(encoded(left_right, "JPEG", exif=exif, quality=95))
    assert photo.picture is not None
    assert photo.picture.size == (40, 80)
    assert photo.picture.getpixel((20, 10))[0] > 200  # red on top
    assert photo.picture.getpixel((20, 70))[2] > 200


def test_transparency_is_laid_on_white():
    photo = pixels.decode(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG"))
    assert photo.picture is not None
    assert photo.picture.getpixel((4, 4)) == (255, 255, 255)


def test_a_photo_is_read_once_while_it_is_remembered(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(10, 10), "PNG"))
    reader = pixels.PhotoReader(remembered=1)
    first = reader.read(path)
    path.write_bytes(b"changed")
    assert reader.read(path) is first
    (tmp_path / "b.png").write_bytes(encoded(noise(10, 10), "PNG"))
    reader.read(tmp_path / "b.png")
    assert reader.read(path).defect == "not_an_image"


def blocks(values: np.ndarray, n: int) -> np.ndarray:
    """The mean of each block of n x n."""
    height, width = (side // n for side in values.shape)
    return values[: height * n, : width * n].reshape(height, n, width, n).mean(axis=(1, 3))


@pytest.mark.parametrize(("size", "n"), [((60, 40), 1), ((767, 300), 1), ((300, 769), 2), ((1200, 1500), 3)])
def test_the_small_picture_is_the_reduced_luminance_made_once(size: tuple[int, int], n: int):
    picture = noise(*size)
    photo = pixels.DecodedPhoto(picture)
    luminance = np.asarray(picture, float) @ [0.299, 0.587, 0.114]
    assert np.abs(np.asarray(photo.grey) - luminance).max() <= 1
    height, width = (side // n for side in luminance.shape)
    assert np.abs(np.asarray(photo.small)[:height, :width] - blocks(luminance, n)).max() <= 1.5
    assert photo.small is photo.small
    assert (pixels.DecodedPhoto(None, "corrupt").grey, pixels.DecodedPhoto(None, "corrupt").small) == (None, None)


def profile(swapped: bool) -> bytes:
    """sRGB, or what sRGB would be if its red were green and its green red."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if swapped:
        data = data.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)
    return data


def test_colours_follow_the_profile():
    image = noise(40, 30)
    plain, srgb, swapped, broken = (
        pixels.decode(encoded(image, "PNG", icc_profile=data)).picture
        for data in (None, profile(False), profile(True), b"no profile")
    )
    assert np.array_equal(plain, srgb)
    assert np.array_equal(plain, broken)
    assert np.abs(np.asarray(swapped, int)[..., [1, 0, 2]] - np.asarray(plain)).max() <= 2


def test_the_hash_is_that_of_the_whole_picture_but_for_a_bit_or_two():
    for seed in range(8):
        coarse = np.random.default_rng(seed).integers(0, 255, (12, 10, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((1000 + 60 * seed, 1500 - 30 * seed), Image.Resampling.BICUBIC)
        small = pixels.DecodedPhoto(picture).small
        whole = int(str(imagehash.phash(picture)), 16)
        assert (duplicates.phash(small) ^ whole).bit_count() <= 2


def test_a_crop_is_averaged_down_to_one_size_and_never_enlarged():
    grey = noise(1200, 1100).convert("L")
    [large, small, outside] = quality.crops(grey, [100, 50, 612, 1074, 0.5, 0.5, 30.2, 9.9, 1300, 5, 1400, 50], 512)
    expected = blocks(np.asarray(grey, float)[50:1074, 100:612], 2)
    assert np.abs(np.asarray(large) - expected).max() <= 0.5
    assert np.array_equal(small, np.asarray(grey)[0:10, 0:31])
    assert (outside.size[0], quality.exposure(outside), decode.sharpness(outside)) == (0, 0.0, 0.0)
    assert quality.crops(grey, [], 512) == []

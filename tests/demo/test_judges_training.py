"""What the judges learn from: keypoints that follow a picture through every change."""

import numpy as np
import pytest
import torch
from bolid.demo import people
from bolid.demo.judges import _expected_places
from bolid.demo.train import corpus, judges_data, judges_shape
from bolid.demo.train.judges_softening import softened

SEED = 77_005


def test_keypoints_of_a_photo_are_known_without_painting_it() -> None:
    photo = people.take_photo(SEED, 3, 1, size=(64, 80), framing="full")
    camera, points = people.keypoints_in_space(SEED, 3, 1, size=(64, 80), framing="full")
    assert np.array_equal(points, photo.keypoints_3d)
    assert np.array_equal(camera.project(points)[0], photo.camera.project(photo.keypoints_3d)[0])


def test_the_depth_of_a_keypoint_is_in_units_of_the_picture() -> None:
    shot = corpus.Shot(SEED, 4, 0, (judges_data.SIZE, judges_data.SIZE), (("framing", "full"),))
    (found,) = judges_data.keypoints([shot])
    camera, points = people.keypoints_in_space(SEED, 4, 0, size=shot.size, framing="full")
    assert found[11:13, 2].mean() == pytest.approx(0, abs=1e-5)
    thigh = np.linalg.norm(points[11] - points[13])
    scale = camera.focal / camera.view(points)[11:13, 2].mean() / (judges_data.SIZE / 2)
    assert np.linalg.norm(found[11] - found[13]) == pytest.approx(thigh * scale, rel=0.12)  # but for perspective


def test_keypoints_follow_a_picture_that_is_moved_and_mirrored() -> None:
    side, count = 128, 24
    rng = np.random.Generator(np.random.PCG64(1))
    places = torch.from_numpy(rng.uniform(-0.7, 0.7, (count, 17, 3)).astype(np.float32))
    nose, left_eye = places[:, 0], places[:, 1]
    images = np.zeros((count, side, side, 3), np.uint8)
    for i in range(count):
        for colour, (x, y) in enumerate((nose[i, :2].tolist(), left_eye[i, :2].tolist())):
            column, row = (round((v + 1) * side / 2 - 0.5) for v in (x, y))
            images[i, row - 1 : row + 2, column - 1 : column + 2, colour] = 255
    made, moves = softened(images, np.random.Generator(np.random.PCG64(2)), zoom=0.15, strength=0.0)
    after = judges_shape.moved(places, moves)
    mirrored = moves[:, 0, 0] < 0
    assert 0 < mirrored.sum() < count
    ahead = torch.arange(side) * 2 / side - 1 + 1 / side
    for i in range(count):
        eye = 2 if mirrored[i] else 1  # the left eye of a mirrored picture is the right one
        for colour, keypoint in ((0, 0), (1, eye)):
            light = made[i, colour]
            if (after[i, keypoint, :2].abs() > 0.95).any():
                continue
            x = (light.sum(0) * ahead).sum() / light.sum()
            y = (light.sum(1) * ahead).sum() / light.sum()
            assert torch.stack([x, y]).sub(after[i, keypoint, :2]).abs().max() < 1.5 / (side / 2)


def test_a_map_that_is_sure_of_a_cell_answers_its_middle_and_offset() -> None:
    maps = torch.zeros(1, 4, 17, 8, 8)
    maps[0, 0, 5, 2, 6] = 50.0  # row 2, column 6
    maps[0, 1, 5], maps[0, 2, 5], maps[0, 3, 5] = 0.05, -0.1, 0.4
    keypoints, certainty = _expected_places(maps.view(1, 68, 8, 8))
    assert keypoints[0, 5].tolist() == pytest.approx([6.5 / 4 - 1 + 0.05, 2.5 / 4 - 1 - 0.1, 0.4], abs=1e-5)
    assert certainty[0, 5] == pytest.approx(1, abs=1e-5)
    assert keypoints[0, 0].tolist() == pytest.approx([0, 0, 0], abs=1e-6)  # no idea: the middle of all
    assert certainty[0, 0] == pytest.approx(1 / 64)

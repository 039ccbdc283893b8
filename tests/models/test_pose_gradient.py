"""Keypoints with a gradient: the detector's own answer, ultralytics' own preparing, and finite differences."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.errors import ModelError
from bolid.models.pose import PoseEstimator, ultralytics_calls
from bolid.models.pose_gradient import DifferentiablePose, letterbox, soft_arg_max

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs bolid[pose]")

WEIGHTS = NETWORKS / "pose" / "pose.pt"
WORLD = 31_077


@pytest.fixture(scope="module")
def soft():
    return DifferentiablePose(WEIGHTS)


def photo(identity, size=(224, 224), **options):
    return people.take_photo(WORLD, identity, 0, size=size, pose="standing", framing="full", **options)


def as_tensor(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def test_the_soft_answer_is_the_detectors_within_two_percent_of_the_torso(soft):
    estimate = PoseEstimator(WEIGHTS)
    distances = []
    for identity, size in enumerate([(224, 224), (160, 224), (128, 128), (300, 200), (224, 224), (128, 192)]):
        image = photo(identity, size).image
        hard, found = estimate([image])[0][0], soft(as_tensor(image))
        points = found.keypoints[0].numpy()
        torso = np.linalg.norm(hard.keypoints[[5, 6], :2] - hard.keypoints[[11, 12], :2], axis=1).mean()
        distances += list(np.linalg.norm(points[5:, :2] - hard.keypoints[5:, :2], axis=1) / torso)
        assert abs(float(found.score) - hard.score) < 0.01
        assert np.abs(points[:, 2] - hard.keypoints[:, 2]).max() < 0.15
    assert np.median(distances) <= 0.02
    assert max(distances) < 0.2


def test_pictures_are_prepared_as_ultralytics_does():
    rng = np.random.default_rng(0)
    with ultralytics_calls():
        from ultralytics.data.augment import LetterBox
    for height, width in ((64, 64), (100, 61), (40, 96), (33, 20)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        stock = LetterBox((64, 64), auto=False)(image=image)
        framed, scale, corner = letterbox(as_tensor(image), 64)
        assert framed.shape == (1, 3, 64, 64)
        assert np.abs(framed[0].permute(1, 2, 0).numpy() * 255 - stock).max() <= 1.01  # stock rounds to bytes
        assert corner[0] == (64 - round(width * scale[0])) // 2
        assert corner[1] == (64 - round(height * scale[1])) // 2


def test_the_best_person_alone_is_read():
    """Three anchors of one person and a surer keypoint far away, of another: the mean is over the three."""
    raw = torch.zeros(1, 5 + 51, 4)
    raw[0, :4] = torch.tensor([[10.0, 10, 10, 60], [10, 10, 10, 60], [8, 8, 8, 8], [8, 8, 8, 8]])
    raw[0, 4] = torch.tensor([0.8, 0.8, 0.8, 0.7])
    points = raw[0, 5:].unflatten(0, (17, 3))
    points[:, 0] = torch.tensor([1.0, 2, 6, 99])
    points[:, 1] = torch.tensor([3.0, 3, 3, 99])
    points[:, 2] = torch.tensor([0.5, 0.25, 0.25, 1])
    x, y, confidence, score = soft_arg_max(raw, sharpness=32)
    torch.testing.assert_close(x, torch.full((1, 17), (0.5 * 1 + 0.25 * 2 + 0.25 * 6) / 1.0))
    torch.testing.assert_close(y, torch.full((1, 17), 3.0))
    torch.testing.assert_close(confidence, torch.full((1, 17), 0.5**2 + 2 * 0.25**2))
    assert score.tolist() == pytest.approx([0.8])
    surer = raw.clone()
    surer[0, 4, 1] = 0.9
    assert (soft_arg_max(surer, sharpness=400)[0] - 2).abs().max() < 1e-3


def test_the_gradient_of_the_soft_arg_max_is_that_of_finite_differences():
    torch.manual_seed(0)
    boxes = torch.tensor([20.0, 20, 12, 12]).double()[None, :, None] + 0.3 * torch.rand(2, 4, 6).double()
    maps = torch.cat([boxes, torch.rand(2, 52, 6).double() * 0.8 + 0.1], 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda raw: soft_arg_max(raw, 4.0)[:3], (maps,))


def test_the_gradient_reaches_the_pixels_and_no_weight(soft):
    """Along a random direction, against central differences of the whole way in double precision."""
    network = DifferentiablePose(WEIGHTS, image_size=96)
    network._network.double()
    picture = as_tensor(photo(9, (72, 96)).image).double()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(picture.shape, generator=generator, dtype=torch.float64)
    factor = torch.randn(17, generator=generator, dtype=torch.float64)

    def read(pixels):
        x, y, confidence, _ = soft_arg_max(network._raw(letterbox(pixels, 96)[0]), 4.0)
        return (factor * (x + 2 * y + confidence)).sum()

    leaf = picture.clone().requires_grad_(True)
    read(leaf).backward()
    step = 1e-6
    with torch.no_grad():
        slope = (read(picture + step * direction) - read(picture - step * direction)) / (2 * step)
    assert float((leaf.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-4)
    assert float(slope) != 0

    pixels = as_tensor(photo(9, (72, 96)).image).requires_grad_(True)
    soft(pixels).keypoints.sum().backward()
    assert pixels.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in soft._network.parameters())


def test_missing_weights_say_what_to_pull(tmp_path: Path):
    with pytest.raises(ModelError, match="bolid models pull yolo11x-pose"):
        DifferentiablePose(tmp_path / "none.pt")

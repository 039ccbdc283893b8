"""The heat maps that the pose network learns from, against scipy's entropy over Gaussians written out cell by cell."""

import math

import numpy as np
import pytest
import torch
from bolid.demo.train import pose_heat
from scipy.stats import entropy


def gaussian(x: float, y: float, width: int, height: int) -> np.ndarray:
    """A keypoint's heat over the cells, row by row, x and y in cells."""
    return np.array(
        [
            math.exp(-((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / (2 * pose_heat.WIDTH**2))
            for row in range(height)
            for column in range(width)
        ]
    )


def people(count: int) -> torch.Tensor:
    return torch.zeros(count, 17, 3)


def test_heat_of_one_keypoint_is_its_gaussian() -> None:
    keypoints = people(1)
    keypoints[0, 9] = torch.tensor([2.25 / 8, 3.75 / 6, 2])
    logits = torch.randn(1, 17, 6, 8, generator=torch.Generator().manual_seed(5))
    found = pose_heat.divergence(logits, keypoints, torch.tensor([0]), 1)
    guess = np.exp(logits[0, 9].flatten().double().numpy())
    assert float(found) == pytest.approx(entropy(gaussian(2.25, 3.75, 8, 6), guess), rel=1e-4)


def test_two_people_are_two_peaks_and_a_hidden_keypoint_counts_less() -> None:
    keypoints = people(3)
    keypoints[0, 4] = torch.tensor([1.5 / 8, 1.5 / 8, 2])
    keypoints[1, 4] = torch.tensor([6.5 / 8, 5.5 / 8, 1])
    keypoints[2, 7] = torch.tensor([0.5, 0.5, 1])  # of the second picture
    logits = torch.zeros(2, 17, 8, 8)
    found = pose_heat.divergence(logits, keypoints, torch.tensor([0, 0, 1]), 2)
    both = gaussian(1.5, 1.5, 8, 8) + pose_heat.HIDDEN_WEIGHT * gaussian(6.5, 5.5, 8, 8)
    flat = np.ones(64)
    first, second = entropy(both, flat), entropy(gaussian(4, 4, 8, 8), flat)
    hidden = pose_heat.HIDDEN_WEIGHT
    assert float(found) == pytest.approx((first + hidden * second) / (1 + hidden), rel=1e-4)


def test_keypoints_that_are_not_labelled_ask_for_nothing() -> None:
    logits = torch.randn(2, 17, 4, 4, requires_grad=True)
    found = pose_heat.divergence(logits, people(1), torch.tensor([0]), 2)
    found.backward()
    assert float(found.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_truth_as_logits_is_no_error() -> None:
    keypoints = people(1)
    keypoints[0, 0] = torch.tensor([0.4, 0.3, 2])
    logits = torch.full((1, 17, 8, 8), -30.0)
    logits[0, 0] = torch.tensor(np.log(gaussian(3.2, 2.4, 8, 8))).reshape(8, 8)
    assert float(pose_heat.divergence(logits, keypoints, torch.tensor([0]), 1)) == pytest.approx(0, abs=1e-5)


def test_heat_is_added_to_the_loss_and_teaches_the_tapped_layer() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.Conv2d(5, 4, 1))
    heat = pose_heat.KeypointHeat(layers, [0], [5])
    plain = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    criterion = pose_heat.WithHeat(lambda _, __: (plain, {"box_loss": 1.0}), heat, gain=10.0, lr=0.3)
    keypoints = people(2)
    keypoints[:, 3] = torch.tensor([0.3, 0.6, 2])
    pictures = torch.zeros(2, 3, 16, 16)
    pictures[:, :, 9, 4] = 1  # a spot where the keypoint is
    batch = {"img": pictures, "keypoints": keypoints, "batch_idx": torch.tensor([[0.0], [1.0]])}
    losses = []
    for _ in range(40):
        loss, parts = criterion(layers(batch["img"]), batch)
        losses.append(criterion.last)
        assert parts == {"box_loss": 1.0}
        assert (loss - plain).tolist() == pytest.approx([0, 0, 10 * 2 * criterion.last, 0, 0], rel=1e-4)
        layers.zero_grad()
        loss.sum().backward()
        criterion.step()
    assert layers[0].weight.grad is not None
    assert layers[0].weight.grad.any()
    assert layers[1].weight.grad is None or not layers[1].weight.grad.any()
    assert losses[-1] < 0.6 * losses[0]

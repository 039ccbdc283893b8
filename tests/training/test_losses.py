import math

import pytest
import torch
from bolid.models.body_encoder import RATIOS
from bolid.training.losses import (
    BONES,
    annealed,
    free_bits,
    info_nce,
    kl_to_prior,
    log_bone_ratios,
    masked_l1,
    reconstruction,
)
from torch import Tensor
from torch.distributions import Normal, kl_divergence


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kl_equals_that_of_torch() -> None:
    mu, logvar = normal(4, 7), normal(4, 7, seed=1)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros(()), torch.ones(())))
    torch.testing.assert_close(kl_to_prior(mu, logvar), expected)


def test_free_bits_are_free_per_dimension() -> None:
    kl = torch.tensor([[0.1, 3.0], [0.3, 5.0]], requires_grad=True)
    total = free_bits(kl, 0.5)
    assert total.item() == pytest.approx(0.5 + 4.0)
    total.backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0, 0.5], [0, 0.5]]


def test_annealing_rises_to_one() -> None:
    assert [annealed(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert annealed(0, 0) == 1


def test_info_nce_equals_a_naive_loop() -> None:
    first, second, temperature = normal(5, 3), normal(5, 3, seed=1), 0.3
    expected = 0.0
    for one, other in ((first, second), (second, first)):
        for i in range(5):
            scores = [
                math.exp(float(one[i] @ other[j] / one[i].norm() / other[j].norm()) / temperature) for j in range(5)
            ]
            expected -= math.log(scores[i] / sum(scores)) / 10
    everyone = torch.arange(5), torch.ones(5, dtype=torch.bool)
    assert info_nce(first, second, *everyone, temperature).item() == pytest.approx(expected, rel=1e-9)


def test_info_nce_leaves_out_rows_and_takes_no_negative_from_the_same_identity() -> None:
    first, second = normal(5, 3), normal(5, 3, seed=1)
    valid = torch.tensor([True, True, False, True, False])
    identity = torch.arange(5)
    expected = info_nce(first[valid], second[valid], identity[valid], valid[valid], 0.2)
    torch.testing.assert_close(info_nce(first, second, identity, valid, 0.2), expected)
    twice = torch.tensor([0, 0, 1])
    pairs = info_nce(first[:3], second[:3], twice, torch.ones(3, dtype=torch.bool), 0.2)
    scores = torch.nn.functional.normalize(first[:3]) @ torch.nn.functional.normalize(second[:3]).T / 0.2
    naive = 0.0
    for table in (scores, scores.T):
        for i, others in enumerate(([0, 2], [1, 2], [0, 1, 2])):
            naive -= float(table[i, i] - torch.logsumexp(table[i, others], 0)) / 6
    assert pairs.item() == pytest.approx(naive)
    nobody = info_nce(first, second, identity, torch.zeros(5, dtype=torch.bool), 0.2)
    assert nobody == 0


def test_info_nce_is_small_when_the_halves_agree() -> None:
    sets, everyone = normal(6, 32), (torch.arange(6), torch.ones(6, dtype=torch.bool))
    assert info_nce(sets, sets, *everyone, 0.1) < 0.1 < info_nce(sets, sets.flip(0), *everyone, 0.1)


def test_reconstruction_counts_the_mask_and_the_weights() -> None:
    drawn, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    target[1] = 3
    ones = torch.ones(2)
    assert reconstruction(drawn, target, ones) == 2
    assert reconstruction(drawn, target, torch.tensor([1.0, 0.0])) == 1
    assert reconstruction(drawn, target, torch.zeros(2)) == 0
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    target[:, :, 2:] = 100
    assert reconstruction(drawn, target, ones, mask) == 2


def person(scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """A torso of length 2, shoulders 1 apart, hips 0.5 apart, upper arms 1, forearms 0.5, thighs 1.5, shins 1."""
    keypoints = torch.zeros(17, 3)
    for side, sign in ((0, 1.0), (1, -1.0)):
        shoulder, hip = torch.tensor([sign * 0.5, 0.0]), torch.tensor([sign * 0.25, math.sqrt(4 - 0.0625)])
        points = [shoulder, shoulder + torch.tensor([0, 1.0]), shoulder + torch.tensor([0, 1.5])]
        points += [hip, hip + torch.tensor([0, 1.5]), hip + torch.tensor([0, 2.5])]
        for index, point in zip(range(5 + side, 17, 2), points, strict=True):
            keypoints[index, :2] = point * scale + shift
            keypoints[index, 2] = 0.9
    return keypoints


EXPECTED = torch.tensor([0.5, 0.25, 0.5, 0.25, 0.75, 0.5]).log()


def test_bone_ratios_do_not_depend_on_size_and_place() -> None:
    keypoints = torch.stack([person(), person(37.0, 100.0)])
    ratios, measured = log_bone_ratios(keypoints, 0.5)
    assert len(BONES) == RATIOS == ratios.shape[-1]
    assert measured.all()
    torch.testing.assert_close(ratios, EXPECTED.expand(2, -1), rtol=1e-4, atol=1e-4)


def test_bones_without_confidence_are_left_out() -> None:
    keypoints = person()
    keypoints[7, 2] = 0.2  # left elbow: the right arm remains
    keypoints[15:17, 2] = 0  # both ankles: no shin
    ratios, measured = log_bone_ratios(keypoints, 0.5)
    assert measured.tolist() == [True] * 5 + [False]
    torch.testing.assert_close(ratios[:5], EXPECTED[:5], rtol=1e-4, atol=1e-4)
    assert ratios[5] == 0


def test_keypoints_that_were_not_measured_give_no_loss_and_no_nan() -> None:
    ratios, measured = log_bone_ratios(torch.zeros(3, 17, 3), 0.5)
    assert not measured.any()
    predicted = torch.randn(3, RATIOS, requires_grad=True)
    loss = masked_l1(predicted, ratios, measured)
    loss.backward()
    assert loss == 0
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() == 0

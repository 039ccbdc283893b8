import math

import pytest
import torch
from bolid.models.body_encoder import RATIOS
from bolid.training.losses import (
    BONES,
    annealed,
    cosine_distance,
    free_bits,
    info_nce,
    keypoint_error,
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


def standing(confidence: float = 1.0) -> Tensor:
    """One pose: hips at (±1, 0), shoulders 4 above them, all else somewhere."""
    points = normal(17, 2, seed=5)
    points[[5, 6]], points[[11, 12]] = (torch.tensor([[x, y], [-x, y]]).double() for x, y in ((1.0, -4.0), (1.0, 0.0)))
    return torch.cat([points, torch.full((17, 1), confidence).double()], -1)[None]


def test_keypoints_are_compared_in_torso_lengths_wherever_and_however_large_the_person_is() -> None:
    reference, generated = standing(), standing()
    generated[0, 9, :2] += torch.tensor([3.0, -4.0])  # 5 px, of a torso of 4 px
    generated[..., :2] = generated[..., :2] * 7.5 + torch.tensor([100.0, -20.0])
    error, counted = keypoint_error(generated, reference, 0.5, 0.1)
    expected = torch.zeros(1, 12, dtype=torch.float64)
    expected[0, 4] = (5 / 4) ** 2  # the left wrist, ninth of COCO, fifth from the shoulders on
    torch.testing.assert_close(error, expected)
    assert counted.all()


def test_a_keypoint_counts_only_where_both_are_sure_of_it_and_a_torso_is_there() -> None:
    reference, generated = standing(), standing()
    reference[0, 7, 2] = generated[0, 8, 2] = 0.4
    assert (~keypoint_error(generated, reference, 0.5, 0.1)[1]).nonzero()[:, 1].tolist() == [2, 3]
    for broken in ([11], [12], [5, 6]):
        hidden = standing()
        hidden[0, broken, 2] = 0.1
        assert not keypoint_error(hidden, standing(), 0.5, 0.1)[1].any()
        assert not keypoint_error(standing(), hidden, 0.5, 0.1)[1].any()
    small = standing()
    small[..., :2] *= 0.02
    assert not keypoint_error(small, standing(), 0.5, 0.1)[1].any()


def test_the_gradient_of_the_keypoint_error_is_finite_also_where_all_points_are_one() -> None:
    collapsed = torch.zeros(1, 17, 3, dtype=torch.float64)
    collapsed[..., 2] = 1
    for points in (collapsed, standing() + 0.01 * normal(1, 17, 3, seed=8)):
        leaf = points.clone().requires_grad_(True)
        error, _ = keypoint_error(leaf, standing(), 0.5, 0.1)
        (error.sum() + log_bone_ratios(leaf, 0.5)[0].sum()).backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert torch.autograd.gradcheck(
        lambda moved: keypoint_error(torch.cat([moved, standing()[..., 2:]], -1), standing(), 0.5, 0.1)[0],
        (standing()[..., :2] + 0.1 * normal(1, 17, 2, seed=9)).requires_grad_(True),
    )


def test_cosine_distance_is_one_minus_the_weighted_mean_of_cosines() -> None:
    made = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wanted = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], [[1.0, 0.0]] * 3])
    weight = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert cosine_distance(made, wanted, weight).tolist() == pytest.approx([1 - 0.8, 0])

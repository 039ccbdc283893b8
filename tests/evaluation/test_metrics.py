"""Figures against closed forms and against plain loops."""

import numpy as np
import pytest
from bolid.evaluation import metrics
from hypothesis import given
from hypothesis import strategies as st


def gaussian(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def whitened(n: int, d: int, seed: int) -> np.ndarray:
    """Samples whose mean is exactly 0 and whose covariance is exactly the unit matrix."""
    x = gaussian(n, d, seed)
    x -= x.mean(0)
    q, _ = np.linalg.qr(x)
    return q * np.sqrt(n - 1)


def test_frechet_of_a_shift_is_its_squared_length() -> None:
    x, shift = whitened(200, 8, 0), np.arange(8) / 4
    assert metrics.frechet_distance(x, x + shift) == pytest.approx(shift @ shift, abs=1e-9)


@pytest.mark.parametrize("n", [6, 200])
def test_frechet_of_a_set_with_itself_is_zero(n: int) -> None:
    x = gaussian(n, 8, 1)
    assert abs(metrics.frechet_distance(x, x)) < 1e-6


def test_frechet_of_diagonal_covariances() -> None:
    a, b = np.array([1.0, 4.0, 9.0, 0.25]), np.array([2.0, 1.0, 16.0, 0.0])
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert metrics.gaussian_frechet_distance(np.zeros(4), np.diag(a), np.zeros(4), np.diag(b)) == pytest.approx(
        expected
    )
    x = whitened(300, 4, 2)
    assert metrics.frechet_distance(x * np.sqrt(a), x * np.sqrt(b)) == pytest.approx(expected, abs=1e-9)


def test_frechet_equals_the_general_matrix_root() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    x, y = gaussian(50, 6, 3) @ gaussian(6, 6, 4), gaussian(60, 6, 5) + 0.3
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    expected = gap @ gap + np.trace(sx + sy - 2 * scipy_linalg.sqrtm(sx @ sy).real)
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_both_forms_of_frechet_agree_with_few_samples() -> None:
    x, y = gaussian(5, 12, 6), gaussian(7, 12, 7)
    whole = metrics.gaussian_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    assert metrics.frechet_distance(x, y) == pytest.approx(whole, rel=1e-6)


def test_frechet_keeps_its_digits_far_from_the_origin() -> None:
    x = whitened(200, 4, 8) * 0.01
    assert metrics.frechet_distance(x + 50, x + 50.5) == pytest.approx(4 * 0.25, rel=1e-9)


@given(st.permutations(list(range(12))))
def test_frechet_does_not_depend_on_the_order(order: list[int]) -> None:
    x, y = gaussian(12, 5, 9), gaussian(12, 5, 10)
    assert metrics.frechet_distance(x[order], y) == pytest.approx(metrics.frechet_distance(x, y), rel=1e-9)


def test_too_few_or_unlike_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        metrics.frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="at least two"):
        metrics.kernel_distance(np.zeros((5, 2)), np.zeros((5, 3)))


def test_kernel_distance_equals_a_plain_loop() -> None:
    x, y = gaussian(5, 3, 11), gaussian(4, 3, 12) + 1

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert metrics.kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)


def test_kernel_distance_is_unbiased_and_may_be_negative() -> None:
    values = [metrics.kernel_distance(gaussian(40, 4, 2 * i), gaussian(40, 4, 2 * i + 1)) for i in range(60)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_inception_score_of_uniform_and_of_balanced_certain_answers() -> None:
    assert metrics.inception_score(np.zeros((10, 7))) == pytest.approx(1)
    certain = np.tile(np.where(np.eye(7) > 0, 0.0, -np.inf), (3, 1))
    assert metrics.inception_score(certain) == pytest.approx(7)
    assert metrics.inception_score(np.eye(7) * 1000) == pytest.approx(7)
    with pytest.raises(ValueError, match="N > 0"):
        metrics.inception_score(np.zeros((0, 7)))


def test_cosine() -> None:
    assert metrics.cosine([1, 0], [[2, 0], [0, 3], [-1, 0], [0, 0]]).tolist() == [1, 0, -1, 0]
    assert metrics.clip_score([[1, 0], [1, 0]], [[1, 0], [0, 1]]) == 0.5
    with pytest.raises(ValueError, match="pairs"):
        metrics.clip_score(np.zeros((0, 2)), np.zeros((0, 2)))


def test_retrieval_against_a_hand_count() -> None:
    similarity = [[0.9, 0.8, 0.7, 0.1], [0.1, 0.5, 0.4, 0.9], [0.3, 0.2, 0.1, 0.0]]
    found = metrics.retrieval(similarity, ["a", "b", "nobody"], ["a", "b", "a", "b"])
    assert found.queries == 2
    assert found.rank1 == 1.0
    assert found.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_a_constant_embedding_finds_nobody() -> None:
    found = metrics.retrieval(np.ones((4, 4)), range(4), range(4))
    assert found.rank1 == 0
    assert found.mean_average_precision == pytest.approx(1 / 4)


def test_retrieval_without_an_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="no query"):
        metrics.retrieval([[1.0]], ["a"], ["b"])
    with pytest.raises(ValueError, match="similarity"):
        metrics.retrieval([[1.0]], ["a"], ["a", "b"])

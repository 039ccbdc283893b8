"""Linear probes and intervals: what can be read from a latent, and how sure a mean over people is. Numpy alone.

All probes are ridge regressions (Hoerl and Kennard 1970) in closed form, tested on people that they were not fitted
to: people are dealt to ten folds, each fold is predicted from the nine others, and the strength of the ridge is chosen
among these nine in the same way.

Shapes: N rows, d numbers of a latent, T targets, C classes, P people.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

FOLDS, INNER_FOLDS = 10, 5
STRENGTHS = np.logspace(-6, 3, 19)
"""Of the ridge: what is added to the variance, 1, of each number of a latent."""
RESAMPLES = 2000
_CONSTANT = 1e-9


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def r2(latent_Nd: ArrayLike, targets_NT: ArrayLike, person_N: ArrayLike) -> Array:
    """Return R² [T] of each target from a linear probe, cross-validated over people.

    1 − squared error / squared error of the mean of the rows that the probe was fitted to: 1 where everything is read,
    0 where nothing is, below 0 where the probe learned chance. A target that does not vary has no R²: NaN.

    Raises:
        ValueError: fewer than two people, or other numbers of rows.
    """
    latent, targets, person = _rows(latent_Nd, targets_NT, person_N)
    predicted, means = predictions(latent, targets, person)
    error, spread = ((targets - guess) ** 2 for guess in (predicted, means))
    total = spread.sum(0)
    varies = total > _CONSTANT * len(targets) * np.maximum(1.0, (targets**2).mean(0))
    return np.where(varies, 1 - error.sum(0) / np.where(varies, total, 1.0), np.nan)


def accuracy(latent_Nd: ArrayLike, classes_N: ArrayLike, person_N: ArrayLike) -> float:
    """Return the share of rows whose class a linear probe names, cross-validated over people.

    The probe is a ridge regression on indicators of the classes; the largest answer is the class.

    Raises:
        ValueError: see `r2`.
    """
    names, number = np.unique(np.asarray(classes_N), return_inverse=True)
    latent, indicators, person = _rows(latent_Nd, np.eye(len(names))[number], person_N)
    return float((predictions(latent, indicators, person)[0].argmax(1) == number).mean())


def commonest(classes_N: ArrayLike) -> float:
    """Return the share of the commonest class: the accuracy of always naming it."""
    _, counts = np.unique(np.asarray(classes_N), return_counts=True)
    return float(counts.max() / counts.sum())


def permuted_accuracy(latent_Nd: ArrayLike, classes_N: ArrayLike, person_N: ArrayLike, times: int = 3) -> float:
    """Return the mean accuracy of the same probe on shuffled classes: what it gets where there is nothing to read.

    Of C classes that are alike in number it is a little below 1 / C: a class that is rare among the people left out is
    common among those fitted to, and named too often.
    """
    classes, rng = np.asarray(classes_N), np.random.default_rng(0)
    return float(np.mean([accuracy(latent_Nd, rng.permutation(classes), person_N) for _ in range(times)]))


def predictions(latent_Nd: Array, targets_NT: Array, person_N: Integers) -> tuple[Array, Array]:
    """Predict each fold's targets from the other folds: the answers, and the means that they are held against."""
    predicted, means = np.empty_like(targets_NT), np.empty_like(targets_NT)
    fold_N = folds(person_N, FOLDS)
    for fold in np.unique(fold_N):
        test, fit = fold_N == fold, fold_N != fold
        strength = _best_strength(latent_Nd[fit], targets_NT[fit], person_N[fit])
        [predicted[test]] = ridge(latent_Nd[fit], targets_NT[fit], latent_Nd[test], np.array([strength]))
        means[test] = targets_NT[fit].mean(0)
    return predicted, means


def ridge(fit_Nd: Array, targets_NT: Array, asked_Md: Array, strengths: Array) -> Array:
    """Return the answers [len(strengths), M, T] of ridge regressions fitted to N rows, one for each strength.

    Each number of the latent is scaled to mean 0 and variance 1 first, so that its unit does not matter;
    w = (XᵀX + strength N I)⁻¹ XᵀY by the eigenvectors of XᵀX.
    """
    mean, spread = fit_Nd.mean(0), fit_Nd.std(0)
    scale = np.where(spread > _CONSTANT, 1 / np.maximum(spread, _CONSTANT), 0.0)
    x, asked, centre = (fit_Nd - mean) * scale, (asked_Md - mean) * scale, targets_NT.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    projected = vectors.T @ (x.T @ (targets_NT - centre))
    damped = projected[None] / (values.clip(0)[None] + strengths[:, None] * len(x))[..., None]
    return np.asarray((asked @ vectors)[None] @ damped + centre)


def folds(person_N: Integers, count: int) -> Integers:
    """Deal people to folds, at most `count`; all rows of one person are in one fold."""
    people = np.unique(person_N)
    dealt = np.random.default_rng(len(people)).permutation(len(people)) % min(count, len(people))
    return np.asarray(dealt[np.searchsorted(people, person_N)], np.int64)


def bootstrap(values_P: ArrayLike, resamples: int = RESAMPLES) -> Interval:
    """Return the mean over people and its 95 % percentile interval (Efron 1979): people are drawn with replacement.

    Raises:
        ValueError: nobody.
    """
    values = np.asarray(values_P, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"need one value a person, got {values.shape}")
    drawn = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def _best_strength(latent: Array, targets: Array, person: Integers) -> float:
    """Return the strength with the least squared error, targets scaled to one variance, on people left out."""
    fold = folds(person, INNER_FOLDS)
    if len(np.unique(fold)) < 2:
        return float(STRENGTHS[-1])
    scale = np.maximum(targets.std(0), _CONSTANT)
    error = np.zeros(len(STRENGTHS))
    for number in np.unique(fold):
        test, fit = fold == number, fold != number
        answers = ridge(latent[fit], targets[fit], latent[test], STRENGTHS)
        error += (((answers - targets[test]) / scale) ** 2).sum((1, 2))
    return float(STRENGTHS[error.argmin()])


def _rows(latent: ArrayLike, targets: ArrayLike, person: ArrayLike) -> tuple[Array, Array, Integers]:
    x, y, who = np.asarray(latent, np.float64), np.asarray(targets, np.float64), np.asarray(person, np.int64)
    if x.ndim != 2 or y.ndim != 2 or not len(x) == len(y) == len(who) or len(np.unique(who)) < 2:
        raise ValueError(f"need rows of two people or more, got {x.shape}, {y.shape}, {who.shape}")
    return x, y, who

"""Figures as pure functions of features, logits and labels; nothing here loads a network or reads a file.

Everything is computed in float64 whatever comes in: covariances and their square roots lose their digits otherwise.
Legend: N, M samples, D features, K classes, Q queries, G gallery entries.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

KID_DEGREE = 3


def frechet_distance(x_ND: ArrayLike, y_MD: ArrayLike) -> float:
    """Return the squared Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6).

    Biased upwards at small N: state N beside it.

    Raises:
        ValueError: fewer than two samples on a side, or different widths.
    """
    x, y = _features(x_ND, y_MD)
    if min(len(x), len(y)) > x.shape[1]:
        return gaussian_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    # With S_x = Aᵀ A and S_y = Bᵀ B, tr (S_x S_y)^½ is the nuclear norm of A Bᵀ: smaller, and exact for few samples.
    gap = x.mean(0) - y.mean(0)
    a, b = _scaled_deviations(x), _scaled_deviations(y)
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * nuclear)


def gaussian_frechet_distance(mean_x: ArrayLike, cov_x: ArrayLike, mean_y: ArrayLike, cov_y: ArrayLike) -> float:
    """Return the squared Fréchet distance of two Gaussians given by mean `[D]` and covariance `[D, D]`.

    ||mu_x − mu_y||² + tr(S_x + S_y − 2 (S_x S_y)^½) (Dowson and Landau 1982), without a general matrix root:
    tr (S_x S_y)^½ = tr (S_x^½ S_y S_x^½)^½, both roots by symmetric eigendecomposition with negative rounding clipped.
    """
    gap = np.asarray(mean_x, np.float64) - np.asarray(mean_y, np.float64)
    s_x, s_y = (np.atleast_2d(np.asarray(cov, np.float64)) for cov in (cov_x, cov_y))
    values, vectors = np.linalg.eigh(s_x)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s_y @ root).clip(0)).sum()
    return float(gap @ gap + np.trace(s_x) + np.trace(s_y) - 2 * cross)


def kernel_distance(x_ND: ArrayLike, y_MD: ArrayLike) -> float:
    """Return the unbiased MMD² with the kernel (x·y / D + 1)³ (KID, Bińkowski et al. 2018, eq. 4); may be negative.

    Raises:
        ValueError: see `frechet_distance`.
    """
    x, y = _features(x_ND, y_MD)
    n, m, width = len(x), len(y), x.shape[1]
    k_xx, k_yy, k_xy = ((p @ q.T / width + 1) ** KID_DEGREE for p, q in ((x, x), (y, y), (x, y)))
    within_x = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1))
    within_y = (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * k_xy.mean())


def inception_score(logits_NK: ArrayLike) -> float:
    """Return exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016), over all samples at once, no splits.

    Raises:
        ValueError: no samples.
    """
    logits = np.asarray(logits_NK, np.float64)
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"need logits [N, K] with N > 0, got {logits.shape}")
    log_p = logits - _logsumexp(logits)
    p = np.exp(log_p)
    log_marginal = np.log(p.mean(0).clip(np.finfo(np.float64).tiny))
    # 0 · log 0 is 0; a logit of −inf would make it NaN.
    terms = np.where(p > 0, p * (np.where(p > 0, log_p, 0) - log_marginal), 0)
    return float(np.exp(terms.sum(1).mean()))


def cosine(x: ArrayLike, y: ArrayLike) -> Array:
    """Return the cosine along the last axis, with broadcasting; 0 where a vector is zero."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    product = (a * b).sum(-1)
    return np.asarray(np.divide(product, norms, out=np.zeros_like(product), where=norms > 0))


def clip_score(images_ND: ArrayLike, texts_ND: ArrayLike) -> float:
    """Return the mean cosine of each picture's CLIP embedding and its own text's (CLIP-T; CLIP-I with pictures).

    Raw cosine: no factor 100, no clamp at 0.

    Raises:
        ValueError: no pairs, or not one text a picture.
    """
    images, texts = np.asarray(images_ND), np.asarray(texts_ND)
    if images.shape != texts.shape or not len(images):
        raise ValueError(f"need pairs of embeddings, got {images.shape} and {texts.shape}")
    return float(cosine(images, texts).mean())


@dataclass(frozen=True)
class Retrieval:
    """How well queries find their own identity.

    Attributes:
        rank1: share of queries whose nearest gallery entry has their identity.
        mean_average_precision: mean over queries of the average precision of their ranking.
        queries: number of queries that have an entry of their identity in the gallery; only these count.
    """

    rank1: float
    mean_average_precision: float
    queries: int


def retrieval(similarity_QG: ArrayLike, query_labels: ArrayLike, gallery_labels: ArrayLike) -> Retrieval:
    """Return rank-1 and mAP of the ranking by falling similarity; ties count against the query.

    Raises:
        ValueError: no query has its identity in the gallery, or the shapes do not match.
    """
    similarity = np.asarray(similarity_QG, np.float64)
    same_QG = np.asarray(query_labels)[:, None] == np.asarray(gallery_labels)[None, :]
    if similarity.shape != same_QG.shape:
        raise ValueError(f"similarity {similarity.shape} for {same_QG.shape[0]} queries and {same_QG.shape[1]} entries")
    answerable = same_QG.any(1)
    if not answerable.any():
        raise ValueError("no query has an entry of its identity in the gallery")
    similarity, same_QG = similarity[answerable], same_QG[answerable]
    # Sorting wrong entries first among equals keeps a constant embedding from scoring.
    order = np.lexsort((same_QG, -similarity), axis=1)
    hits = np.take_along_axis(same_QG, order, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(1) / hits.sum(1)
    return Retrieval(float(hits[:, 0].mean()), float(average.mean()), len(hits))


def _features(x_ND: ArrayLike, y_MD: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(x_ND, np.float64), np.asarray(y_MD, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"need two sets [N, D], [M, D] of at least two samples each, got {x.shape} and {y.shape}")
    return x, y


def _scaled_deviations(x_ND: Array) -> Array:
    """Return A with Aᵀ A the sample covariance (N − 1 in the denominator)."""
    return np.asarray((x_ND - x_ND.mean(0)) / np.sqrt(len(x_ND) - 1))


def _logsumexp(logits_NK: Array) -> Array:
    top = logits_NK.max(1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits_NK - top).sum(1, keepdims=True)))

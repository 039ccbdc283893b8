"""Stage `identity`: is the person of a gallery in each of its photos, told by the faces where there are any.

Faces are grouped by average linkage: groups are joined while the mean cosine between their faces is at least that of
two photos of one person. The largest group is the gallery's person; galleries of two people are reported, never
averaged. Each face is then held against the centre of that group, itself left out and the furthest tenth trimmed.

Who is seen from behind, or too small, has no usable face and stays on the word of the gallery, when the pose is clear
and nobody else is in the photo.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..stage import Verdict

Floats = NDArray[np.float32]
Evidence = Literal["face", "gallery"]

TRIMMED = 0.1
"""Share of a group, the furthest from its centre, that does not count in the centre."""
_PAIRS = 2**20
"""Pairs of galleries that are compared at a time: what the memory of it is bounded by."""
SECOND_PERSON = 0.2
"""A gallery holds a second person when a group has this share of the largest group's faces, and enough of them."""


@dataclass(frozen=True)
class Cosines:
    """Thresholds of one face model, cosines of unit vectors.

    Attributes:
        same: of two faces; at least this is one person.
        keep: of a face and its gallery's centre; None takes `same` by the centre's length, which is the same as
            asking for a mean cosine of `same` with the gallery's faces.
        reject: below this the photo shows somebody else; between is kept for review. None takes `REVIEW` of keep.
        merge: of two galleries' centres that are proposed to be one person; None takes the mean of `same` and of the
            mean cosine within the galleries.
    """

    same: float
    keep: float | None = None
    reject: float | None = None
    merge: float | None = None


REVIEW = 0.7
"""reject / keep where the model has no `reject` of its own: that of buffalo_l, 0.28 / 0.40."""


@dataclass(frozen=True)
class View:
    """What the identity decision reads of a photo.

    Attributes:
        embedding: `[512]` of unit length of a usable face, None without one.
        people: how many were found; 1 where the pose was not measured.
        keypoints: body keypoints that were found; None where the pose was not measured.
    """

    embedding: Floats | None
    people: int = 1
    keypoints: int | None = None


@dataclass(frozen=True)
class Finding:
    """What is known of who is in a photo: the cosine to the gallery's centre, what it rests on, a doubt."""

    score: float | None
    evidence: Evidence
    review: bool = False


@dataclass(frozen=True)
class Gallery:
    """The faces of a gallery, judged.

    Attributes:
        centre: `[512]`, mean of the largest group's unit vectors, not normalised; None with too few faces.
        findings: by the views' keys.
        verdicts: of the views that go, by their keys.
        groups: faces of each group that is a person by itself, largest first.
    """

    centre: Floats | None
    findings: Mapping[int, Finding]
    verdicts: Mapping[int, Verdict]
    groups: Sequence[int] = field(default=())


def decide(
    views: Mapping[int, View], cosines: Cosines, min_faces: int, outlier_mad: float, min_keypoints: int
) -> Gallery:
    """Judge the photos of one identity.

    Args:
        views: of the photos that no earlier stage rejected.
        cosines: thresholds of the model that made the embeddings.
        min_faces: fewest faces that make a gallery's person; where no group has as many, all photos stay on the word of
            the gallery.
        outlier_mad: a face below `keep` is rejected, too, when it lies so many median absolute deviations below the
            median of the gallery.
        min_keypoints: fewest body keypoints of a clear pose.
    """
    embeddings = {key: view.embedding for key, view in views.items() if view.embedding is not None}
    faces = np.stack(list(embeddings.values())) if embeddings else np.empty((0, 0), np.float32)
    members = linked(faces, cosines.same) if len(faces) >= min_faces else []
    judged = bool(members) and len(members[0]) >= min_faces
    findings: dict[int, Finding] = {}
    verdicts: dict[int, Verdict] = {}
    centre, groups = None, []
    if judged:
        centre = faces[members[0]].mean(axis=0)
        enough = max(min_faces, SECOND_PERSON * len(members[0]))
        groups = [len(group) for group in members if len(group) >= enough]
        scores = centre_cosines(faces, members[0])
        keep, reject = _limits(cosines, float(np.linalg.norm(centre)))
        limit = min(keep, max(reject, _outlier_limit(scores, outlier_mad)))
        for key, score in zip(embeddings, scores.tolist(), strict=True):
            findings[key] = Finding(score, "face", review=score < keep)
            if score < limit:
                verdicts[key] = Verdict("identity", "wrong_person", round(score, 4), round(limit, 4))
    for key, view in views.items():
        if key in findings:
            continue
        findings[key] = Finding(None, "gallery")
        if judged and view.people > 1:
            verdicts[key] = Verdict("identity", "no_evidence", view.people, 1)
        elif judged and view.keypoints is not None and view.keypoints < min_keypoints:
            verdicts[key] = Verdict("identity", "no_evidence", view.keypoints, min_keypoints)
    return Gallery(centre, findings, verdicts, groups)


def linked(faces: Floats, same: float) -> list[NDArray[np.int64]]:
    """Group unit vectors `[n, d]` by average linkage, down to a mean cosine of `same`; largest group first.

    Sokal and Michener's rule: the similarity of a joined group to another is the mean over its members.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(faces) < 2:
        return [np.arange(len(faces))] if len(faces) else []
    apart = (1 - faces.astype(np.float64) @ faces.T.astype(np.float64)).clip(min=0)
    np.fill_diagonal(apart, 0)
    labels = fcluster(linkage(squareform(apart, checks=False), "average"), 1 - same, criterion="distance")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return sorted(groups, key=lambda group: (-len(group), group.tolist()))


def centre_cosines(faces: Floats, members: NDArray[np.int64]) -> Floats:
    """Return the cosine `[n]` of each face to the trimmed centre of the members, itself left out.

    Args:
        faces: unit vectors `[n, d]`.
        members: rows of the group whose centre counts.
    """
    nearness = faces[members] @ faces[members].mean(axis=0)
    trimmed = members[np.argsort(-nearness, kind="stable")][: len(members) - int(TRIMMED * len(members))]
    total = faces[trimmed].sum(axis=0)
    others = np.where(np.isin(np.arange(len(faces)), trimmed)[:, None], total - faces, total)
    lengths = np.linalg.norm(others, axis=1)
    cosines: Floats = (faces * others).sum(axis=1) / np.maximum(lengths, 1e-12)
    return cosines


def alike(centres: Mapping[str, Floats], cosines: Cosines) -> list[tuple[str, str, float]]:
    """Return the pairs of galleries that seem to show one person, with the cosine of their centres.

    Args:
        centres: not normalised, see `Gallery`; by identity.
        cosines: thresholds of the model.
    """
    names = sorted(centres)
    if len(names) < 2:
        return []
    means = np.stack([centres[name] for name in names]).astype(np.float64)
    lengths = np.linalg.norm(means, axis=1)
    pairs: list[tuple[str, str, float]] = []
    rows = max(1, _PAIRS // len(names))
    for begin in range(0, len(names), rows):
        some = slice(begin, begin + rows)
        between = means[some] @ means.T
        found = between / np.outer(lengths[some], lengths)
        # The squared length of a mean of unit vectors is their mean cosine (each with itself included).
        within = (lengths[some, None] ** 2 + lengths[None] ** 2) / 2
        close = found >= cosines.merge if cosines.merge is not None else between >= (cosines.same + within) / 2
        for row, other in np.argwhere(np.triu(close, begin + 1)):
            pairs.append((names[begin + row], names[other], float(found[row, other])))
    return pairs


def _limits(cosines: Cosines, length: float) -> tuple[float, float]:
    keep = min(1.0, cosines.same / max(length, 1e-12)) if cosines.keep is None else cosines.keep
    return keep, REVIEW * keep if cosines.reject is None else cosines.reject


def _outlier_limit(scores: Floats, outlier_mad: float) -> float:
    median = float(np.median(scores))
    return median - outlier_mad * float(np.median(np.abs(scores - median)))

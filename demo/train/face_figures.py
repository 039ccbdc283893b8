"""Figures of a face model folder on people whom it has not seen, through the whole path: detect, align, embed.

Photos have the drawn sizes (short side 1000 to 1200 pixels), framings, poses and views of the demo's albums.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.face import Face, FaceAnalyser
from .. import people
from .corpus import Shot, rendered
from .face_data import Mark, Picture, keep_picture

SHOWN = 0.5
"""A face counts as visible when this share of it shows."""
LARGE = 40.0
"""A face counts as large enough when its box's shorter side has as many pixels in the photo."""
OVERLAP = 0.4
"""Intersection over union from which a found box is the face."""


def unseen(seed: int, identities: int, each: int, folder: Path, workers: int | None = None) -> list[Picture]:
    """Photos as albums have them, ``each`` of every identity of another world."""
    shots = [Shot(seed, i, n, _size(seed, i, n)) for i in range(identities) for n in range(each)]
    return list(rendered(shots, keep_picture, folder / "unseen", workers))


def _size(seed: int, identity: int, n: int) -> tuple[int, int]:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 503, identity, n))))
    short = int(rng.integers(1000, 1201))
    long = round(short * float(rng.choice((5 / 4, 4 / 3, 1.4, 3 / 2))))
    return (long, short) if rng.random() < 0.15 else (short, long)


def overlap(a: Sequence[float] | NDArray[np.float32], b: Sequence[float] | NDArray[np.float32]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(wide, 0.0) * max(high, 0.0)
    return float(inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner))


def wanted(mark: Mark) -> bool:
    """Whether the face is visible and large enough that it must be found."""
    return mark.visible >= SHOWN and min(mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]) >= LARGE


def detection(pictures: Sequence[Picture], found: Sequence[Sequence[Face]]) -> dict[str, float]:
    """Recall of wanted faces, precision, and the landmarks' error, over photos and what was found in each.

    A found box is false when it overlaps no face of which at least a twentieth shows, or one that is taken.
    """
    counts = {"wanted": 0, "hit": 0, "turned": 0, "turned_hit": 0, "small": 0, "small_hit": 0, "boxes": 0, "false": 0}
    errors = []
    for picture, boxes in zip(pictures, found, strict=True):
        free = list(boxes)
        for mark in picture.marks:
            best = max(free, key=lambda f: overlap(f.box, mark.box), default=None)
            hit = best is not None and overlap(best.box, mark.box) >= OVERLAP
            kind = "wanted" if wanted(mark) else "small" if mark.visible >= SHOWN else "turned"
            counts[kind] += 1
            if hit and best is not None:
                counts["hit" if kind == "wanted" else f"{kind}_hit"] += 1
                free = [f for f in free if f is not best]
                if kind == "wanted":
                    size = np.sqrt((mark.box[2] - mark.box[0]) * (mark.box[3] - mark.box[1]))
                    errors.append(float(np.linalg.norm(best.landmarks - mark.landmarks, axis=1).mean() / size))
        counts["boxes"] += len(boxes)
        counts["false"] += len(free)
    return {
        "faces_visible_40px": counts["wanted"],
        "recall_visible_40px": _share(counts["hit"], counts["wanted"]),
        "faces_visible_under_40px": counts["small"],
        "recall_visible_under_40px": _share(counts["small_hit"], counts["small"]),
        "faces_less_than_half_visible": counts["turned"],
        "found_less_than_half_visible": _share(counts["turned_hit"], counts["turned"]),
        "boxes_found": counts["boxes"],
        "precision": _share(counts["boxes"] - counts["false"], counts["boxes"]),
        "landmark_error_of_face_size": round(float(np.mean(errors)), 4) if errors else float("nan"),
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else float("nan")


def scores(embeddings: NDArray[np.float32], who: NDArray[np.int_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines of all pairs [N, N] of unit embeddings [N, 512]: of the same person, and of different people."""
    cosine = (embeddings @ embeddings.T).astype(np.float64)
    first, second = np.triu_indices(len(who), 1)
    same = who[first] == who[second]
    pairs = cosine[first, second]
    return pairs[same], pairs[~same]


def area_under_curve(same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """The chance that a same pair scores above a different one (Mann and Whitney), ties counting half."""
    ordered = np.sort(different)
    below = np.searchsorted(ordered, same, "left") + np.searchsorted(ordered, same, "right")
    return float(below.mean() / 2 / len(ordered))


def threshold_at(different: NDArray[np.float64], share: float) -> float:
    """The least cosine that at most ``share`` of different pairs reach."""
    ordered = np.sort(different)
    return float(np.nextafter(ordered[-1 - int(share * len(ordered))], np.inf))


def recognition(pictures: Sequence[Picture], found: Sequence[Sequence[Face]]) -> dict[str, float]:
    """How well the embeddings of found, wanted faces tell people apart."""
    embeddings, who = [], []
    for picture, boxes in zip(pictures, found, strict=True):
        mark = picture.marks[0] if picture.marks else None
        best = max(boxes, key=lambda f: overlap(f.box, mark.box) if mark else 0.0, default=None)
        if mark is not None and best is not None and wanted(mark) and overlap(best.box, mark.box) >= OVERLAP:
            embeddings.append(best.embedding)
            who.append(picture.identity)
    same, different = scores(np.array(embeddings), np.array(who))
    threshold = threshold_at(different, 1e-3)
    return {
        "identities": len(set(who)),
        "faces": len(who),
        "pairs_same": len(same),
        "pairs_different": len(different),
        "auc_same_different": round(area_under_curve(same, different), 4),
        "threshold_false_match_1e-3": round(threshold, 4),
        "true_match_at_threshold": round(float((same >= threshold).mean()), 4),
    }


def false_in_rooms(analyse: FaceAnalyser, seed: int, count: int) -> float:
    """Share of empty rooms in which a face is found."""
    return _share(sum(bool(analyse(people.empty_room(seed, n))) for n in range(count)), count)

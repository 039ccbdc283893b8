"""The figures of the report as plain numbers and SVG coordinates: funnel, histograms, wheels, similarity matrices."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .config import CurateConfig
from .decisions import ORDER
from .report_rows import Strip, Survey, short_sides, values
from .stages.coverage import RINGS, SECTORS, Coverage
from .stages.identity import Cosines, linked
from .views import VIEWS

Floats = NDArray[np.float32]
Figure = dict[str, Any]

BINS = 40
_WIDTH, _HEIGHT = 400, 110  # of a histogram's drawing, user units
_HOLE, _RING = 20, 19  # of the wheel: radius of the middle, width of a ring
_LEVELS = 5  # shades of the wheel
_BAND = 0.07  # of a matrix' side: the coloured edge that tells kept photos from others


@dataclass(frozen=True)
class Line:
    """A threshold in a histogram."""

    value: float
    label: str


def funnel(counts: Survey) -> list[Figure]:
    """Return the photos left after each stage, in the order in which the stages decide."""
    left = counts.offered
    steps: list[Figure] = [{"name": "offered", "left": left, "lost": 0}]
    if counts.failed:
        left -= counts.failed
        steps.append({"name": "failed", "left": left, "lost": counts.failed})
    stages = [*ORDER, *sorted({stage for stage, _ in counts.reasons} - set(ORDER))]
    for stage in stages:
        lost = sum(count for (of, _), count in counts.reasons.items() if of == stage)
        left -= lost
        steps.append({"name": stage, "left": left, "lost": lost})
    for step in steps:
        step["percent"] = 100 * step["left"] / max(counts.offered, 1)
        step["lost_percent"] = 100 * step["lost"] / max(counts.offered, 1)
    return steps


def histograms(path: Path, config: CurateConfig, cosines: Cosines | None) -> list[Figure]:
    """Return a histogram of every measured column that has values, with the thresholds that judged it.

    Args:
        path: of the table of verdicts.
        config: thresholds.
        cosines: thresholds of the face model; None where identities were not judged.
    """
    quality = config.quality
    light = (_lines(quality.min_exposure, "least"), _lines(quality.max_exposure, "most"))
    drawn = [
        _histogram("Short side", "px", short_sides(path), _lines(config.min_res, "--min-res")),
        _histogram(
            "Sharpness of the person",
            "variance of the Laplacian, log",
            values(path, "person_sharpness", "sharpness"),
            _lines(quality.min_sharpness, "quality.min_sharpness"),
            logarithmic=True,
        ),
        _histogram("Exposure of the person", "mean luminance", values(path, "person_exposure"), [*light[0], *light[1]]),
        _histogram("Confidence of the body keypoints", "mean of 12", values(path, "pose_confidence"), []),
        _histogram(
            "Second person",
            "box, as a share of the main one",
            _positive(values(path, "second_person")),
            _lines(config.pose.second_person, "pose.second_person"),
        ),
        _histogram(
            "Score of the face", "", values(path, "face_score"), _lines(config.face.min_score, "face.min_score")
        ),
    ]
    if cosines is not None:
        lines = [*_lines(cosines.keep, "keep"), *_lines(cosines.reject, "reject")]
        drawn.append(_histogram("Identity", "cosine to the gallery's centre", values(path, "identity_score"), lines))
    return [figure for figure in drawn if figure]


def wheel(coverage: Coverage) -> Figure:
    """Return the cells of a view × framing wheel that hold photos, with their place, shade and words."""
    most = int(coverage.around.max(initial=0))
    cells = [
        {
            "id": f"w{sector}{ring}",
            "count": count,
            "level": max(1, math.ceil(_LEVELS * count / most)),
            "x": _round(_at(sector, _HOLE + (ring + 0.5) * _RING)[0]),
            "y": _round(_at(sector, _HOLE + (ring + 0.5) * _RING)[1] + 3.2),
        }
        for sector, row in enumerate(coverage.around.tolist())
        for ring, count in enumerate(row)
        if count
    ]
    return {"cells": cells, "total": int(coverage.around.sum()), "unknown": coverage.unknown, "text": _words(coverage)}


@cache
def wheel_cells() -> list[Figure]:
    """Return the outlines of all cells of a wheel, as SVG paths around (0, 0); the front points down."""
    cells = []
    for sector, (view, sign) in enumerate(SECTORS):
        side = {1: ", turned to the image's right", -1: ", turned to the image's left"}.get(sign, "")
        for ring, framing in enumerate(RINGS):
            inner, outer = _HOLE + ring * _RING, _HOLE + (ring + 1) * _RING
            a, b, c, d = (
                _at(sector - 0.5, inner),
                _at(sector - 0.5, outer),
                _at(sector + 0.5, outer),
                _at(sector + 0.5, inner),
            )
            path = (
                f"M{_pair(a)}L{_pair(b)}A{outer} {outer} 0 0 0 {_pair(c)}L{_pair(d)}A{inner} {inner} 0 0 1 {_pair(a)}z"
            )
            cells.append({"id": f"w{sector}{ring}", "path": path, "name": f"{view}{side}; {framing}"})
    return cells


def wheel_labels() -> list[Figure]:
    """Return where the names of the views stand around a wheel."""
    edge = _HOLE + len(RINGS) * _RING + 8
    places = [(view, *_at(sector, edge)) for sector, (view, _) in enumerate(SECTORS)]
    sides = {-1: "end", 0: "middle", 1: "start"}
    return [
        {"name": name, "x": _round(x), "y": _round(y + 3), "anchor": sides[round(x / edge)]} for name, x, y in places
    ]


def coverage_table(coverage: Coverage) -> Figure:
    """Return view × framing as rows with totals."""
    counts = coverage.by_view
    rows = [
        {"view": view, "counts": row.tolist(), "total": int(row.sum())} for view, row in zip(VIEWS, counts, strict=True)
    ]
    return {"framings": list(RINGS), "rows": rows, "totals": counts.sum(axis=0).tolist(), "total": int(counts.sum())}


def matrix(strip: Strip, same: float | None) -> Figure | None:
    """Return the cosines between a strip's usable faces as a picture of grey levels; None with fewer than two.

    Faces of one person lie together where it is known from which cosine on (`same`), the largest group first; within a
    group they keep the order of the strip. Only levels of 1/127.5 of a cosine leave this function, no embedding.
    """
    places = sorted(strip.faces)
    if len(places) < 2:
        return None
    faces = np.stack([strip.faces[place] for place in places])
    groups = linked(faces, same) if same is not None else [np.arange(len(places))]
    order = np.concatenate(groups)
    found = faces[order].astype(np.float64) @ faces[order].T.astype(np.float64)
    lengths = np.sqrt(np.diag(found))
    found /= np.maximum(np.outer(lengths, lengths), 1e-12)
    buffer = io.BytesIO()
    Image.fromarray(levels(found)).save(buffer, "PNG", optimize=True)
    photos = [places[index] for index in order]
    apart = found[~np.eye(len(photos), dtype=bool)]
    return {
        "png": base64.b64encode(buffer.getvalue()).decode(),
        "n": len(photos),
        "photos": [place + 1 for place in photos],
        "band": round(_BAND * len(photos), 2),
        "edges": _edges([bool(strip.rows[place]["keep"]) for place in photos]),
        "breaks": np.cumsum([len(group) for group in groups])[:-1].tolist(),
        "low": round(float(apart.min()), 2),
        "high": round(float(apart.max()), 2),
        "mean": round(float(apart.mean()), 2),
    }


def levels(cosines: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return cosines as grey levels: -1 is 0, 1 is 255."""
    return np.rint(127.5 * (cosines.clip(-1, 1) + 1)).astype(np.uint8)


def _edges(kept: Sequence[bool]) -> Mapping[str, str]:
    """Return SVG paths along the left and the upper edge: rows of kept photos, rows of others."""
    paths = {"kept": "", "rejected": ""}
    band = round(_BAND * len(kept), 2)
    wide, begin = round(0.7 * band, 2), 0
    for end in range(1, len(kept) + 1):
        if end == len(kept) or kept[end] != kept[begin]:
            span = end - begin
            name = "kept" if kept[begin] else "rejected"
            paths[name] += f"M-{band} {begin}h{wide}v{span}h-{wide}zM{begin} -{band}v{wide}h{span}v-{wide}z"
            begin = end
    return paths


def _words(coverage: Coverage) -> str:
    parts = []
    for view, row in zip(VIEWS, coverage.by_view, strict=True):
        some = [f"{count} {framing}" for framing, count in zip(RINGS, row.tolist(), strict=True) if count]
        if some:
            parts.append(f"{view}: {', '.join(some)}")
    if coverage.unknown:
        parts.append(f"not known: {coverage.unknown}")
    return "; ".join(parts) or "no kept photo"


def _at(sector: float, radius: float) -> tuple[float, float]:
    """Return the point of a wheel in the middle of a sector; sectors go from the bottom to the right and up."""
    angle = math.radians(90 - sector * 360 / len(SECTORS))
    return radius * math.cos(angle), radius * math.sin(angle)


def _pair(point: tuple[float, float]) -> str:
    return f"{_round(point[0]):g} {_round(point[1]):g}"


def _round(value: float) -> float:
    return round(value, 1) + 0.0


def _lines(value: float | None, label: str) -> list[Line]:
    return [] if value is None else [Line(float(value), label)]


def _positive(measured: tuple[Floats, NDArray[np.bool_]]) -> tuple[Floats, NDArray[np.bool_]]:
    numbers, kept = measured
    return numbers[numbers > 0], kept[numbers > 0]


def _histogram(
    title: str,
    unit: str,
    measured: tuple[Floats, NDArray[np.bool_]],
    lines: Sequence[Line],
    *,
    logarithmic: bool = False,
) -> Figure | None:
    numbers, kept = measured
    if not len(numbers):
        return None
    scaled, marks = numbers.astype(np.float64), [line.value for line in lines]
    if logarithmic:
        scaled, marks = np.log10(scaled.clip(1e-3)), [math.log10(max(mark, 1e-3)) for mark in marks]
    low, high = min([float(scaled.min()), *marks]), max([float(scaled.max()), *marks])
    high = high if high > low else low + 1
    edges = np.linspace(low, high, BINS + 1)
    taken, others = (np.histogram(scaled[mask], edges)[0] for mask in (kept, ~kept))
    most = int((taken + others).max())

    def x(value: float) -> float:
        return _round(_WIDTH * (value - low) / (high - low))

    return {
        "title": title,
        "unit": unit,
        "n": len(numbers),
        "kept": {"path": _bars(taken, np.zeros_like(taken), most), "counts": taken.tolist()},
        "others": {"path": _bars(others, taken, most), "counts": others.tolist()},
        "most": most,
        "edges": [float(f"{(10**edge if logarithmic else edge):.4g}") for edge in edges],
        "lines": [
            {"x": x(mark), "y": -8 - 12 * number, "label": line.label, "value": line.value}
            for number, (mark, line) in enumerate(zip(marks, lines, strict=True))
        ],
        "ticks": [{"x": x(tick), "label": label} for tick, label in _ticks(low, high, logarithmic)],
    }


def _bars(counts: NDArray[np.int64], below: NDArray[np.int64], most: int) -> str:
    """Return one SVG path of all bars, each standing on the ones `below`."""
    step, path = _WIDTH / BINS, ""
    for place, (count, base) in enumerate(zip(counts.tolist(), below.tolist(), strict=True)):
        if count:
            top = _HEIGHT * (1 - (base + count) / most)
            path += f"M{_round(place * step):g} {top:.2f}h{step - 1:g}v{_HEIGHT * count / most:.2f}h-{step - 1:g}z"
    return path


def _ticks(low: float, high: float, logarithmic: bool) -> list[tuple[float, str]]:
    """Return a few round numbers between low and high, with their words."""
    if logarithmic:
        powers = range(math.ceil(low), math.floor(high) + 1)
        return [(float(power), f"{10.0**power:g}") for power in powers]
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    places = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return [(float(place), f"{float(place):.6g}") for place in places]

"""`report.html`: what was kept, what was not, and why, in one self-contained file."""

import base64
import io
from collections import Counter
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from .. import __version__, atomic
from ..config import Config
from ..workspace import Workspace
from .outcome import CurationSummary

THUMBNAIL = 112
"""Long side of the thumbnails, px."""
STRIP = 40
"""Most photos shown of one identity."""
IDENTITIES = 60
"""Most identities shown with pictures; the table of counts has all of them."""
EXAMPLES = 8
"""Most example photos a reason."""


def write(workspace: Workspace, summary: CurationSummary, config: Config) -> None:
    """Write the report of `curated.parquet`, whole or not at all."""
    rows = pq.read_table(workspace.curated_table).to_pylist()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    thumbnails = _Thumbnails(workspace, rows)
    page = template.render(
        version=__version__,
        summary=asdict(summary),
        config=config.model_dump(),
        funnel=_funnel(rows),
        histograms=_histograms(rows, config),
        reasons=_reasons(rows, thumbnails),
        identities=_identities(rows, thumbnails),
        identities_total=len({row["identity"] for row in rows}),
    )
    atomic.write_text(workspace.report, page)


def _funnel(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Photos left after each stage, in the order the stages decide."""
    left = len(rows)
    steps: list[dict[str, Any]] = [{"name": "offered", "left": left, "lost": 0}]
    failed = sum(row["error"] is not None for row in rows)
    if failed:
        left -= failed
        steps.append({"name": "failed", "left": left, "lost": failed})
    for stage in ("decode", "duplicates", "coverage"):
        lost = sum(row["reject_stage"] == stage for row in rows)
        left -= lost
        steps.append({"name": stage, "left": left, "lost": lost})
    for step in steps:
        step["percent"] = 100 * step["left"] / max(len(rows), 1)
    return steps


def _histograms(rows: list[dict[str, Any]], config: Config) -> list[dict[str, Any]]:
    thresholds = config.model_dump()
    sides = [min(r["decoded_width"], r["decoded_height"]) for r in rows if r.get("decoded_width")]
    sharpness = [float(np.log10(max(r["sharpness"], 1e-3))) for r in rows if r.get("sharpness") is not None]
    return [
        _histogram("short side, px", sides, thresholds.get("min_res")),
        _histogram("log10 sharpness (reported, no threshold)", sharpness, None),
    ]


def _histogram(title: str, values: list[float], threshold: float | None) -> dict[str, Any]:
    if not values:
        return {"title": title, "bars": [], "low": 0, "high": 0, "threshold": None, "mark": None}
    low, high = float(min([*values, threshold or values[0]])), float(max([*values, threshold or values[0]]))
    high = high if high > low else low + 1
    counts, _ = np.histogram(values, bins=40, range=(low, high))
    bars = [{"x": 10 * i, "h": 100 * c / counts.max(), "count": int(c)} for i, c in enumerate(counts)]
    mark = None if threshold is None else 400 * (threshold - low) / (high - low)
    return {"title": title, "bars": bars, "low": low, "high": high, "threshold": threshold, "mark": mark}


def _reasons(rows: list[dict[str, Any]], thumbnails: "_Thumbnails") -> list[dict[str, Any]]:
    counts = Counter((row["reject_stage"], row["reject_reason"]) for row in rows if row["reject_stage"])
    reasons = []
    for (stage, reason), count in counts.most_common():
        examples = [r for r in rows if (r["reject_stage"], r["reject_reason"]) == (stage, reason)][:EXAMPLES]
        shown = [{"photo": thumbnails.of(r), "title": _title(r), "repeats": thumbnails.repeated(r)} for r in examples]
        reasons.append({"stage": stage, "reason": reason, "count": count, "examples": shown})
    return reasons


def _identities(rows: list[dict[str, Any]], thumbnails: "_Thumbnails") -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["identity"], []).append(row)
    shown = []
    for index, (slug, group) in enumerate(sorted(groups.items())):
        pictures = group[:STRIP] if index < IDENTITIES else []
        shown.append(
            {
                "slug": slug,
                "name": group[0]["identity_name"] or slug,
                "offered": len(group),
                "kept": sum(row["keep"] for row in group),
                "photos": [{"photo": thumbnails.of(r), "title": _title(r), "state": _state(r)} for r in pictures],
                "hidden": len(group) - len(pictures),
            }
        )
    return shown


def _state(row: dict[str, Any]) -> str:
    if row["keep"]:
        return "kept"
    return "failed" if row["error"] else "rejected"


def _title(row: dict[str, Any]) -> str:
    """What the mouse shows over a photo: the reason with its value and threshold."""
    if row["keep"]:
        return f"kept · {row['decoded_width']}×{row['decoded_height']}"
    if row["error"]:
        return f"failed · {row['error']}"
    text = f"{row['reject_stage']} · {row['reject_reason']}"
    if row["reject_value"] is not None:
        text += f" · {row['reject_value']:g} against {row['reject_threshold']:g}"
    return text


class _Thumbnails:
    """Data addresses of small JPEGs, each photo read once; a photo that does not decode has none."""

    def __init__(self, workspace: Workspace, rows: list[dict[str, Any]]) -> None:
        self._workspace = workspace
        self._rows = {row["sha256"]: row for row in rows}
        self._made: dict[str, str | None] = {}

    def of(self, row: dict[str, Any]) -> str | None:
        sha256 = row["sha256"]
        if sha256 not in self._made:
            self._made[sha256] = None if row["decoded_width"] is None else self._make(row)
        return self._made[sha256]

    def repeated(self, row: dict[str, Any]) -> str | None:
        """The photo that a duplicate repeats, when it is not the very same bytes."""
        nearest = row["nearest_kept"]
        return self.of(self._rows[nearest]) if nearest and nearest != row["sha256"] else None

    def _make(self, row: dict[str, Any]) -> str:
        with Image.open(self._workspace.photo(row["sha256"], row["format"])) as photo:
            photo.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
            small = ImageOps.exif_transpose(photo).convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=70)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

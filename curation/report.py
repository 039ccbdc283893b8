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
from ..workspace import Workspace
from .config import CurateConfig
from .decisions import ORDER
from .outcome import CurationSummary
from .stages.identity import Cosines
from .table import BULKY

THUMBNAIL = 112
"""Long side of the thumbnails, px."""
STRIP = 40
"""Most photos shown of one identity."""
IDENTITIES = 60
"""Most identities shown with pictures; the table of counts has all of them."""
EXAMPLES = 8
"""Most example photos a reason."""


def write(workspace: Workspace, summary: CurationSummary, config: CurateConfig, cosines: Cosines | None) -> None:
    """Write the report of `curated.parquet`, whole or not at all; `cosines` judged the identities."""
    known = pq.read_schema(workspace.curated_table).names
    columns = [name for name in known if name not in BULKY]
    rows = pq.read_table(workspace.curated_table, columns=columns).to_pylist()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    thumbnails = _Thumbnails(workspace, rows)
    page = template.render(
        version=__version__,
        summary=asdict(summary),
        thresholds=_thresholds(config),
        funnel=_funnel(rows),
        histograms=_histograms(rows, config, cosines),
        reasons=_reasons(rows, thumbnails),
        identities=_identities(rows, thumbnails),
        identities_total=len({row["identity"] for row in rows}),
    )
    atomic.write_text(workspace.report, page)


def _thresholds(config: CurateConfig) -> dict[str, Any]:
    """Return what the configuration says, by dotted key; keys without a value are left out."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(exclude_none=True).items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _funnel(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Photos left after each stage, in the order the stages decide."""
    left = len(rows)
    steps: list[dict[str, Any]] = [{"name": "offered", "left": left, "lost": 0}]
    failed = sum(row["error"] is not None for row in rows)
    if failed:
        left -= failed
        steps.append({"name": "failed", "left": left, "lost": failed})
    for stage in ORDER:
        lost = sum(row["reject_stage"] == stage for row in rows)
        left -= lost
        steps.append({"name": stage, "left": left, "lost": lost})
    for step in steps:
        step["percent"] = 100 * step["left"] / max(len(rows), 1)
    return steps


def _histograms(rows: list[dict[str, Any]], config: CurateConfig, cosines: Cosines | None) -> list[dict[str, Any]]:
    sides = [min(r["decoded_width"], r["decoded_height"]) for r in rows if r["decoded_width"]]
    sharp = [r["sharpness"] if r["person_sharpness"] is None else r["person_sharpness"] for r in rows]
    sharpness = [float(np.log10(max(value, 1e-3))) for value in sharp if value is not None]
    least = config.quality.min_sharpness
    drawn = [
        _histogram("short side, px", sides, config.min_res),
        _histogram("log10 sharpness", sharpness, None if least is None else float(np.log10(max(least, 1e-3)))),
    ]
    if any(r["people"] is not None for r in rows):
        drawn += [
            _histogram("mean confidence of the body keypoints", _values(rows, "pose_confidence"), None),
            _histogram(
                "second person, share of the main one", _values(rows, "second_person"), config.pose.second_person
            ),
        ]
    if cosines is not None:
        drawn.append(_histogram("cosine to the gallery's centre", _values(rows, "identity_score"), cosines.keep))
    return drawn


def _values(rows: list[dict[str, Any]], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


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

"""The page of a run: what it changes of the defaults, its curves and its newest sample grid, in one file."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .. import atomic
from . import curves as drawing
from . import runs

PAGE, PICTURE = "report.html", "curves.png"
GRID_SIDE = 2000
"""Pixels of the longer side that the grid has in the page at most."""
STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;color:#333}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1em}svg{width:100%}
svg text{font:10px system-ui,sans-serif;fill:#333}svg .name{font-size:12px;font-weight:600}
img{max-width:100%}code{white-space:pre-wrap}"""


def show(folder: Path, out: Path | None = None) -> list[Path]:
    """Print a run, and write its curves.

    Args:
        folder: of the run.
        out: where `report.html` and `curves.png` go; by default into the folder of the run.

    Returns:
        What was written.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    run, changed, found = runs.look(folder), runs.changes(folder), runs.curves(folder)
    written = [(out or folder) / name for name in (PAGE, PICTURE)]
    losses, machine = _split(found)
    charts = [drawing.chart(name, points) for name, points in {**losses, **_held_out(found), **machine}.items()]
    drawing.write_png(written[1], charts)
    atomic.write_text(written[0], page(run, changed, found, runs.newest_grid(folder)))
    runs.tell_one(run, changed, written)
    return written


def page(run: runs.Run, changed: Sequence[str], found: runs.Curves, grid: Path | None) -> str:
    """Return the page; it asks for nothing else, so that it can be sent as it is."""
    losses, machine = _split(found)
    title = html.escape(f"{run.name}: {run.kind}, {run.state} at step {run.steps} of {run.planned}")
    skipped = f"<p>Skipped updates: {', '.join(map(str, found.skipped))}</p>" if found.skipped else ""
    settings = "\n".join(changed) or "as by default"
    parts = [f"<h1>{title}</h1>", skipped, f"<h2>Configuration</h2><code>{html.escape(settings)}</code>"]
    parts += [_section("Losses", losses), _section("Held-out people", _held_out(found)), _section("Machine", machine)]
    if grid is not None:
        parts.append(f'<h2>Samples: {html.escape(grid.stem)}</h2><img alt="sample grid" src="{_embedded(grid)}">')
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _split(found: runs.Curves) -> tuple[dict[str, runs.Points], dict[str, runs.Points]]:
    """Return the loss terms, and what else was measured of the updates."""
    losses = {name: points for name, points in found.training.items() if name not in runs.MEASURED}
    return losses, {name: points for name, points in found.training.items() if name in runs.MEASURED}


def _held_out(found: runs.Curves) -> dict[str, runs.Points]:
    return {f"held-out {name}": points for name, points in found.validation.items()}


def _section(title: str, figures: dict[str, runs.Points]) -> str:
    if not figures:
        return ""
    drawn = "".join(f"<div>{drawing.svg(drawing.chart(name, points))}</div>" for name, points in figures.items())
    return f'<h2>{title}</h2><div class="charts">{drawn}</div>'


def _embedded(grid: Path) -> str:
    with Image.open(grid) as opened:
        small = opened.convert("RGB")
    small.thumbnail((GRID_SIDE, GRID_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

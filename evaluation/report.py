"""Figures on disk: `figures.json` for machines, a self-contained `report.html` for people."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from PIL import Image

from .. import __version__, atomic
from .config import EvalConfig
from .figure import Figure

FIGURES_FILE = "figures.json"
REPORT_FILE = "report.html"

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>bolid eval</title>
<style>
 body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #222 }
 table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem;
 border-bottom: 1px solid #ddd } td.value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
 tr.absent { color: #888 } img { max-width: 100%; image-rendering: pixelated } .note { color: #666; font-size: 85% }
 @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } th, td { border-color: #444 } }
</style>
<h1>Evaluation</h1>
<p class="note">{{ tool }} · people of the split “{{ split }}” · {{ config }}</p>
<table><tr><th>figure</th><th>value</th><th>n</th><th>measured with</th><th>note</th></tr>
{%- for figure in figures %}
<tr{% if figure.value is none %} class="absent"{% endif %}><td>{{ figure.name }}</td>
<td class="value">{% if figure.value is none %}–{% else %}{{ "%.4g"|format(figure.value) }} {{ figure.unit }}{% endif %}
</td><td>{{ figure.n or "" }}</td><td>{{ figure.network }}</td><td class="note">{{ figure.note }}</td></tr>
{%- endfor %}
</table>
{%- for title, source in pictures %}
<h2>{{ title }}</h2>
<img src="data:image/png;base64,{{ source }}" alt="{{ title }}">
{%- endfor %}
</html>
"""


def write_report(
    out: Path,
    figures: Sequence[Figure],
    split: str,
    config: EvalConfig,
    weights: Mapping[str, str],
    pictures: Sequence[tuple[str, Image.Image]] = (),
) -> None:
    """Write both files into `out`, the JSON last.

    Args:
        out: folder, created when missing.
        figures: measured and absent ones.
        split: that was measured on.
        config: of the evaluation.
        weights: sha256 of every file of weights that was measured, by its name.
        pictures: title and picture of each sheet to show.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    html = page.render(
        tool=f"bolid {__version__}",
        split=split,
        config=config.model_dump_json(),
        figures=figures,
        pictures=[(title, _inline(picture)) for title, picture in pictures],
    )
    atomic.write_text(out / REPORT_FILE, html)
    content = {
        "tool": f"bolid {__version__}",
        "split": split,
        "config": config.model_dump(mode="json"),
        "weights_sha256": dict(weights),
        "figures": [figure.as_dict() for figure in figures],
    }
    atomic.write_text(out / FIGURES_FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _inline(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()

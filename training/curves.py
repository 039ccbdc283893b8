"""Curves as pictures, without a plotting library: one geometry, drawn as SVG or into a PNG."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .. import atomic
from .runs import Points

WIDTH, HEIGHT = 380, 210
LEFT, TOP, RIGHT, BOTTOM = 62, 28, 12, 24
"""Pixels around the plot."""
BINS = 300
"""Points of a drawn line at most; a longer curve is averaged, and its range is drawn behind it."""
SCALE = 2
"""Pixels of the PNG to one of the geometry."""
COLUMNS = 3
BAND, LINE, INK, RULE = "#c9d8f0", "#1f5fbf", "#333333", "#dddddd"

XY = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One curve, ready to be drawn, in pixels of a `WIDTH` × `HEIGHT` picture.

    Attributes:
        title: name of the figure and its last value.
        line: the curve.
        above, below: largest and smallest value around each point of the line.
        ticks: where a rule is, and the value it stands for.
        first, last: steps at the left and the right edge.
    """

    title: str
    line: list[XY]
    above: list[XY]
    below: list[XY]
    ticks: list[tuple[float, str]]
    first: int
    last: int


def chart(name: str, points: Points) -> Chart:
    """Lay a curve of one point or more out."""
    bins = _binned(points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    first, last = points[0][0], points[-1][0]

    def place(step: float, value: float) -> XY:
        across = (step - first) / (last - first) if last > first else 0.5
        down = (high - value) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + down * (HEIGHT - TOP - BOTTOM)

    return Chart(
        title=f"{name}  {points[-1][1]:.4g}",
        line=[place(step, mean) for step, mean, _, _ in bins],
        above=[place(step, most) for step, _, _, most in bins],
        below=[place(step, least) for step, _, least, _ in bins],
        ticks=[(place(first, value)[1], f"{value:.4g}") for value in ticks(low, high)],
        first=first,
        last=last,
    )


def ticks(low: float, high: float) -> list[float]:
    """Return two to six round values between two: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= (high - low) / 2)
    begin, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(begin, end + 1)]


def svg(drawn: Chart) -> str:
    """Return a chart as an SVG element."""
    right, bottom = WIDTH - RIGHT, HEIGHT - 8
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(drawn.title)}">']
    parts.append(f'<text x="{LEFT}" y="17" class="name">{html.escape(drawn.title)}</text>')
    for y, label in drawn.ticks:
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{RULE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(label)}</text>')
    parts.append(f'<text x="{LEFT}" y="{bottom}">{drawn.first}</text>')
    parts.append(f'<text x="{right}" y="{bottom}" text-anchor="end">{drawn.last}</text>')
    parts.append(f'<polygon points="{_words([*drawn.above, *drawn.below[::-1]])}" fill="{BAND}"/>')
    parts.append(f'<polyline points="{_words(drawn.line)}" fill="none" stroke="{LINE}" stroke-width="1.5"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{LINE}"/>' for x, y in _marked(drawn)]
    return "".join([*parts, "</svg>"])


def write_png(path: Path, charts: Sequence[Chart]) -> None:
    """Write the charts side by side, whole or not at all."""
    columns = max(1, min(COLUMNS, len(charts)))
    rows = -(-len(charts) // columns)
    sheet = Image.new("RGB", (columns * WIDTH * SCALE, max(1, rows) * HEIGHT * SCALE), "white")
    for number, one in enumerate(charts):
        sheet.paste(picture(one), (number % columns * WIDTH * SCALE, number // columns * HEIGHT * SCALE))
    with atomic.replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def picture(drawn: Chart) -> Image.Image:
    """Return a chart as a picture of `SCALE` times the geometry."""
    made = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(10 * SCALE)

    def scaled(points: Sequence[XY]) -> list[XY]:
        return [(x * SCALE, y * SCALE) for x, y in points]

    for y, label in drawn.ticks:
        draw.line(scaled([(LEFT, y), (WIDTH - RIGHT, y)]), RULE, SCALE)
        draw.text(scaled([(LEFT - 6, y)])[0], label, INK, font, anchor="rm")
    if len(drawn.line) > 1:
        draw.polygon(scaled([*drawn.above, *drawn.below[::-1]]), BAND)
        draw.line(scaled(drawn.line), LINE, 2 * SCALE, joint="curve")
    for x, y in scaled(_marked(drawn)):
        draw.ellipse((x - 2 * SCALE, y - 2 * SCALE, x + 2 * SCALE, y + 2 * SCALE), LINE)
    draw.text((LEFT * SCALE, 8 * SCALE), drawn.title, INK, font)
    draw.text((LEFT * SCALE, (HEIGHT - 8) * SCALE), str(drawn.first), INK, font, anchor="lm")
    draw.text(((WIDTH - RIGHT) * SCALE, (HEIGHT - 8) * SCALE), str(drawn.last), INK, font, anchor="rm")
    return made


def _marked(drawn: Chart) -> list[XY]:
    """Return the points that get a dot: those of a curve that has few."""
    return drawn.line if len(drawn.line) <= 30 else []


def _binned(points: Points) -> list[tuple[float, float, float, float]]:
    """Return mean step, mean, least and largest value of at most `BINS` neighbourhoods."""
    count = min(BINS, len(points))
    made = []
    for number in range(count):
        part = points[number * len(points) // count : (number + 1) * len(points) // count]
        values = [value for _, value in part]
        made.append((sum(step for step, _ in part) / len(part), sum(values) / len(values), min(values), max(values)))
    return made


def _words(points: Sequence[XY]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

"""What the method comes to: figures with their aims, as a table, as JSON and as Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .. import __version__, atomic, progress

FIGURES_FILE, PAGE_FILE = "figures.json", "README.md"
COLUMNS = ("figure", "value", "95 % interval", "chance", "aim", "reached", "n")


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        name: what was measured.
        value: the number.
        n: people or rows that it was measured on.
        note: how to read it.
        low, high: its 95 % interval, where there is one.
        chance: what a probe of nothing gets, where that is a number.
        aim: what issue 7 asks for; None where it names no number.
        better: whether the aim is a least or a largest value; against an interval, its worse end counts.
    """

    name: str
    value: float
    n: int
    note: str = ""
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    aim: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached, of an interval by its worse end; None without an aim."""
        if self.aim is None:
            return None
        if self.better == "higher":
            return (self.value if self.low is None else self.low) >= self.aim
        return (self.value if self.high is None else self.high) < self.aim

    def row(self) -> dict[str, Any]:
        """Return the figure as JSON knows it."""
        return {**asdict(self), "reached": self.reached}

    def cells(self) -> tuple[str, ...]:
        """Return the figure in the order of `COLUMNS`."""
        interval = "" if self.low is None or self.high is None else f"{self.low:.3f} … {self.high:.3f}"
        aim = "" if self.aim is None else f"{'≥' if self.better == 'higher' else '<'} {self.aim:g}"
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        chance = "" if self.chance is None else f"{self.chance:.3f}"
        return self.name, f"{self.value:.3f}", interval, chance, aim, reached, str(self.n)


def show(figures: Sequence[Measured]) -> None:
    """Print the figures."""
    progress.table("The method on procedural people", COLUMNS, [each.cells() for each in figures], event="method")


def write(folder: Path, figures: Sequence[Measured], settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write `README.md` and then `figures.json`.

    Args:
        folder: for both.
        figures: measured ones.
        settings: that decide them.
        about: further facts, such as the seconds that each part took.
    """
    atomic.write_text(folder / PAGE_FILE, _page(figures, settings, about))
    content = {
        "tool": f"bolid {__version__}",
        "settings": dict(settings),
        **about,
        "figures": [each.row() for each in figures],
    }
    atomic.write_text(folder / FIGURES_FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _page(figures: Sequence[Measured], settings: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(str(cell) for cell in cells)} |"

    notes = [f"- **{each.name}**: {each.note}" for each in figures if each.note]
    facts = [f"- {name}: {value}" for name, value in {**settings, **about}.items()]
    lines = [
        "# The method on procedural people",
        "",
        f"Made by `python -m bolid.demo.method`, bolid {__version__}. No photo of anybody was used.",
        "",
        line(COLUMNS),
        line(["---"] * len(COLUMNS)),
        *(line(each.cells()) for each in figures),
        "",
        *notes,
        "",
        "## Settings",
        "",
        *facts,
    ]
    return "\n".join(lines) + "\n"

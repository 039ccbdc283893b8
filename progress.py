"""One place for progress bars and logs: rich on a terminal, plain lines elsewhere, JSON lines on request.

People read standard error; standard output is kept for results, so that it can be piped. With JSON lines
every message, result and progress step is one object on standard output with the key `event`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

PLAIN_INTERVAL_S = 5.0

_json_lines = False


class Bar(Protocol):
    """What a loop tells about its progress."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Add `steps` done; `note` is shown beside the bar."""

    def total(self, total: float) -> None:
        """Set the number of steps, when it becomes known."""


@dataclass(frozen=True)
class Line:
    """One line of progress: `done` of `total` (None: not known), and words beside it."""

    name: str
    done: float
    total: float | None
    note: str = ""


class Lines(Protocol):
    """What work in several parts tells about its progress."""

    def show(self, whole: Line, parts: Sequence[Line], **figures: object) -> None:
        """Show the whole and the parts that are under way now; `figures` are added in JSON lines."""


def use_json_lines(on: bool) -> None:
    """Choose JSON lines (True) or text (False) for this process."""
    global _json_lines
    _json_lines = on


def json_lines() -> bool:
    """Say whether this process prints JSON lines."""
    return _json_lines


def say(text: str, **fields: object) -> None:
    """Tell the user one line; `fields` are added in JSON lines."""
    if _json_lines:
        _emit("message", text=text, **fields)
    else:
        _stderr().print(text, highlight=False, markup=False)


def warn(text: str, **fields: object) -> None:
    """Tell the user about something that is wrong but does not stop the command."""
    if _json_lines:
        _emit("warning", text=text, **fields)
    else:
        _stderr().print(f"warning: {text}", style="yellow", highlight=False, markup=False)


def result(event: str, text: str = "", **fields: object) -> None:
    """Print a result: `text` on standard output for people, or an object with `fields` for machines."""
    if _json_lines:
        _emit(event, **fields)
    elif text:
        Console(soft_wrap=True).print(text, highlight=False, markup=False)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], event: str, words: Collection[str] = ()
) -> None:
    """Print a table as a result, or one JSON object a row.

    The first column and those named in `words` are aligned left, the others right, as figures are.
    """
    if _json_lines:
        for row in rows:
            _emit(event, **dict(zip(columns, row, strict=True)))
        return
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index == 0 or column in words else "right", overflow="fold")
    for row in rows:
        # As text: rich would read "[href]" in a plain string as markup.
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    # A file or a pipe has no width; a narrow default would fold the figures.
    (console if console.is_terminal else Console(width=120)).print(drawn)


@contextlib.contextmanager
def bar(description: str, total: float | None, unit: str = "") -> Iterator[Bar]:
    """Show the progress of the block; yields the `Bar` that the loop advances."""
    if not _json_lines and _stderr().is_terminal:
        with _rich_progress(unit) as shown:
            yield _RichBar(shown, description, total)
    else:
        lines = _LineBar(description, total, unit)
        yield lines
        lines.finish()


@contextlib.contextmanager
def lines(unit: str = "") -> Iterator[Lines]:
    """Show the progress of a block that works on several things at once, a line for each and one for the whole."""
    if not _json_lines and _stderr().is_terminal:
        with _rich_progress(unit) as shown:
            yield _RichLines(shown)
    else:
        plain = _PlainLines(unit)
        try:
            yield plain
        finally:
            plain.finish()


def _emit(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}, default=str, ensure_ascii=False), flush=True)


def _stderr() -> Console:
    return Console(stderr=True, soft_wrap=True)


def _rich_progress(unit: str) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=_stderr(),
        transient=True,
    )


class _RichBar:
    def __init__(self, shown: Progress, description: str, total: float | None) -> None:
        self._shown = shown
        self._task = shown.add_task(description, total=total, note="")

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._shown.update(self._task, advance=steps, note=note)

    def total(self, total: float) -> None:
        self._shown.update(self._task, total=total)


class _RichLines:
    """A task of rich for the whole and one for each part; a part that is not shown again disappears."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._whole: TaskID | None = None
        self._parts: dict[str, TaskID] = {}

    def show(self, whole: Line, parts: Sequence[Line], **figures: object) -> None:
        self._whole = self._update(self._whole, whole)
        for name in self._parts.keys() - {part.name for part in parts}:
            self._shown.remove_task(self._parts.pop(name))
        for part in parts:
            self._parts[part.name] = self._update(self._parts.get(part.name), part)

    def _update(self, task: TaskID | None, line: Line) -> TaskID:
        if task is None:
            task = self._shown.add_task(escape(line.name), total=line.total, note="")
        self._shown.update(task, completed=line.done, total=line.total, note=escape(line.note))
        return task


class _PlainLines:
    """The whole with its parts behind it, at most every few seconds, and a last time."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._begun = self._printed = time.monotonic()
        self._last: tuple[Line, Sequence[Line], dict[str, object]] | None = None

    def show(self, whole: Line, parts: Sequence[Line], **figures: object) -> None:
        self._last = whole, parts, figures
        if time.monotonic() - self._printed >= PLAIN_INTERVAL_S:
            self._print(whole, parts, figures)

    def finish(self) -> None:
        if self._last is not None:
            self._print(*self._last)

    def _print(self, whole: Line, parts: Sequence[Line], figures: dict[str, object]) -> None:
        self._printed = time.monotonic()
        if _json_lines:
            told = [{"task": part.name, "done": part.done, "total": part.total} for part in parts]
            _step(whole, self._unit, self._printed - self._begun, **figures, parts=told)
            return
        shares = ", ".join(_share(part) for part in parts)
        note = "; ".join(words for words in (whole.note, shares) if words)
        _step(replace(whole, note=note), self._unit, self._printed - self._begun)


class _LineBar:
    """A line at most every few seconds, and a last one."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = 0.0
        self._begun = self._printed = time.monotonic()

    def advance(self, steps: float = 1, note: str = "") -> None:
        self._done += steps
        if time.monotonic() - self._printed >= PLAIN_INTERVAL_S:
            self._print(note)

    def total(self, total: float) -> None:
        self._total = total

    def finish(self) -> None:
        if self._total != 0:  # nothing to do is no news
            self._print("")

    def _print(self, note: str) -> None:
        self._printed = time.monotonic()
        _step(Line(self._description, self._done, self._total, note), self._unit, self._printed - self._begun)


def _step(line: Line, unit: str, elapsed: float, **figures: object) -> None:
    """Print one step of progress where no live display can be: text for people, an object for machines."""
    if _json_lines:
        begin = {"task": line.name, "done": line.done, "total": line.total, "unit": unit}
        _emit("progress", **begin, elapsed_s=round(elapsed, 2), note=line.note, **figures)
    else:
        print(f"{_share(line, ': ')} {unit} in {elapsed:.0f} s {line.note}".rstrip(), file=sys.stderr)


def _share(line: Line, between: str = " ") -> str:
    # Not ":g", which writes 1234567 as 1.23457e+06.
    of = "" if line.total is None else f"/{_count(line.total)}"
    return f"{line.name}{between}{_count(line.done)}{of}"


def _count(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"

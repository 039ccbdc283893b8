"""One place for progress bars and logs: rich on a terminal, plain lines elsewhere, JSON lines on request.

People read standard error; standard output is kept for results, so that it can be piped. With JSON lines
every message, result and progress step is one object on standard output with the key `event`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

PLAIN_INTERVAL_S = 5.0

_json_lines = False


class Bar(Protocol):
    """What a loop tells about its progress."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Add `steps` done; `note` is shown beside the bar."""

    def total(self, total: float) -> None:
        """Set the number of steps, when it becomes known."""


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


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], event: str) -> None:
    """Print a table as a result, or one JSON object a row."""
    if _json_lines:
        for row in rows:
            _emit(event, **dict(zip(columns, row, strict=True)))
        return
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
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
        elapsed = self._printed - self._begun
        if _json_lines:
            _emit(
                "progress",
                task=self._description,
                done=self._done,
                total=self._total,
                unit=self._unit,
                elapsed_s=round(elapsed, 2),
                note=note,
            )
            return
        of = "" if self._total is None else f"/{self._total:g}"
        print(
            f"{self._description}: {self._done:g}{of} {self._unit} in {elapsed:.0f} s {note}".rstrip(), file=sys.stderr
        )

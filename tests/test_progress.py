import io
import json

import pytest
from bolid import progress
from bolid.progress import Line
from rich.console import Console


@pytest.fixture(autouse=True)
def _text_again():
    yield
    progress.use_json_lines(False)


def test_json_lines_carry_event_and_fields(capsys: pytest.CaptureFixture[str]):
    progress.use_json_lines(True)
    progress.say("hello", n=1)
    progress.warn("careful")
    progress.table("T", ("a", "b"), [("x", 1), ("y", 2)], event="row")
    with progress.bar("work", total=2, unit="photos") as bar:
        bar.advance()
        bar.advance()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        {"event": "message", "text": "hello", "n": 1},
        {"event": "warning", "text": "careful"},
        {"event": "row", "a": "x", "b": 1},
        {"event": "row", "a": "y", "b": 2},
    ]
    assert lines[-1]["event"] == "progress"
    assert (lines[-1]["done"], lines[-1]["total"]) == (2, 2)


def test_people_get_results_on_stdout_and_talk_on_stderr(capsys: pytest.CaptureFixture[str]):
    progress.say("talk")
    progress.result("path", "/a/b", path="/a/b")
    captured = capsys.readouterr()
    assert captured.out == "/a/b\n"
    assert captured.err == "talk\n"


def test_text_with_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]):
    progress.say("[red]not markup[/red]")
    assert capsys.readouterr().err == "[red]not markup[/red]\n"
    progress.table("T", ("selector", "found"), [("a[href]", 1)], event="row")
    assert "a[href]" in capsys.readouterr().out


def test_lines_for_machines_carry_the_parts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    progress.use_json_lines(True)
    with progress.lines("photos") as lines:
        lines.show(Line("crawl", 3, 10, "words"), [Line("anna", 1, 5), Line("boris", 2, 5)], speed=2.5)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2
    assert told[-1].pop("elapsed_s") >= 0
    assert told[-1] == {
        "event": "progress",
        "task": "crawl",
        "done": 3,
        "total": 10,
        "unit": "photos",
        "note": "words",
        "speed": 2.5,
        "parts": [{"task": "anna", "done": 1, "total": 5}, {"task": "boris", "done": 2, "total": 5}],
    }


def test_lines_without_a_terminal_are_one_line_each_time(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(KeyError), progress.lines("photos") as lines:
        lines.show(Line("crawl", 3, 1_234_567, "fast"), [Line("anna", 1, 5), Line("boris", 2, None)])
        raise KeyError
    assert capsys.readouterr().err == "crawl: 3/1234567 photos in 0 s fast; anna 1/5, boris 2\n"


def test_lines_on_a_terminal_are_one_display(monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, _environ={})
    monkeypatch.setattr(progress, "_stderr", lambda: console)
    with progress.lines("photos") as lines:
        lines.show(Line("crawl", 3, 10, "1 MB/s"), [Line("[anna]", 1, 5), Line("boris", 2, 5)])
        shown = lines._shown
        assert [(task.description, task.completed, task.total) for task in shown.tasks] == [
            ("crawl", 3, 10),
            (r"\[anna]", 1, 5),
            ("boris", 2, 5),
        ]
        lines.show(Line("crawl", 8, 12, "2 MB/s"), [Line("boris", 4, 5), Line("clara", 0, 7)])
        assert [task.description for task in shown.tasks] == ["crawl", "boris", "clara"]
        shown.refresh()
    text = screen.getvalue()
    assert "[anna]" in text
    assert "2 MB/s" in text

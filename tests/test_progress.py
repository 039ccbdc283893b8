import json

import pytest
from bolid import progress


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

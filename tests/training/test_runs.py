"""Runs as a table, a page and a picture; the folders are written by hand, so that every number is known."""

import json
import re
from pathlib import Path

import pytest
from bolid import atomic, progress
from bolid.config import write_config
from bolid.errors import UsageError
from bolid.training import curves, runs, runs_page
from bolid.training.adapter_config import AdapterConfig
from bolid.training.config import LoopConfig
from bolid.training.vae_config import VaeConfig
from PIL import Image


def a_run(folder: Path, steps: int = 20, planned: int = 20, finished: bool = True) -> Path:
    write_config(folder / "config.toml", AdapterConfig(base="random-tiny", loop=LoopConfig(steps=planned, lr=0.5)))
    rows: list[dict[str, object]] = []
    for step in range(1, steps + 1):
        bad = step == 5
        rows.append({"step": step, "loss": None if bad else float(step), "lr": 0.5, "skipped": float(bad)})
        if step == 10:
            rows.append({"step": 10, "validation": {"diff_on": 0.25}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "samples").mkdir()
    for step in (10, 20):
        Image.new("RGB", (40, 30), (step, 100, 0)).save(folder / f"samples/step-{step:06d}.png")
    if finished:
        (folder / "export").mkdir()
    return folder


def test_the_state_is_that_of_lock_export_and_steps(tmp_path: Path) -> None:
    a_run(tmp_path / "done")
    a_run(tmp_path / "half", steps=7, finished=False)
    a_run(tmp_path / "longer", planned=40)  # was finished once, and is to be longer now
    with atomic.locked(a_run(tmp_path / "now", steps=7, finished=False) / ".lock", "the run"):
        found = runs.find(tmp_path)
    assert [(run.name, run.state, run.steps) for run in found] == [
        *(("done", "finished", 20), ("half", "stopped", 7)),
        *(("longer", "stopped", 20), ("now", "running", 7)),
    ]
    assert found[0].kind == "adapter"
    assert found[0].last == {"loss": sum(range(11, 21)) / 10}
    assert found[0].bytes == sum(path.stat().st_size for path in (tmp_path / "done").rglob("*") if path.is_file())


def test_a_run_that_did_nothing_yet_is_listed(tmp_path: Path) -> None:
    write_config(tmp_path / "new/config.toml", VaeConfig())
    (tmp_path / "no run").mkdir()
    [run] = runs.find(tmp_path)
    assert (run.kind, run.state, run.steps, run.planned, run.last) == ("vae", "stopped", 0, 20_000, {})
    assert runs.changes(tmp_path / "new") == []
    runs_page.show(tmp_path / "new")


def test_only_the_end_of_long_metrics_is_read(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "long")
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps({"step": step, "loss": 2.0, "lr": 0.5}) + "\n" for step in range(21, 5000))
    assert (folder / "metrics.jsonl").stat().st_size > 2 * runs.TAIL
    run = runs.look(folder)
    assert (run.steps, run.last) == (4999, {"loss": 2.0})


def test_what_differs_from_the_defaults_is_told(tmp_path: Path) -> None:
    changed = runs.changes(a_run(tmp_path / "a"))
    assert "base: 'stabilityai/stable-diffusion-xl-base-1.0' -> 'random-tiny'" in changed
    assert "loop.steps: 20000 -> 20" in changed
    assert not any(line.startswith("refs") for line in changed)


def test_all_figures_are_read_and_a_line_under_way_is_not(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    found = runs.curves(folder)
    assert found.training["loss"] == [(step, float(step)) for step in range(1, 21) if step != 5]
    assert found.validation == {"diff_on": [(10, 0.25)]}
    assert found.skipped == [5]


def test_an_unknown_run_is_refused_with_the_near_match(tmp_path: Path) -> None:
    a_run(tmp_path / "adapter")
    assert runs.folder_of(tmp_path, "adapter") == tmp_path / "adapter"
    with pytest.raises(UsageError, match="did you mean 'adapter'"):
        runs.folder_of(tmp_path, "adaptor")


def test_a_curve_lies_where_its_values_say() -> None:
    drawn = curves.chart("loss", [(0, 4.0), (5, 0.0), (10, 2.0)])
    left, right = curves.LEFT, curves.WIDTH - curves.RIGHT
    top, bottom = curves.TOP, curves.HEIGHT - curves.BOTTOM
    assert drawn.line == [(left, top), ((left + right) / 2, bottom), (right, (top + bottom) / 2)]
    assert [label for _, label in drawn.ticks] == ["0", "2", "4"]
    assert drawn.ticks[1][0] == (top + bottom) / 2
    points = re.search(r'<polyline points="([^"]+)"', curves.svg(drawn))
    assert points is not None
    assert points[1] == " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn.line)
    pixels = curves.picture(drawn)
    for x, y in drawn.line:
        assert pixels.getpixel((round(x * curves.SCALE), round(y * curves.SCALE))) == (0x1F, 0x5F, 0xBF)


def test_a_long_curve_is_averaged_and_keeps_its_extremes() -> None:
    points = [(step, 100.0 if step == 777 else float(step % 2)) for step in range(3000)]
    drawn = curves.chart("loss", points)
    assert len(drawn.line) == curves.BINS
    assert min(y for _, y in drawn.above) == curves.TOP, "the one high value is still seen"
    level = drawn.line[0][1]
    assert drawn.line[100][1] == pytest.approx(level), "ten values of 0 and 1 are one half"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (-3, 8, [0, 5]), (0.0012, 0.0031, [0.0015, 0.002, 0.0025, 0.003]), (95, 105, [95, 100, 105])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert curves.ticks(low, high) == pytest.approx(expected)


def test_a_page_holds_everything_and_asks_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run(tmp_path / "a<b")
    written = runs_page.show(folder)
    assert [path.name for path in written] == ["report.html", "curves.png"]
    page = written[0].read_text()
    assert page.count("<svg") == 3  # loss, held-out diff_on, lr
    assert "step-000020" in page
    assert "step-000010" not in page
    assert "Skipped updates: 5" in page
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    with Image.open(written[1]) as picture:
        assert picture.size == (3 * curves.WIDTH * curves.SCALE, curves.HEIGHT * curves.SCALE)
    assert "finished at step 20 of 20" in capsys.readouterr().out


def test_tables_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_run(tmp_path / "first")
    runs.tell_list(runs.find(tmp_path))
    told = capsys.readouterr().out
    assert re.search(r"first .* adapter .* finished .* 20/20 .* loss 15.5", told)
    runs.tell_list([])
    assert "bolid train vae" in capsys.readouterr().err


def test_machines_get_one_object_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run(tmp_path / "first")
    progress.use_json_lines(True)
    try:
        runs.tell_list(runs.find(tmp_path))
        runs_page.show(folder, out=tmp_path / "elsewhere")
    finally:
        progress.use_json_lines(False)
    listed, shown = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (listed["event"], listed["run"], listed["steps"]) == ("run", "first", "20/20")
    assert (shown["name"], shown["state"], shown["last"]) == ("first", "finished", {"loss": 15.5})
    assert shown["paths"] == [str(tmp_path / "elsewhere" / name) for name in ("report.html", "curves.png")]
    assert not (folder / "report.html").exists()

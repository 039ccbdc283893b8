"""`bolid pack` and `bolid shards …` as a user meets them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bolid import cli, progress
from bolid.shards import PackSummary, read_index, read_manifest
from PIL import Image

from .conftest import Curation, encoded, pattern


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run a command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["bolid", *map(str, words)])
    try:
        cli.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        progress.use_json_lines(False)
    return 0


@pytest.fixture
def dataset(packed: PackSummary, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed.out, tmp_path / "shards"))


def test_a_sound_dataset_says_so(
    monkeypatch: pytest.MonkeyPatch, packed: PackSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shards", "verify", packed.out) == 0
    assert capsys.readouterr().out.startswith(f"{packed.out} is sound: {packed.shards} shards, 40 samples, ")


def test_a_flipped_byte_exits_with_8_and_names_shard_and_key(
    monkeypatch: pytest.MonkeyPatch, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = read_index(dataset).to_pylist()[0]
    with (dataset / row["shard"]).open("r+b") as file:
        file.seek(row["image_offset"] + 700)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    assert run(monkeypatch, "shards", "verify", dataset) == 8
    told = capsys.readouterr()
    assert f"{row['shard']}, {row['key']}: the bytes of {row['key']}.jpg changed" in told.out
    assert "2 problems; restore the named shards" in told.err

    assert run(monkeypatch, "shards", "verify", dataset, "--json") == 8
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == ["problem", "problem", "error"]
    assert (events[-3]["shard"], events[-3]["key"]) == (row["shard"], row["key"])


def test_show_draws_a_photo_and_a_person(
    monkeypatch: pytest.MonkeyPatch, packed: PackSummary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shards", "show", "i000002_000001", "--shards", packed.out, "-w", tmp_path) == 0
    told = capsys.readouterr()
    path = tmp_path / "pictures" / "i000002_000001.png"
    assert told.out == f"{path}\n"
    assert told.err.startswith("i000002_000001 · Person 002 · 48×64 · pose not measured · no face")
    with Image.open(path) as picture:
        assert picture.size == (48, 64)
    sheet = tmp_path / "sheet.jpg"
    assert run(monkeypatch, "shards", "show", "person_002", "--shards", packed.out, "--out", sheet, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"event": "shown", "out": str(sheet)}
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG"


def test_show_of_nobody_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, packed: PackSummary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shards", "show", "nobody", "--shards", packed.out, "-w", tmp_path) == 2
    assert "no sample or identity 'nobody'; list them with: bolid shards stats" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_stats_for_people_and_machines(
    monkeypatch: pytest.MonkeyPatch, packed: PackSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shards", "stats", packed.out) == 0
    assert "one photo" in capsys.readouterr().out
    assert run(monkeypatch, "shards", "stats", packed.out, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(event["photos"] for event in events) == 40


def test_what_is_not_there_names_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shards", "stats", "-w", tmp_path) == 4
    assert f"run first: bolid pack -w {tmp_path}" in capsys.readouterr().err
    assert run(monkeypatch, "shards", "verify", tmp_path / "nothing") == 8
    assert "holds no finished dataset" in capsys.readouterr().err


def test_pack_again_with_other_options_needs_repack(
    monkeypatch: pytest.MonkeyPatch, curation: Curation, capsys: pytest.CaptureFixture[str]
) -> None:
    curation.add_people(people=3, photos=2)
    curation.add("person_000", encoded(pattern(5, (32, 32)), "PNG"), "png")
    workspace = curation.write()
    assert run(monkeypatch, "pack", "-w", workspace.root) == 0
    assert set(read_index(workspace.shards)["image_suffix"].to_pylist()) == {"jpg"}
    options = ("pack", "-w", workspace.root, "--keep-format", "--jpeg-quality", "80")
    assert run(monkeypatch, *options) == 8
    assert "--repack to write everything anew" in capsys.readouterr().err
    assert run(monkeypatch, *options, "--repack", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["added"], last["stale"]) == ("packed", 7, 0)
    assert set(read_index(workspace.shards)["image_suffix"].to_pylist()) == {"jpg", "png"}
    assert read_manifest(workspace.shards).options.jpeg_quality == 80


def test_newer_annotations_are_told_once(
    monkeypatch: pytest.MonkeyPatch, curation: Curation, capsys: pytest.CaptureFixture[str]
) -> None:
    curation.add_people(people=3, photos=2)
    workspace = curation.write()
    run(monkeypatch, "pack", "-w", workspace.root)
    curation.rows[0]["caption"] = "a caption that came later"
    curation.write()
    capsys.readouterr()
    assert run(monkeypatch, "pack", "-w", workspace.root) == 0
    assert capsys.readouterr().err.count("annotations") == 1


def test_the_installed_command_answers(packed: PackSummary) -> None:
    command = [sys.executable, "-m", "bolid.cli", "shards", "stats", str(packed.out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

"""The command line as a user meets it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from bolid import __version__, arguments, cli

HEAVY = ("torch", "diffusers", "transformers", "pandas", "pyarrow", "aiohttp", "numpy", "PIL", "webdataset", "pydantic")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "bolid.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    def walk(prefix: str, group: object) -> Iterator[tuple[str, typer.core.TyperCommand]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(f"{prefix} {name}", command)
            else:
                yield f"{prefix} {name}", command

    return walk("bolid", typer.main.get_command(cli.app))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*item, id=item[0]) for item in commands()])
def test_every_command_has_help_and_an_example(path: str, command: typer.core.TyperCommand):
    assert command.help
    assert f"Example: `{path} " in (command.epilog or "") or f"Example: `{path}`" in (command.epilog or "")
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", f"{path}: {parameter.name} has no help"


def test_help_imports_nothing_heavy():
    code = f"import sys, bolid.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version():
    assert run("--version").stdout == f"bolid {__version__}\n"


def test_a_wrong_option_exits_with_2():
    done = run("crawl", "--bogus")
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_an_error_is_a_message_and_its_code_without_traceback(tmp_path: Path):
    done = run("curate", "-w", str(tmp_path / "nothing"))
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert "run first: bolid crawl" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_for_machines_is_one_json_line(tmp_path: Path):
    import json

    done = run("curate", "--json", "-w", str(tmp_path / "nothing"))
    line = json.loads(done.stdout)
    assert (line["event"], line["error"], line["exit_code"]) == ("error", "WorkspaceError", 4)


def test_the_workspace_comes_from_the_environment(tmp_path: Path):
    assert str(tmp_path / "elsewhere") in run("curate", BOLID_WORKSPACE=str(tmp_path / "elsewhere")).stderr


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def without_torch() -> None:
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    monkeypatch.setattr(cli, "app", without_torch)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 10
    assert capsys.readouterr().err == "error: torch is not installed; run: pip install 'bolid[train]'\n"


def test_a_missing_module_of_our_own_stays_a_bug(monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'bolid.nowhere'", name="bolid.nowhere")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ModuleNotFoundError):
        cli.main()


@pytest.mark.parametrize(("text", "size"), [("5", 5), ("64M", 64 * 2**20), ("1.5k", 1536), ("2G", 2 * 2**30)])
def test_sizes(text: str, size: int):
    assert arguments.byte_count(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "64X", "inf", "nan"])
def test_wrong_sizes_are_refused(text: str):
    with pytest.raises(typer.BadParameter):
        arguments.byte_count(text)


def test_defaults_that_curate_names_are_those_of_its_configuration():
    import re

    from bolid.curation.config import CurateConfig

    command = dict(commands())["bolid curate"]
    named = {p.name: found[1] for p in command.params if (found := re.search(r"\[default: ([\w.]+)\]", p.help or ""))}
    config = CurateConfig()
    assert named == {
        "min_res": str(config.min_res),
        "min_photos": str(config.min_photos),
        "near_duplicate": str(config.near_duplicate),
        "max_aspect": str(config.max_aspect),
        "min_age": str(config.exclusions.min_age),
        "device": config.device,
    }


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "here", "--explain", "abc"),
        ("--what-if", "min_res=5", "--explain", "abc"),
        ("--identity-column", "person"),
    ],
)
def test_options_of_curate_that_exclude_or_need_each_other(words: tuple[str, ...], tmp_path: Path):
    done = run("curate", *words, "-w", str(tmp_path))
    assert done.returncode == 2
    assert "add --from DIR" in done.stderr or "exclude each other" in done.stderr


def test_photos_of_ones_own_are_taken_in_judged_explained_and_tried(tmp_path: Path):
    import json

    from PIL import Image, ImageDraw

    for number in range(3):
        picture = Image.new("RGB", (64 - number, 80), "white")
        ImageDraw.Draw(picture).rectangle((number * 20, 10, number * 20 + 20, 70), fill="black")
        (tmp_path / "photos/ann").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"photos/ann/{number}.png")
    data = str(tmp_path / "data")
    options = ("--min-res", "60", "--min-photos", "1", "--pose", "none", "--face", "none", "--caption", "none")

    def told(*words: str) -> dict[str, dict]:
        done = run("curate", *words, "-w", data, "--json")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line.get("what") or line["event"]: line for line in lines}

    judged = told("--from", str(tmp_path / "photos"), *options, "--workers", "1")
    assert (judged["stored now"]["photos"], judged["kept"]["photos"]) == (3, 3)
    assert told("--what-if", "min_res=63")["what_if"]["kept"] == [3, 2]  # short sides 64, 63, 62
    story = told("--explain", str(tmp_path / "photos/ann/2.png"))["story"]
    assert (story["identity"], story["verdict"]) == ("ann", "kept")
    wrong = run("curate", "--what-if", "identity.kep=1", "-w", data)
    assert wrong.returncode == 3
    assert "did you mean 'keep'?" in wrong.stderr

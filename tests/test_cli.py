"""The command line as a user meets it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from bolid import __version__, cli

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
    assert cli._bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "64X", "inf", "nan"])
def test_wrong_sizes_are_refused(text: str):
    with pytest.raises(typer.BadParameter):
        cli._bytes(text)

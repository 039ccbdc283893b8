"""Options that several commands have, and what words of the command line mean: sizes in bytes and pixels, shares."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import __version__

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder of all files; default: $BOLID_WORKSPACE, else ./bolid-data."),
]
ContactOption = Annotated[
    str | None, typer.Option(help="Mail or web address in the User-Agent; a live site is not asked without one.")
]
AllowPrivateOption = Annotated[
    list[str] | None, typer.Option(help="HOST:PORT of a private or loopback server that may be asked.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]
ShardsOption = Annotated[Path | None, typer.Option("--shards", help="Folder of shards; default: the workspace's.")]
DatasetArgument = Annotated[
    str | None, typer.Argument(metavar="[DIR|URL]", help="Folder or address of the dataset; default: the workspace's.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with the configuration.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="One key of the configuration, as key=value.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")]
KeepOption = Annotated[
    int | None, typer.Option("--keep", min=1, help="Checkpoints that are kept, the newest ones. [default: 3]")
]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"bolid {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
]


def assignments(options: Mapping[str, object], more: Sequence[str] | None = None) -> list[str]:
    """Return options that were given as `key=value` of a configuration, and after them those of `--set`."""
    return [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None] + list(more or ())


def byte_count(text: str) -> int:
    """Read a number of bytes with an optional binary suffix, such as 64M.

    This and the functions below raise typer.BadParameter for other words.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in units else (text, "")
    try:
        size = int(float(number) * units.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise typer.BadParameter(f"'{text}' is not a size; write it like 64M or 512K")
    return size


def picture_size(text: str | None) -> dict[str, int]:
    """Read WIDTHxHEIGHT in pixels; nothing where nothing is given."""
    if text is None:
        return {}
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not a size; write it like 1024x1024")
    return {"width": int(width), "height": int(height)}


def shares(text: str) -> tuple[float, ...]:
    """Read three numbers between commas."""
    try:
        train_share, val_share, test_share = (float(share) for share in text.split(","))
        return train_share, val_share, test_share
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a split; write it like 0.9,0.05,0.05") from None

"""Writes docs/cli.md from the command line itself: every command's help, and the exit codes of errors.py.

python docs/cli_reference.py           write
python docs/cli_reference.py --check   exit 1 when the file does not say what the command line says
"""

import os
import subprocess
import sys
from pathlib import Path

from bolid import errors

TARGET = Path(__file__).with_name("cli.md")
HEADER = (
    "<!-- Made by docs/cli_reference.py from the command line; change the help texts, then run `make docs`. -->\n\n"
)


def reference() -> str:
    """Return the page as Markdown."""
    # A wide, plain terminal: the width of the caller's must not decide what the page says.
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    made = subprocess.run(
        [sys.executable, "-m", "typer", "bolid.cli", "utils", "docs", "--name", "bolid", "--title", "Command line"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return HEADER + made.stdout.strip() + "\n\n" + exit_codes()


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = ["## Exit codes", "", "| code | error | when |", "|---|---|---|", "| 0 | | it worked |"]
    for error in errors.error_classes():
        meaning = (error.__doc__ or "").strip().splitlines()[0]
        if error is errors.BolidError:
            rows.append("| 1 | | a bug: it shows a traceback, please report it |")
        else:
            rows.append(f"| {error.exit_code} | {error.__name__} | {meaning} |")
    return "\n".join([*rows, "| 130 | | stopped by Ctrl-C; the same command goes on where it stopped |", ""])


def main() -> int:
    """Write the page, or compare it; returns the exit code."""
    text = reference()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} does not match the command line; run: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

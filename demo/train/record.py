"""What lies beside a trained network: its configuration, its figures and a card."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path

from ... import __version__, atomic


def write(
    folder: Path,
    title: str,
    what: str,
    config: Mapping[str, object],
    figures: Mapping[str, object],
    licence: str = "Apache-2.0, as the code",
) -> None:
    """Write `training.json`, `figures.json` and `README.md`, the card.

    Args:
        folder: of the network.
        title: its name.
        what: what it is, what it was trained on, how, and what it is not, in Markdown.
        config: everything that decides the result: seeds, sizes, steps, learning rates.
        figures: measured on people and seeds that were not trained on; each name says what and in which unit.
        licence: of the trained files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / "training.json", json.dumps(dict(config), indent=2) + "\n")
    atomic.write_text(folder / "figures.json", json.dumps(dict(figures), indent=2) + "\n")
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    atomic.write_text(
        folder / "README.md",
        f"""# {title}

**For demonstration and tests only.** It has seen procedural people and nothing else, and works on nothing else.

{what.strip()}

- Licence: {licence}. Data: `bolid.demo.people`, made from numbers; no photo of anybody.
- Made by `python -m bolid.demo.train`, bolid {__version__}, Python {platform.python_version()}; settings and seeds:
  `training.json`.

| figure, on people not trained on | value |
|---|---|
{rows}
""",
    )

"""`python -m bolid.demo.train pose|face|base|judges [--work DIR] [--out DIR]`: a network, its figures and its card."""

import argparse
import importlib
from pathlib import Path

from ..networks import NETWORKS

PARTS = ("pose", "face", "base", "judges")


def main() -> None:
    """Train one part of the demo's networks."""
    parser = argparse.ArgumentParser("python -m bolid.demo.train", description=__doc__)
    parser.add_argument("part", choices=PARTS, help="which network")
    parser.add_argument(
        "--work", type=Path, default=Path("demo-training"), help="renders and checkpoints [%(default)s]"
    )
    parser.add_argument("--out", type=Path, help="where the result goes [the package's demo/networks/PART]")
    options = parser.parse_args()
    module = importlib.import_module(f".{options.part}", __package__)
    module.train(options.work / options.part, options.out or NETWORKS / options.part)


if __name__ == "__main__":
    main()

"""The small trained networks that the demo and the tests use, one folder each with its card and figures.

Made by `python -m bolid.demo.train`; loaded by the same code as real weights.
"""

from pathlib import Path

NETWORKS = Path(__file__).parent
"""Folder of the trained files."""

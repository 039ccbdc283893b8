"""Curated photos become identity-grouped WebDataset shards, and shards become training batches."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dataset import IdentityDataset, collate
    from .drawing import show, tell_shown
    from .index import find_rows, read_index, read_manifest
    from .options import PackConfig, parse_bytes
    from .report import SplitStats, stats, tell_stats
    from .sampler import Draw, IdentityBatchSampler
    from .streaming import stream
    from .verification import Problem, require_sound, verify
    from .writer import PackSummary, pack

__all__ = [
    "Draw",
    "IdentityBatchSampler",
    "IdentityDataset",
    "PackConfig",
    "PackSummary",
    "Problem",
    "SplitStats",
    "collate",
    "find_rows",
    "pack",
    "parse_bytes",
    "read_index",
    "read_manifest",
    "require_sound",
    "show",
    "stats",
    "stream",
    "tell_shown",
    "tell_stats",
    "verify",
]

_HOMES = {
    "dataset": ("IdentityDataset", "collate"),
    "drawing": ("show", "tell_shown"),
    "index": ("find_rows", "read_index", "read_manifest"),
    "options": ("PackConfig", "parse_bytes"),
    "report": ("SplitStats", "stats", "tell_stats"),
    "sampler": ("Draw", "IdentityBatchSampler"),
    "streaming": ("stream",),
    "verification": ("Problem", "require_sound", "verify"),
    "writer": ("PackSummary", "pack"),
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: importing this package loads neither torch nor pyarrow."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

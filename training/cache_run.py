"""Filling the cache by itself, so that a machine without VAE and text encoders can train from it."""

from dataclasses import dataclass
from pathlib import Path

from .. import progress
from .adapter import opened_task
from .adapter_config import AdapterConfig, AdapterWeights


@dataclass(frozen=True)
class CacheSummary:
    """What is in the cache for a configuration.

    Attributes:
        folder: of the cache.
        photos: of the training split.
        made: of these, how many were not complete before.
        entries: by kind, those of this base, encoder and transform.
        bytes: of the whole cache, other bases included.
    """

    folder: Path
    photos: int
    made: int
    entries: dict[str, int]
    bytes: int


def fill_cache(shards: Path, runs: Path, config: AdapterConfig, body: Path) -> CacheSummary:
    """Make all that a run with this configuration reads from the cache; what is there already is left.

    Args:
        shards: folder of the dataset.
        runs: folder of the runs, beside which the cache is, unless `config.cache.folder` says another place.
        config: of the run.
        body: folder with the body encoder.

    Raises:
        DataError: the shards are missing or hold no identity with two photos.
        ModelError: the base or the encoder is missing or does not fit.
        WorkspaceError: the cache cannot be written.
    """
    # Networks that look at generated pictures make nothing that is kept.
    changed = {"cache": config.cache.model_copy(update={"mode": "first"}), "weights": AdapterWeights()}
    task, data = opened_task(shards, runs / "none", config.model_copy(update=changed), body)
    made = task.fill_cache(data)
    cache = task.model.encoders.cache
    assert cache is not None
    entries: dict[str, int] = {}
    for space in cache.spaces():
        entries[space.what["kind"]] = entries.get(space.what["kind"], 0) + len(space)
    size = sum(path.stat().st_size for path in cache.root.rglob("*") if path.is_file())
    return CacheSummary(cache.root, len(data), made, entries, size)


def tell(summary: CacheSummary) -> None:
    """Print what is in the cache."""
    rows: list[tuple[str, object]] = [("photos", summary.photos), ("of these made now", summary.made)]
    rows += [(f"entries: {kind}", count) for kind, count in summary.entries.items()]
    rows.append(("MB, all that is in the folder", f"{summary.bytes / 1e6:.1f}"))
    progress.table("Cache", ("what", "count"), rows, event="cache")
    progress.result("written", str(summary.folder), paths=[str(summary.folder)])

"""One pass over the shards with the `webdataset` library, for jobs that need neither identities nor resuming."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .index import load_index
from .manifest import Manifest
from .schema import MANIFEST_FILE
from .store import open_store


def stream(url: Path | str, split: str | None = None, *, decode: bool = True) -> Any:  # noqa: ANN401
    """Return a `webdataset.WebDataset` over a dataset or over single tars; retired samples are skipped.

    A sample is a dict: `__key__`, `jpg` (a PIL image in RGB, not yet turned by its EXIF orientation), `json` (dict),
    `npy` (float32 `[512]`), `txt` (str). The pipeline can go on: `.shuffle(1000).to_tuple("jpg", "txt")`.

    Args:
        url: folder or http address of a dataset; or tars as `webdataset` takes them (`….tar`, `…{000..007}.tar`,
            `pipe:… .tar`), for which no index is known and nothing is skipped.
        split: only this split of a dataset.
        decode: False leaves the parts as bytes.

    Raises:
        DataError: the folder holds no finished dataset, or the split has no shard.
    """
    import webdataset

    tars, retired = _tars(url, split)
    pipeline = webdataset.WebDataset(
        tars, shardshuffle=False, nodesplitter=webdataset.split_by_node, empty_check=False
    ).compose(_Live(retired))
    return pipeline.decode("pil") if decode else pipeline


class _Live:
    """Pass samples whose key is not retired (a class, so that worker processes can be given it)."""

    def __init__(self, retired: frozenset[str]) -> None:
        self._retired = retired

    def __call__(self, samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (sample for sample in samples if sample["__key__"] not in self._retired)


def _tars(url: Path | str, split: str | None) -> tuple[list[str] | str, frozenset[str]]:
    if split is None and str(url).endswith((".tar", "}")):
        return str(url), frozenset()
    store = open_store(url)
    manifest = Manifest.parse(store.read(MANIFEST_FILE), f"{store.name}/{MANIFEST_FILE}")
    names = [name for name, entry in manifest.shards.items() if split in (None, entry.split)]
    if not names:
        raise DataError(f"{store.name} has no shard in the split '{split}'; pack with another --split")
    index = load_index(store, split, retired=True, columns=["key", "retired"])
    gone = index.filter(index["retired"])["key"].to_pylist()
    return [f"{store.name}/{name}" for name in names], frozenset(gone)

"""One pass over the shards with the `webdataset` library, for jobs that need neither identities nor resuming."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .index import load_index
from .manifest import Manifest
from .schema import MANIFEST_FILE
from .store import Store, open_store


def stream(url: Path | str, split: str | None = None, *, decode: bool = True) -> Any:  # noqa: ANN401
    """Return a pipeline of `webdataset` over a dataset or over single tars; retired samples are skipped.

    A sample is a dict: `__key__`, `jpg` (a PIL image in RGB, not yet turned by its EXIF orientation), `json` (dict),
    `npy` (float32 `[512]`), `txt` (str). The pipeline can go on: `.shuffle(1000).to_tuple("jpg", "txt")`.

    Args:
        url: folder or address of a dataset, as fsspec takes it; or tars as `webdataset` takes them (`….tar`,
            `…{000..007}.tar`, `pipe:… .tar`), for which no index is known and nothing is skipped.
        split: only this split of a dataset.
        decode: False leaves the parts as bytes.

    Raises:
        DataError: the folder holds no finished dataset, or the split has no shard.
    """
    import webdataset

    if split is None and str(url).endswith((".tar", "}")):
        pipeline = webdataset.WebDataset(
            str(url), shardshuffle=False, nodesplitter=webdataset.split_by_node, empty_check=False
        )
    else:
        pipeline = _of_dataset(open_store(url), split)
    return pipeline.decode("pil") if decode else pipeline


def _of_dataset(store: Store, split: str | None) -> Any:  # noqa: ANN401
    """Return what `webdataset.WebDataset` is made of, with a way of our own to open a shard and to skip samples."""
    import webdataset
    from webdataset.tariterators import group_by_keys, tar_file_expander

    manifest = Manifest.parse(store.read(MANIFEST_FILE), f"{store.name}/{MANIFEST_FILE}")
    names = [name for name, entry in manifest.shards.items() if split in (None, entry.split)]
    if not names:
        raise DataError(f"{store.name} has no shard in the split '{split}'; pack with another --split")
    index = load_index(store, split, retired=True, columns=["key", "retired"])
    retired = frozenset(index.filter(index["retired"])["key"].to_pylist())
    shards = webdataset.FluidWrapper(webdataset.SimpleShardList(names))
    return shards.compose(
        webdataset.split_by_node,
        webdataset.split_by_worker,
        _Opener(store),
        tar_file_expander,
        group_by_keys,
        _Live(retired),
    )


Samples = Iterator[dict[str, Any]]


class _Opener:
    """Open the shards of a dataset one after the other (a class, so that worker processes can be given it)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, sources: Samples) -> Samples:
        for source in sources:
            with self._store.open(source["url"]) as file:
                yield {"url": f"{self._store.name}/{source['url']}", "stream": file}


class _Live:
    """Pass samples whose key is not retired."""

    def __init__(self, retired: frozenset[str]) -> None:
        self._retired = retired

    def __call__(self, samples: Samples) -> Samples:
        return (sample for sample in samples if sample["__key__"] not in self._retired)

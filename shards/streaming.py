"""One pass over the shards with the `webdataset` library, for jobs that need neither identities nor resuming."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .index import load_index, read_manifest
from .schema import MANIFEST_FILE
from .store import open_store


def stream(url: Path | str, split: str | None = None, *, decode: bool = True) -> Any:  # noqa: ANN401
    """Return a `webdataset.WebDataset` over a dataset or over single tars; retired samples are skipped.

    A sample is a dict: `__key__`, `jpg` (a PIL image in RGB, not yet turned by its EXIF orientation), `json` (dict),
    `npy` (float32 `[512]`), `txt` (str). The pipeline can go on: `.shuffle(1000).to_tuple("jpg", "txt")`.

    Args:
        url: folder of a dataset, or the address of tars as `webdataset` takes it (braces, http, pipe); for those no
            index is known and nothing is skipped.
        split: only this split of a folder.
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
    folder = Path(url)
    if not (folder / MANIFEST_FILE).exists():
        if folder.is_dir() or split is not None:
            open_store(folder)  # raises: there is no dataset
        return str(url), frozenset()
    manifest = read_manifest(folder)
    names = [name for name, entry in manifest.shards.items() if split in (None, entry.split)]
    if not names:
        raise DataError(f"{folder} has no shard in the split '{split}'; pack with another --split")
    index = load_index(open_store(folder), split, retired=True, columns=["key", "retired"])
    gone = index.filter(index["retired"])["key"].to_pylist()
    return [str(folder / name) for name in names], frozenset(gone)

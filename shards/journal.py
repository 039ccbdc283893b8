"""What a running pack has finished, so that the next run of the same pack need not write it again.

`.pack/<shard>.parquet` holds the index rows of a shard that is complete under its final name; it is written after
the shard. The folder disappears when the pack ends.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from .. import atomic
from .options import PackConfig
from .schema import FORMAT_VERSION

JOURNAL = ".pack"


@dataclass(frozen=True)
class Written:
    """A shard that lies complete under its final name: its index rows, size in bytes and sha256."""

    rows: pa.Table
    bytes: int
    sha256: str


class Journal:
    """The record of finished shards of one pack.

    Args:
        folder: of the dataset.
        fingerprint: of everything that the shards' bytes depend on; entries of another one are not used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        with atomic.storage_errors(folder):
            (folder / JOURNAL).mkdir(parents=True, exist_ok=True)

    def find(self, shard: str) -> Written | None:
        """Return a finished shard, None when it must be written."""
        entry, tar = self._entry(shard), self._folder / shard
        if not entry.exists() or not tar.exists():
            return None
        rows = pq.read_table(entry)
        said = {key.decode(): value.decode() for key, value in (rows.schema.metadata or {}).items()}
        if said.get("fingerprint") != self._fingerprint or int(said["bytes"]) != tar.stat().st_size:
            return None
        return Written(rows.replace_schema_metadata(), int(said["bytes"]), said["sha256"])

    def add(self, shard: str, written: Written) -> None:
        """Record a shard that now lies under its final name."""
        said = {"fingerprint": self._fingerprint, "bytes": str(written.bytes), "sha256": written.sha256}
        with atomic.replacing(self._entry(shard)) as temporary:
            pq.write_table(written.rows.replace_schema_metadata(said), temporary)

    @staticmethod
    def remove(folder: Path) -> None:
        """Forget everything: the pack of a folder is complete."""
        shutil.rmtree(folder / JOURNAL)

    def _entry(self, shard: str) -> Path:
        return self._folder / JOURNAL / f"{shard}.parquet"


def pack_fingerprint(photos: str, config: PackConfig, base_index: str) -> str:
    """Return the digest of what a pack's bytes depend on: photos, options, ground, format and image library."""
    said = [FORMAT_VERSION, PIL.__version__, photos, base_index, config.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()

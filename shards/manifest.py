"""`manifest.json`: what a dataset consists of. It is written last, so a folder that has one is complete."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import __version__, atomic
from ..errors import DataError
from .options import PackConfig
from .schema import FORMAT_NAME, FORMAT_VERSION, MANIFEST_FILE


class ShardEntry(BaseModel):
    """One tar of the dataset."""

    model_config = ConfigDict(frozen=True)

    split: str
    bytes: int
    sha256: str
    samples: int
    identities: int
    pack: int


class SplitEntry(BaseModel):
    """What a split holds: identities, samples that are not retired, shards and their bytes."""

    model_config = ConfigDict(frozen=True)

    identities: int
    samples: int
    shards: int
    bytes: int


class Manifest(BaseModel):
    """The content of `manifest.json`.

    Attributes:
        curation: fingerprint of the kept rows of `curated.parquet` that the last pack saw.
        retired: samples that lie in the shards and are skipped by every reader.
        index_sha256: of `index.parquet`, hexadecimal.
        excluded: photos that `excluded.parquet` lists: no pack writes them.
        excluded_sha256: of `excluded.parquet`, hexadecimal; empty where there is none.
    """

    model_config = ConfigDict(frozen=True)

    format: str = FORMAT_NAME
    format_version: int = FORMAT_VERSION
    tool: str = f"bolid {__version__}"
    options: PackConfig
    curation: str
    packs: int
    retired: int
    index_sha256: str
    excluded: int = 0
    excluded_sha256: str = ""
    splits: dict[str, SplitEntry]
    shards: dict[str, ShardEntry]

    @classmethod
    def parse(cls, data: bytes, source: str) -> Self:
        """Read a manifest.

        Raises:
            DataError: it is damaged, or of a format that this version does not read.
        """
        try:
            values: dict[str, Any] = json.loads(data)
            if values.get("format") != FORMAT_NAME or values.get("format_version") != FORMAT_VERSION:
                raise DataError(
                    f"{source} is {values.get('format')} version {values.get('format_version')}, this bolid reads "
                    f"{FORMAT_NAME} version {FORMAT_VERSION}; install the version that wrote it or pack again"
                )
            return cls.model_validate(values)
        except (ValueError, AttributeError, ValidationError) as error:
            raise DataError(f"{source} is damaged ({error}); run bolid pack again") from error

    def write(self, folder: Path) -> None:
        """Write `manifest.json`, whole or not at all."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        atomic.write_text(folder / MANIFEST_FILE, text + "\n")

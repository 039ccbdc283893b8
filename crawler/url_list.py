"""Photos from a list of addresses instead of a site: a Parquet, CSV or text file, as users of img2dataset have them."""

import csv
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import near_match
from ..errors import ConfigError, DataError
from .site import clean_slug

_BATCH = 10_000


@dataclass(frozen=True)
class Listed:
    """One line of a list: the identity and the address as it is written."""

    identity: str
    url: str


def read_list(file: Path, url_col: str, identity_col: str | None) -> Iterator[list[Listed]]:
    """Yield the lines of a list, some thousand at a time; lines without an address are left out.

    Args:
        file: .parquet, .csv (with a header), or .txt (an address a line).
        url_col: column of the address.
        identity_col: column of the identity; None: all belong to one, called like the file.

    Raises:
        ConfigError: the file cannot be read, its kind is unknown, or a column is missing.
        DataError: the file is damaged.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".txt": _text}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ConfigError(f"--urls {file}: the kind is unknown; give a .parquet, .csv or .txt file")
    stem = clean_slug(file.stem) or "list"
    try:
        for batch in reader(file, url_col, identity_col):
            lines = [Listed(clean_slug(words(who)) or stem, words(url).strip()) for url, who in batch]
            yield [line for line in lines if line.url]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read --urls {file}: {error}; check the path and that it is UTF-8") from error


def words(value: object) -> str:
    """Return a value of a table as text: nothing for null and NaN, 7 for 7.0 (pandas makes numbers of such columns)."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def list_digest(file: Path, url_col: str, identity_col: str | None) -> str:
    """Return a digest of the file and of how it is read.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
    except OSError as error:
        raise ConfigError(f"cannot read --urls {file}: {error.strerror}; check the path") from error
    digest.update(repr((url_col, identity_col)).encode())
    return digest.hexdigest()


Pairs = Iterator[Sequence[tuple[Any, Any]]]


def _parquet(file: Path, url_col: str, identity_col: str | None) -> Pairs:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = _columns(file, table.schema_arrow.names, url_col, identity_col)
            for batch in table.iter_batches(_BATCH, columns=columns):
                urls = batch.column(url_col).to_pylist()
                owners = batch.column(identity_col).to_pylist() if identity_col else [None] * len(urls)
                yield list(zip(urls, owners, strict=True))
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is not a Parquet file or is damaged: {error}; write it again") from error


def _csv(file: Path, url_col: str, identity_col: str | None) -> Pairs:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = csv.DictReader(opened)
        _columns(file, list(rows.fieldnames or ()), url_col, identity_col)
        while batch := list(itertools.islice(rows, _BATCH)):
            yield [(row[url_col], row[identity_col] if identity_col else None) for row in batch]


def _text(file: Path, url_col: str, identity_col: str | None) -> Pairs:
    with file.open(encoding="utf-8-sig") as lines:
        while batch := list(itertools.islice(lines, _BATCH)):
            yield [(line.strip(), None) for line in batch if not line.startswith("#")]


def _columns(file: Path, known: Sequence[str], url_col: str, identity_col: str | None) -> list[str]:
    wanted = [(url_col, "--url-col"), *([(identity_col, "--identity-col")] if identity_col else [])]
    for column, option in wanted:
        if column not in known:
            raise ConfigError(
                f"{file} has no column '{column}'{near_match(column, known)}; name it with {option} "
                f"(columns: {', '.join(known)})"
            )
        if known.count(column) > 1:
            raise ConfigError(f"{file} has more than one column '{column}'; rename all but one")
    return [column for column, _ in wanted]

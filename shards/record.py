"""A row of `curated.parquet` becomes the JSON, the caption and the face embedding of a sample.

Columns that later stages add may be absent or null; the sample has the same keys and types all the same.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..errors import DataError
from .geometry import Floats, scale_box, scale_keypoints
from .schema import FACE_DIMENSIONS, KEYPOINTS, META_FIELDS

Row = Mapping[str, Any]

REQUIRED_COLUMNS = ("sha256", "identity", "format", "bytes", "keep")
OPTIONAL_COLUMNS = (
    "width",
    "height",
    "identity_name",
    "url",
    "page_url",
    "fetched_at",
    "etag",
    "robots",
    "rights",
    "caption",
    "keypoints",
    "person_box",
    "face_box",
    "face_embedding",
    "pose_confidence",
    "pose_model",
    "view",
    "framing",
)


def metadata(row: Row, key: str, identity: int, original: tuple[int, int], stored: tuple[int, int]) -> dict[str, Any]:
    """Return the JSON of a sample, the keys in the order of `META_FIELDS`.

    Args:
        row: of the curated table; coordinates are pixels of the oriented original.
        key: sample key.
        identity: number of the person.
        original: (width, height) of the oriented original in pixels.
        stored: (width, height) of the stored picture; coordinates are scaled to it.

    Raises:
        DataError: keypoints or a box have the wrong length.
    """
    x_scale, y_scale = stored[0] / original[0], stored[1] / original[1]
    values = {
        **_provenance(row),
        "key": key,
        "identity": identity,
        "width": stored[0],
        "height": stored[1],
        "original_width": original[0],
        "original_height": original[1],
        "keypoints": _rounded(scale_keypoints(_keypoints(row), x_scale, y_scale)),
        "person_box": _rounded(scale_box(floats(row, "person_box", 4), x_scale, y_scale)),
        "face_box": _rounded(scale_box(floats(row, "face_box", 4), x_scale, y_scale)),
        "pose_model": text(row, "pose_model"),
        "pose_confidence": pose_confidence(row),
        "has_face": has_face(row),
        "view": text(row, "view"),
        "framing": text(row, "framing"),
    }
    return {field: values[field] for field in META_FIELDS}


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return compact UTF-8 JSON; the same values give the same bytes."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def annotations_digest(row: Row) -> bytes:
    """Return 8 bytes that change when what a row says about its photo changes (absent and null are the same)."""
    said = [(column, row[column]) for column in OPTIONAL_COLUMNS if row.get(column) is not None]
    return hashlib.blake2b(json.dumps(said, default=str).encode(), digest_size=8).digest()


def face_embedding(row: Row) -> Floats:
    """Return the face embedding `[512]`, zeros where there is none."""
    return floats(row, "face_embedding", FACE_DIMENSIONS)


def has_face(row: Row) -> bool:
    """Say whether the row holds a face embedding."""
    return bool(face_embedding(row).any())


def pose_confidence(row: Row) -> float:
    """Return the mean confidence of the body keypoints, 0 where the pose was not measured."""
    value = row.get("pose_confidence")
    return round(float(value), 4) if value is not None and np.isfinite(value) else 0.0


def text(row: Row, column: str) -> str:
    """Return a column as text: empty where absent or null, ISO 8601 for times."""
    value = row.get(column)
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def moment(row: Row, column: str) -> str:
    """Return a time as ISO 8601 in UTC; numbers are seconds since 1970."""
    value = row.get(column)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).isoformat()
    return text(row, column)


def floats(row: Row, column: str, length: int) -> Floats:
    """Return a list column as float32 `[length]`: zeros where absent or null, and for values that are not finite.

    Raises:
        DataError: the list has another length.
    """
    value = row.get(column)
    if value is None:
        return np.zeros(length, np.float32)
    found = np.asarray(value, np.float32).ravel()
    if found.size != length:
        raise DataError(
            f"photo {row.get('sha256')}: '{column}' holds {found.size} numbers instead of {length}; "
            "curate again with this version of bolid"
        )
    return np.where(np.isfinite(found), found, np.float32(0))


def _keypoints(row: Row) -> Floats:
    """Return the keypoints `[17][3]`; one with a number that is not finite was not measured: zeros."""
    value = row.get("keypoints")
    found = floats(row, "keypoints", KEYPOINTS * 3).reshape(KEYPOINTS, 3)
    if value is None:
        return found
    finite = np.isfinite(np.asarray(value, np.float32).reshape(KEYPOINTS, 3)).all(axis=1, keepdims=True)
    return (found * finite).astype(np.float32)


def _provenance(row: Row) -> dict[str, str]:
    columns = ("identity_name", "url", "page_url", "etag", "robots", "rights", "sha256")
    return {
        **{column: text(row, column) for column in columns},
        "url": _address(text(row, "url")),
        "page_url": _address(text(row, "page_url")),
        "identity_slug": text(row, "identity"),
        "fetched_at": moment(row, "fetched_at"),
        "original_format": text(row, "format").lower(),
    }


def _address(url: str) -> str:
    """Return the address; of one on the machine that packed, which names its folders and users, the end alone."""
    if not url.startswith("file:"):
        return url
    path, _, fragment = url.removeprefix("file:").partition("#")
    ends = "/".join(path.rstrip("/").split("/")[-2:])
    return f"file:{ends}" + (f"#{fragment}" if fragment else "")


def _rounded(values: Floats) -> list[Any]:
    """Round to a ten-thousandth: finer than any network measures, and short to write."""
    rounded: list[Any] = np.round(values.astype(np.float64), 4).tolist()
    return rounded

"""One photo becomes the four parts of a sample."""

import hashlib
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from ..workspace import Workspace
from . import picture, record
from .buffers import Buffers
from .curated import extension
from .options import PackConfig
from .reader import NPY_HEADER
from .schema import PARTS, sample_digest, sample_key

MOST_BYTES = 2**31 - 1
"""Bytes of a picture that the index can say."""


@dataclass(frozen=True)
class Task:
    """A photo to be packed: its row of the curated table and its place in the dataset."""

    row: record.Row
    identity: int
    number: int


@dataclass(frozen=True)
class Sample:
    """A sample before it is written: the columns of the index that are known, and part name -> content."""

    columns: dict[str, Any]
    parts: dict[str, bytes | memoryview]

    @property
    def key(self) -> str:
        """The sample key."""
        return str(self.columns["key"])

    def member(self, part: str) -> str:
        """Return the file name of a part in the tar."""
        return f"{self.key}.{self.columns['image_suffix'] if part == 'image' else part}"


def prepare(task: Task, workspace: Workspace, config: PackConfig, buffers: Buffers) -> Sample:
    """Read a photo and build its sample; a picture that is stored as it is lies in memory lent by `buffers`.

    Raises:
        DataError: the file is missing, is no picture, or its bytes are not those that were crawled.
    """
    key = sample_key(task.identity, task.number)
    stored, sha256 = _stored(task, workspace, config, buffers)
    meta = record.metadata(task.row, key, task.identity, stored.original, stored.size)
    parts: dict[str, bytes | memoryview] = {
        "image": stored.data,
        "json": record.json_bytes(meta),
        "npy": NPY_HEADER + record.face_embedding(task.row).astype("<f4", copy=False).tobytes(),
        "txt": record.text(task.row, "caption").encode(),
    }
    digests = {part: hashlib.sha256(data).digest() for part, data in parts.items() if part != "image"}
    digests["image"] = bytes.fromhex(sha256)
    columns = {
        "key": key,
        "identity": task.identity,
        "number": task.number,
        "identity_slug": meta["identity_slug"],
        "sha256": meta["sha256"],
        "annotations": record.annotations_digest(task.row),
        "width": stored.size[0],
        "height": stored.size[1],
        "pose_confidence": meta["pose_confidence"],
        "has_face": meta["has_face"],
        "retired": False,
        "retired_reason": "",
        "image_suffix": stored.suffix,
        "digest": sample_digest(digests[part] for part in PARTS),
        **{f"{part}_size": len(data) for part, data in parts.items()},
        **{f"{part}_sha256": digest for part, digest in digests.items()},
    }
    return Sample(columns, {part: parts[part] for part in PARTS})


def _stored(task: Task, workspace: Workspace, config: PackConfig, buffers: Buffers) -> tuple[picture.Stored, str]:
    """Return the picture as it will be stored, and its sha256."""
    sha256, suffix = task.row["sha256"], extension(task.row["format"])
    path = workspace.image(sha256, suffix)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path} of {task.row['identity']} is larger than {MOST_BYTES} bytes; delete it, curate again"
            )
        data = buffers.read(path)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise DataError(
                f"{path} of {task.row['identity']} is damaged: its sha256 is {found}; delete the file, crawl it again "
                "and run bolid curate"
            )
        stored = picture.for_shard(data, suffix, config)
        if stored.data is data:
            return stored, found
        buffers.give_back(data)
        return stored, hashlib.sha256(stored.data).hexdigest()
    except picture.UNREADABLE as error:
        raise DataError(f"{path} of {task.row['identity']} cannot be packed ({error}); curate again") from error

"""Samples by row of the index: one read a sample, no torch."""

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import DataError
from .columns import values_of
from .geometry import Floats
from .index import Integers, column, part_digests, whole
from .schema import FACE_DIMENSIONS, KEYPOINTS, PARTS, sample_digest, sample_key
from .shuffle import scramble
from .store import Store
from .tar import BLOCK

COLUMNS = (
    "identity",
    "number",
    "shard",
    "width",
    "height",
    "image_offset",
    *(f"{part}_size" for part in PARTS),
)
"""Columns of the index that reading and sampling need; few, because an index can have many million rows. The other
parts follow the picture, each after a header of one block, so their offsets need not be kept."""


DIGEST = "digest"
"""Column of the index that checking needs: 16 bytes a row instead of the 128 of the four sha256."""


@dataclass(frozen=True)
class Record:
    """A sample as it lies in the shard, parsed but with the picture still encoded.

    Attributes:
        size: (width, height) of the stored picture in oriented pixels.
        keypoints: `[17][3]` x, y in pixels and confidence.
        person_box: `[4]` left, top, right, bottom in pixels, zeros where not measured.
        face: embedding `[512]`, zeros where there is none.
        view_weight: 1 where the pose stage did not run, else the mean confidence of the body keypoints.
    """

    key: str
    identity: int
    image: bytes
    meta: dict[str, Any]
    caption: str
    face: Floats
    size: tuple[int, int]
    keypoints: Floats
    person_box: Floats
    view_weight: float


class SampleReader:
    """Read samples by their row.

    Args:
        store: of the dataset.
        index: with `COLUMNS`, and `DIGEST` when bytes are to be checked.
        check: fraction of the samples whose bytes are compared with the index: 0 none, 1 all.
    """

    def __init__(self, store: Store, index: pa.Table, check: float = 0.0) -> None:
        self._store, self._check = store, check
        self._identities, self._numbers = column(index, "identity"), column(index, "number")
        shards = whole(index, "shard")
        self._shard_names: list[str] = shards.dictionary.to_pylist()
        self._shards: Integers = values_of(shards.indices)
        self._offsets: Integers = column(index, "image_offset")
        self._sizes: list[Integers] = [column(index, f"{part}_size") for part in PARTS]
        self._digests = whole(index, DIGEST) if check > 0 else None

    def key(self, row: int) -> str:
        """Return the sample key of a row."""
        return sample_key(int(self._identities[row]), int(self._numbers[row]))

    def parts(self, row: int) -> list[bytes]:
        """Return the content of the four parts, in the order of `PARTS`, with one read.

        Raises:
            DataError: the shard is missing, cut off, or its bytes are not those that were packed.
        """
        parts = self._read(row)
        if self._altered(row, parts) and self._store.forget(*self._place(row)):
            parts = self._read(row)  # what came over the network was kept as it came
        if self._altered(row, parts):
            raise self.damaged(row, self._difference(row, parts))
        return parts

    def _read(self, row: int) -> list[bytes]:
        shard, begin, size = self._place(row)
        try:
            data = self._store.read_range(shard, begin, size)
        except OSError as error:
            raise self.damaged(row, str(error)) from error
        if len(data) < size:
            raise self.damaged(row, f"it ends at byte {begin + len(data)}, before the sample does")
        return [data[span] for span in self._spans(row)]

    def _place(self, row: int) -> tuple[str, int, int]:
        """Return where a sample lies: its shard, the first byte of its first part, and bytes to the end of its last."""
        return self._shard_names[int(self._shards[row])], int(self._offsets[row]), self._spans(row)[-1].stop

    def prefetch(self, rows: Sequence[int]) -> None:
        """Make ready samples that will be read next; what cannot be is told when it is read."""
        with contextlib.suppress(OSError):
            self._store.prefetch([self._place(row) for row in rows])

    def _spans(self, row: int) -> list[slice]:
        """Return where the parts lie, from the beginning of the first."""
        spans, start = [], 0
        for sizes in self._sizes:
            spans.append(slice(start, start + int(sizes[row])))
            start = spans[-1].stop + -spans[-1].stop % BLOCK + BLOCK
        return spans

    def record(self, row: int) -> Record:
        """Return a sample.

        Raises:
            DataError: see `parts`; or a part cannot be parsed.
        """
        image, meta_bytes, npy, txt = self.parts(row)
        try:
            return parse(self.key(row), image, meta_bytes, npy, txt)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise self.damaged(row, f"a part cannot be parsed: {error!r}") from error

    def _altered(self, row: int, parts: Sequence[bytes]) -> bool:
        """Say whether the bytes of a sample that is to be checked are not those that were packed."""
        if self._digests is None or not _in_share(row, self._check):
            return False
        return bool(sample_digest([hashlib.sha256(data).digest() for data in parts]) != self._digests[row].as_py())

    def _difference(self, row: int, parts: Sequence[bytes]) -> str:
        found = [hashlib.sha256(data).digest() for data in parts]
        said = part_digests(self._store, int(self._identities[row]), int(self._numbers[row]))
        names = [part for part, one, other in zip(PARTS, found, said, strict=False) if one != other]
        return f"the sha256 of its {' and '.join(names or PARTS)} is not the one in the index"

    def damaged(self, row: int, cause: str) -> DataError:
        """Return the error that says which sample of which shard is damaged, and what to do."""
        shard = self._shard_names[int(self._shards[row])]
        return DataError(
            f"{self._store.name}/{shard}, sample {self.key(row)}: {cause}; check with: bolid shards verify "
            f"{self._store.name}, then restore the shard or pack again"
        )


def parse(key: str, image: bytes, meta_bytes: bytes, npy: bytes, txt: bytes) -> Record:
    """Build a record from the bytes of its parts.

    Raises:
        ValueError, KeyError, TypeError: a part is not what the format says.
    """
    meta: dict[str, Any] = json.loads(meta_bytes)
    face = _embedding(npy)
    if face.shape != (FACE_DIMENSIONS,):
        raise ValueError(f"the face embedding has the shape {face.shape}")
    keypoints, box = np.asarray(meta["keypoints"], np.float32), np.asarray(meta["person_box"], np.float32)
    if keypoints.shape != (KEYPOINTS, 3) or box.shape != (4,):
        raise ValueError(f"keypoints and person box have the shapes {keypoints.shape} and {box.shape}")
    return Record(
        key=key,
        identity=int(meta["identity"]),
        image=image,
        meta=meta,
        caption=txt.decode(),
        face=face.astype(np.float32, copy=False),
        size=(int(meta["width"]), int(meta["height"])),
        keypoints=keypoints,
        person_box=box,
        view_weight=view_weight(meta),
    )


def _embedding(npy: bytes) -> Floats:
    """Read a .npy file; of one that `bolid pack` wrote, the header need not be parsed, which is most of the work."""
    if npy.startswith(NPY_HEADER) and len(npy) == len(NPY_HEADER) + 4 * FACE_DIMENSIONS:
        return np.frombuffer(npy, "<f4", offset=len(NPY_HEADER)).astype(np.float32)
    array: Floats = np.load(io.BytesIO(npy), allow_pickle=False)
    return array


def _npy_header() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (FACE_DIMENSIONS,)})
    return file.getvalue()


NPY_HEADER = _npy_header()
"""What a .npy file of a face embedding begins with."""


def view_weight(meta: dict[str, Any]) -> float:
    """Return how much a view counts among the references (method.md, w_v): 1 where nothing was measured."""
    return 1.0 if meta["pose_model"] == "" else float(meta["pose_confidence"])


def _in_share(row: int, share: float) -> bool:
    """Say whether a row is among those that are checked: always the same ones, spread evenly."""
    return share >= 1 or int(scramble(np.array([row]))[0]) < share * 2**64

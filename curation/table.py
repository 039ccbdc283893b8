"""`curated.parquet`: the crawl's columns, what the stages measured, and the verdict; one row a photo."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from .. import atomic
from ..errors import DataError
from . import spool, views
from .captions import Captions
from .config import CurateConfig
from .measured import Measured, some
from .networks import Network
from .outcome import Outcome
from .stages import exclusions

Row = dict[str, Any]
IMAGE_COLUMNS = ("sha256", "identity", "identity_name", "url", "page_url", "width", "height", "bytes", "format")

_NUMBERS = pa.list_(pa.float32())
MEASURED_SCHEMA = pa.schema(
    [
        ("defect", pa.string()),
        ("decoded_width", pa.int32()),
        ("decoded_height", pa.int32()),
        ("sharpness", pa.float32()),
        ("phash", pa.uint64()),
        ("people", pa.int32()),
        ("second_person", pa.float32()),
        ("person_box", _NUMBERS),
        ("person_score", pa.float32()),
        ("keypoints", pa.list_(_NUMBERS)),
        ("pose_confidence", pa.float32()),
        ("pose_model", pa.string()),
        ("yaw", pa.float32()),
        ("view", pa.string()),
        ("framing", pa.string()),
        ("person_sharpness", pa.float32()),
        ("person_exposure", pa.float32()),
        ("faces", pa.int32()),
        ("face_box", _NUMBERS),
        ("face_score", pa.float32()),
        ("face_landmarks", pa.list_(_NUMBERS)),
        ("face_embedding", _NUMBERS),
        ("face_model", pa.string()),
        ("face_sharpness", pa.float32()),
        ("face_exposure", pa.float32()),
    ]
)
"""Pixels of the upright photo. `face_embedding` is there for usable faces only, of unit length; null otherwise."""
VERDICT_SCHEMA = pa.schema(
    [
        ("identity_score", pa.float32()),
        ("identity_evidence", pa.string()),
        ("identity_review", pa.bool_()),
        ("keep", pa.bool_()),
        ("reject_stage", pa.string()),
        ("reject_reason", pa.string()),
        ("reject_value", pa.float64()),
        ("reject_threshold", pa.float64()),
        ("nearest_kept", pa.string()),
        ("error", pa.string()),
        ("shared_with", pa.list_(pa.string())),
    ]
)
CAPTION_SCHEMA = pa.schema([("caption", pa.string()), ("caption_model", pa.string()), ("caption_flag", pa.string())])
"""Of kept photos; null for the others."""
BULKY = ("keypoints", "face_landmarks", "face_embedding")
"""Columns that a report has no use for."""
_ROWS = 4096
"""Rows that are written at a time."""
_OBJECTS = 1024
"""Photos that are Python objects at a time."""


def read_images(path: Path) -> pa.Table:
    """Read `images.parquet`, one row a photo; a large one is mapped rather than held in memory.

    Raises:
        DataError: it is empty or a column is missing.
    """
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 18) as file:
        schema = file.schema_arrow
        lacking = [name for name in IMAGE_COLUMNS if name not in schema.names]
        if lacking:
            raise DataError(f"{path} lacks the columns {', '.join(lacking)}; make it again: bolid crawl")
        if file.metadata.num_rows == 0:
            raise DataError(f"{path} holds no photo; see what the crawl rejected, then crawl again: bolid crawl")
        batches = (pa.Table.from_batches([batch], schema) for batch in file.iter_batches(_ROWS, use_threads=False))
        return spool.stored(batches, schema, path.parent).table


class Rows(Sequence[Row]):
    """Some columns of a table as rows that are made when they are asked for; a word that repeats is held once.

    Args:
        table: whose rows they are.
        columns: of text.
    """

    def __init__(self, table: pa.Table, columns: Sequence[str]) -> None:
        words: dict[str, str] = {}
        self._columns: dict[str, list[str]] = {name: [] for name in columns}
        for batch in table.select(list(columns)).to_batches(_ROWS):
            for name, values in self._columns.items():
                values += [words.setdefault(word, word) for word in batch[name].to_pylist()]
        self._length: int = table.num_rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def __iter__(self) -> Iterator[Row]:
        """Yield each row."""
        for row in zip(*self._columns.values(), strict=True):
            yield dict(zip(self._columns, row, strict=True))

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return a row, or a list of them."""
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(self._length))]
        return {name: values[place] for name, values in self._columns.items()}


def write(
    path: Path,
    images: pa.Table,
    photos: Mapping[str, Measured],
    outcomes: Sequence[Outcome],
    networks: Mapping[str, Network],
    config: CurateConfig,
    captions: Captions | None = None,
) -> None:
    """Write the table, whole or not at all.

    Args:
        path: of the table.
        images: the crawl's table.
        photos: what was measured, by sha256.
        outcomes: one for each row of `images`.
        networks: those that measured, by stage.
        config: the thresholds of keypoints.
        captions: of the kept photos; None where none were asked for.
    """
    said = captions or Captions()
    added = pa.schema([*MEASURED_SCHEMA, *CAPTION_SCHEMA, *VERDICT_SCHEMA])
    with atomic.replacing(path) as temporary, pq.ParquetWriter(temporary, _joined(images.schema, added)) as out:
        for begin in range(0, images.num_rows, _ROWS):
            part = images.slice(begin, _ROWS).combine_chunks()
            shas, judged = part["sha256"].to_pylist(), outcomes[begin : begin + _ROWS]
            columns = [added.empty_table()]
            for at in range(0, len(shas), _OBJECTS):
                known = some(photos, shas[at : at + _OBJECTS])
                rows = [
                    _measured_row(None if _is_suppressed(outcome) else known.get(sha256), networks, config)
                    | (_caption_row(sha256, said) if outcome.keep else {})
                    | _verdict_row(outcome)
                    for sha256, outcome in zip(shas[at : at + _OBJECTS], judged[at : at + _OBJECTS], strict=True)
                ]
                columns.append(pa.Table.from_pylist(rows, schema=added))
            found = pa.concat_tables(columns).combine_chunks()
            for name in added.names:
                part = part.append_column(added.field(name), found[name])
            out.write_table(part)


def _joined(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    return pa.schema([*one, *other], metadata=one.metadata)


def _measured_row(photo: Measured | None, networks: Mapping[str, Network], config: CurateConfig) -> dict[str, Any]:
    if photo is None:
        return {}
    row: dict[str, Any] = {
        "defect": photo.defect,
        "decoded_width": photo.width,
        "decoded_height": photo.height,
        "sharpness": photo.sharpness,
        "phash": photo.phash,
        "people": None if photo.people is None else photo.people.count,
        "second_person": None if photo.people is None else photo.people.second,
        "faces": photo.faces,
    }
    person, face, confident = photo.person, photo.face, config.pose.keypoint
    if person is not None:
        turned = views.yaw(person.keypoints, confident)
        row |= {
            "person_box": person.box,
            "person_score": person.score,
            "keypoints": list(person.keypoints),
            "pose_confidence": views.pose_confidence(person.keypoints),
            "pose_model": networks["pose"].name,
            "yaw": turned,
            "view": views.view(turned),
            "framing": views.framing(person.keypoints, person.box, confident),
            "person_sharpness": person.sharpness,
            "person_exposure": person.exposure,
        }
    if face is not None:
        row |= {
            "face_box": face.box,
            "face_score": face.found.score,
            "face_landmarks": list(face.landmarks),
            "face_embedding": face.embedding if face.found.usable else None,
            "face_model": networks["face"].name,
            "face_sharpness": face.sharpness,
            "face_exposure": face.exposure,
        }
    return row


def _is_suppressed(outcome: Outcome) -> bool:
    """Say whether suppress.txt names the row: what was measured of the same bytes elsewhere is not told here."""
    return outcome.verdict is not None and outcome.verdict.reason == exclusions.SUPPRESSED


def _caption_row(sha256: str, captions: Captions) -> dict[str, Any]:
    said = captions.texts.get(sha256)
    if said is None:
        return {}
    return {"caption": said.text, "caption_model": captions.model, "caption_flag": said.flag}


def _verdict_row(outcome: Outcome) -> dict[str, Any]:
    verdict, finding = outcome.verdict, outcome.finding
    return {
        "identity_score": finding.score if finding else None,
        "identity_evidence": finding.evidence if finding else None,
        "identity_review": finding.review if finding else None,
        "keep": outcome.keep,
        "reject_stage": verdict.stage if verdict else None,
        "reject_reason": verdict.reason if verdict else None,
        "reject_value": verdict.value if verdict else None,
        "reject_threshold": verdict.threshold if verdict else None,
        "nearest_kept": verdict.nearest_kept if verdict else None,
        "error": outcome.error,
        "shared_with": list(outcome.shared_with),
    }

"""What `curated.parquet` says, as `bolid pack` reads it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import table
from bolid.curation.config import CurateConfig
from bolid.curation.measured import Measured, measured
from bolid.curation.networks import Network
from bolid.curation.outcome import Outcome
from bolid.curation.stages import face, pose, quality
from bolid.shards import record

NETWORKS = {"pose": Network("a-pose", "", "p"), "face": Network("a-face", "", "f")}
KEYPOINTS = np.stack([np.linspace(110, 190, 17), np.linspace(30, 280, 17), np.linspace(0.2, 1.0, 17)], axis=1)
EMBEDDING = np.eye(512)[7]


def scores(**changed: object) -> pa.Table:
    """A photo of two people: a small one first, then a large one with a face."""
    row: dict[str, object] = {
        "sha256": "a" * 64,
        "defect": None,
        "decoded_width": 300,
        "decoded_height": 400,
        "sharpness": 55.0,
        "phash": 3,
        "pose_boxes": [0, 0, 20, 40, 100, 20, 200, 300],
        "pose_scores": [0.95, 0.9],
        "pose_keypoints": np.concatenate([np.zeros(51), KEYPOINTS.ravel()]),
        "face_boxes": [105.0, 25.0, 155.0, 85.0],
        "face_scores": [0.8],
        "face_landmarks": np.arange(10.0),
        "face_embeddings": EMBEDDING,
        "people_sharpness": [1.0, 2.0],
        "people_exposure": [0.1, 0.2],
        "faces_sharpness": [3.0],
        "faces_exposure": [0.3],
    }
    row |= changed
    schemas = [pose.SCHEMA, face.SCHEMA, quality.SCHEMA]
    plain = [("sha256", pa.string()), ("defect", pa.string()), ("decoded_width", pa.int32())]
    plain += [("decoded_height", pa.int32()), ("sharpness", pa.float32()), ("phash", pa.uint64())]
    fields = [*map(pa.field, *zip(*plain, strict=True)), *(field for schema in schemas for field in list(schema)[1:])]
    return pa.Table.from_pylist([row], schema=pa.schema([field for field in fields if field.name in row]))


def known(**changed: object) -> Measured:
    return next(measured(scores(**changed), CurateConfig()))


def written(folder: Path, photo: Measured) -> dict[str, object]:
    images = pa.table({name: ["x"] for name in ("identity", "identity_name", "url", "page_url", "format")})
    images = images.append_column("sha256", pa.array([photo.sha256]))
    table.write(folder / "c.parquet", images, {photo.sha256: photo}, [Outcome(None, None)], NETWORKS, CurateConfig())
    return pq.read_table(folder / "c.parquet").to_pylist()[0]


def test_the_largest_person_and_her_face_go_into_the_sample(tmp_path: Path):
    row = written(tmp_path, known())
    assert (row["people"], row["second_person"]) == (2, pytest.approx(20 * 40 / (100 * 280)))
    sample = record.metadata(row, "i000000_000000", 0, (300, 400), (150, 200))
    assert np.allclose(sample["keypoints"], KEYPOINTS * [0.5, 0.5, 1], atol=1e-3)
    assert sample["person_box"] == [50, 10, 100, 150]
    assert sample["face_box"] == [52.5, 12.5, 77.5, 42.5]
    assert sample["pose_model"] == "a-pose"
    assert sample["pose_confidence"] == pytest.approx(KEYPOINTS[5:, 2].mean(), abs=1e-4)
    assert (sample["has_face"], sample["framing"]) == (True, "full")
    assert np.array_equal(record.face_embedding(row), EMBEDDING.astype(np.float32))
    assert json.dumps(sample)


def test_sharpness_and_exposure_are_those_of_the_main_person(tmp_path: Path):
    row = written(tmp_path, known())
    named = ("person_sharpness", "person_exposure", "face_sharpness", "face_exposure")
    assert [row[name] for name in named] == pytest.approx([2.0, 0.2, 3.0, 0.3])


def test_a_face_that_is_not_usable_has_a_box_but_no_embedding(tmp_path: Path):
    row = written(tmp_path, known(face_scores=[0.69]))
    assert row["face_box"] == [105.0, 25.0, 155.0, 85.0]
    assert row["face_embedding"] is None
    assert not record.has_face(row)


def test_a_photo_that_does_not_decode_has_a_row_without_measures(tmp_path: Path):
    nothing = dict.fromkeys(scores().column_names[2:])
    row = written(tmp_path, known(defect="corrupt", **nothing))
    assert row["defect"] == "corrupt"
    assert {row[name] for name in ("people", "keypoints", "faces", "pose_model", "view")} == {None}


def test_stages_that_were_not_run_leave_nulls():
    plain = scores().select(["sha256", "defect", "decoded_width", "decoded_height", "sharpness", "phash"])
    photo = next(measured(plain, CurateConfig()))
    assert (photo.people, photo.person, photo.faces, photo.face) == (None, None, None, None)
    assert photo.person_sharpness == 55.0


def test_nobody_and_no_face_are_zero_not_null(tmp_path: Path):
    empty: dict[str, object] = {name: [] for name in scores().column_names if name.startswith(("pose_", "face"))}
    row = written(tmp_path, known(**empty, people_sharpness=[], people_exposure=[]))
    assert (row["people"], row["faces"], row["keypoints"]) == (0, 0, None)

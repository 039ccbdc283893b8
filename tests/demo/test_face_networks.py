"""The shipped face networks: loaded by stock InsightFace, and their figures on people of another seed."""

import importlib.util
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.demo.people import Photo
from bolid.demo.train.face_detector import mirrored, turned
from bolid.demo.train.face_figures import area_under_curve, threshold_at
from bolid.demo.train.face_recogniser import TEMPLATE, similarity
from bolid.models.face import Face, FaceAnalyser
from PIL import Image

FOLDER = NETWORKS / "face"
SEED = 730_117  # of neither the training nor the figures on the card
SIZE = (700, 980)

if any(importlib.util.find_spec(name) is None for name in ("insightface", "onnxruntime")):
    pytest.skip("insightface is not installed", allow_module_level=True)


def read(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return parsed


@pytest.fixture(scope="module")
def analyse() -> FaceAnalyser:
    return FaceAnalyser(FOLDER, det_size=tuple(read("training.json")["detection_size"]), threads=1)


@pytest.fixture(scope="module")
def seen(analyse: FaceAnalyser) -> list[tuple[Photo, list[Face]]]:
    """Three photos of each of 24 people, of any framing, pose and view, and the faces found in them."""
    photos = [people.take_photo(SEED, identity, n, size=SIZE) for identity in range(24) for n in range(3)]
    return [(photo, analyse(photo.image)) for photo in photos]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(wide, 0) * max(high, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def clear(photo: Photo) -> bool:
    """Whether half of the face shows and its box's shorter side has 40 pixels."""
    box = photo.truth.face_box
    return box is not None and photo.truth.face_visible >= 0.5 and min(box[2] - box[0], box[3] - box[1]) >= 40


def found_face(photo: Photo, faces: list[Face]) -> Face | None:
    box = photo.truth.face_box
    hits = [face for face in faces if box is not None and overlap(face.box, box) >= 0.4]
    return max(hits, key=lambda face: face.score, default=None)


@pytest.mark.parametrize("change", ["mirror", "quarter", "three quarters"])
def test_landmarks_move_with_the_picture(change: str) -> None:
    rng = np.random.default_rng(5)
    points = rng.permutation(8 * 8)[:7]
    x, y = points % 8, points // 8
    x[:2], y[:2] = np.sort(x[:2]), np.sort(y[:2])
    image = np.zeros((8, 8), int)
    image[y[2:], x[2:]] = np.arange(1, 6)
    faces = np.stack([x, y], 1)[None].astype(np.float32) + np.float32(0.5)
    if change == "mirror":
        moved, picture, order = mirrored(faces, 8), image[:, ::-1], [1, 0, 2, 4, 3]
    else:
        quarters = 1 if change == "quarter" else 3
        moved, picture, order = turned(faces, 8, quarters), np.rot90(image, quarters), [0, 1, 2, 3, 4]
    column, row = (moved[0, 2:] - 0.5).astype(int).T
    assert picture[row, column].tolist() == [i + 1 for i in order]
    box = moved[0, :2]
    assert (box[1] >= box[0]).all()
    sides = [faces[0, 1] - faces[0, 0], (faces[0, 1] - faces[0, 0])[::-1]]
    assert (box[1] - box[0]).tolist() == sides[change != "mirror"].tolist()


def test_alignment_undoes_a_similarity() -> None:
    turn = 1.7 * np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    matrix = similarity(TEMPLATE @ turn.T + (300, 40))
    np.testing.assert_allclose(matrix[:, :2], np.linalg.inv(turn), rtol=1e-5)
    np.testing.assert_allclose(matrix @ (*(turn @ TEMPLATE[2] + (300, 40)), 1), TEMPLATE[2], rtol=1e-5)


def test_figures_of_pairs_by_hand() -> None:
    same, other = np.array([0.9, 0.5, 0.2]), np.array([0.1, 0.2, 0.6])
    wins = 3 + 2 + 1.5  # of nine pairs; 0.2 and 0.2 are a half
    assert area_under_curve(same, other) == pytest.approx(wins / 9)
    many = np.arange(1000) / 1000
    assert (many >= threshold_at(many, 0.01)).mean() <= 0.01
    assert (many >= threshold_at(many, 0.01) - 0.001).mean() >= 0.01


def test_visible_faces_are_found(seen: list[tuple[Photo, list[Face]]]) -> None:
    wanted = [(photo, faces) for photo, faces in seen if clear(photo)]
    assert len(wanted) >= 30
    found = sum(found_face(photo, faces) is not None for photo, faces in wanted)
    assert found / len(wanted) >= 0.95


def test_what_is_found_is_a_face(seen: list[tuple[Photo, list[Face]]]) -> None:
    behind = [(photo, faces) for photo, faces in seen if photo.truth.face_box is None]
    assert len(behind) >= 8
    assert sum(bool(faces) for _, faces in behind) <= 0.1 * len(behind)
    boxes = [(photo, face) for photo, faces in seen for face in faces]
    true = sum(photo.truth.face_box is not None and overlap(f.box, photo.truth.face_box) >= 0.4 for photo, f in boxes)
    assert true / len(boxes) >= 0.95


def test_landmarks_lie_on_the_face(seen: list[tuple[Photo, list[Face]]]) -> None:
    errors = []
    for photo, faces in seen:
        face, marks = found_face(photo, faces), photo.truth.face_landmarks
        if face is not None and marks is not None and clear(photo) and abs(photo.truth.yaw) < 45:
            eyes = float(np.linalg.norm(marks[0] - marks[1]))
            errors.append(float(np.linalg.norm(face.landmarks - marks, axis=1).mean()) / eyes)
    assert len(errors) >= 20
    assert np.median(errors) < 0.12


def test_empty_rooms_hold_no_face(analyse: FaceAnalyser) -> None:
    rooms = [people.empty_room(SEED, n, size=SIZE) for n in range(24)]
    assert sum(bool(analyse(room)) for room in rooms) <= 1


def test_the_same_person_is_told_from_others(seen: list[tuple[Photo, list[Face]]]) -> None:
    known = [(photo.truth.identity, found_face(photo, faces)) for photo, faces in seen if clear(photo)]
    vectors = [(who, face.embedding) for who, face in known if face is not None]
    pairs = [(a == b, float(u @ v)) for (a, u), (b, v) in combinations(vectors, 2)]
    same = np.array([cosine for equal, cosine in pairs if equal])
    other = np.array([cosine for equal, cosine in pairs if not equal])
    assert len(same) >= 20
    # The aim of 0.98 is held on the card's 160 people; among 24 the figure moves by about 0.01 from draw to draw.
    assert (same[:, None] > other).mean() >= 0.97
    threshold = read("figures.json")["threshold_false_match_1e-3"]
    assert (other >= threshold).mean() <= 5e-3


def test_stock_insightface_loads_the_folder_and_finds_the_face(tmp_path: Path) -> None:
    how: dict[str, Any] = {"size": SIZE, "framing": "half", "pose": "standing"}
    photos = [people.take_photo(SEED, 900 + i, 0, yaw=10 * i, **how) for i in (0, 1)]
    for i, photo in enumerate(photos):
        Image.fromarray(photo.image).save(tmp_path / f"{i}.png")
    script = f"""
import json, cv2
from insightface.app import FaceAnalysis
app = FaceAnalysis(name={str(FOLDER)!r}, providers=["CPUExecutionProvider"])
app.prepare(ctx_id=-1, det_size=(640, 640))
found = [app.get(cv2.imread({str(tmp_path)!r} + f"/{{i}}.png")) for i in (0, 1)]
rows = [[f.bbox.tolist(), f.kps.tolist(), f.normed_embedding.tolist()] for faces in found for f in faces]
print("faces", json.dumps(rows))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    rows = json.loads(ran.stdout.rsplit("faces ", 1)[1])
    assert len(rows) == 2
    for photo, (box, marks, embedding) in zip(photos, rows, strict=True):
        assert photo.truth.face_box is not None
        assert photo.truth.face_landmarks is not None
        assert overlap(box, photo.truth.face_box) > 0.6
        eyes = np.linalg.norm(photo.truth.face_landmarks[0] - photo.truth.face_landmarks[1])
        assert np.linalg.norm(np.array(marks) - photo.truth.face_landmarks, axis=1).max() < 0.3 * eyes
        assert len(embedding) == 512
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_files_are_small_and_tell_nothing_of_the_machine_that_made_them() -> None:
    sizes = {file.name: file.stat().st_size for file in FOLDER.glob("*.onnx")}
    assert set(sizes) == {"det.onnx", "rec.onnx"}
    assert sizes["det.onnx"] <= 2_000_000
    assert sizes["rec.onnx"] <= 4_500_000
    for file in FOLDER.iterdir():
        assert not [word for word in (b"/home/", b"/tmp/", b"/work/", b"site-packages") if word in file.read_bytes()]


def test_the_card_reaches_what_was_asked() -> None:
    figures = read("figures.json")
    assert figures["photos"] >= 300
    assert figures["identities"] >= 150
    assert figures["recall_visible_40px"] >= 0.95
    assert figures["auc_same_different"] >= 0.98
    assert read("training.json")["unseen_seed"] not in (SEED, read("training.json")["world"])

"""Pose, face, quality and identity with the demo's networks, on procedural people that no network has seen."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bolid.curation.config import CurateConfig
from bolid.curation.outcome import CurationSummary
from bolid.curation.run import curate
from bolid.curation.what_if import what_if
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.errors import ModelError
from bolid.workspace import Workspace
from PIL import Image, ImageFilter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ultralytics") is None or importlib.util.find_spec("insightface") is None,
    reason="needs the extras pose and face",
)

SEED, SIZE = 4_817, (600, 800)
GALLERIES = 3
STRANGER = 500
"""Identities from here on have no gallery."""
CONFIG = CurateConfig.model_validate(
    {
        "min_res": 500,
        "min_photos": 3,
        "pose_model": "demo-pose",
        "face_model": "demo-face",
        "face": {"min_score": 0.6},
        "identity": {"same": 0.35, "keep": 0.4, "reject": 0.28},
        "quality": {"min_sharpness": 10.0},
    }
)


IDENTITY = ("identity.same=0.35", "identity.keep=0.4", "identity.reject=0.28")


@dataclass
class Shelf:
    """A workspace as a crawl leaves it, and what is true of each photo, by its sha256."""

    workspace: Workspace
    rows: list[dict[str, object]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    truths: dict[str, people.PhotoTruth] = field(default_factory=dict)

    def add(self, identity: int, kind: str, image: np.ndarray, truth: people.PhotoTruth | None = None) -> None:
        data = people.encode_jpeg(image)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.workspace.photo(sha256, "JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        person = people.make_person(SEED, identity)
        row = {"sha256": sha256, "identity": person.slug, "identity_name": person.name, "url": f"http://x/{sha256}"}
        row |= {"page_url": "http://x", "width": image.shape[1], "height": image.shape[0]}
        self.rows.append(row | {"bytes": len(data), "format": "JPEG"})
        self.kinds[sha256] = kind
        if truth is not None:
            self.truths[sha256] = truth


def fill(shelf: Shelf) -> None:
    """Galleries of nine good photos, three of them from the back, and five that are not."""
    for identity in range(GALLERIES):
        for n in range(9):
            yaw = (0.0, 20.0, -35.0, 10.0, -15.0, 50.0, 180.0, -160.0, 150.0)[n]
            framing = ("full", "half", "three-quarter")[n % 3]
            photo = people.take_photo(SEED, identity, n, size=SIZE, yaw=yaw, framing=framing)
            shelf.add(identity, "good", photo.image, photo.truth)
        stranger = STRANGER + identity
        photo = people.take_photo(SEED, stranger, 0, size=SIZE, yaw=0.0, framing="half")
        shelf.add(identity, "wrong_person", photo.image)
        photo = people.take_photo(SEED, stranger, 1, size=SIZE, yaw=180.0, framing="full")
        shelf.add(identity, "stranger from behind", photo.image)
        photo = people.take_photo(SEED, identity, 20, size=SIZE, companions=(stranger,), pose="standing")
        shelf.add(identity, "two_people", photo.image)
        shelf.add(identity, "no_person", people.empty_room(SEED, identity, size=SIZE))
        sharp = Image.fromarray(people.take_photo(SEED, identity, 21, size=SIZE, yaw=0.0).image)
        shelf.add(identity, "blurred", np.asarray(sharp.filter(ImageFilter.GaussianBlur(9))))
    pd.DataFrame(shelf.rows).to_parquet(shelf.workspace.images_table)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shelf, CurationSummary, list[dict]]:
    shelf = Shelf(Workspace(tmp_path_factory.mktemp("people") / "data"))
    fill(shelf)
    summary = curate(shelf.workspace, CONFIG, workers=2)
    return shelf, summary, pq.read_table(shelf.workspace.curated_table).to_pylist()


def by_kind(judged: tuple[Shelf, CurationSummary, list[dict]], kind: str) -> list[dict]:
    shelf, _, rows = judged
    return [row for row in rows if shelf.kinds[row["sha256"]] == kind]


def test_photos_are_rejected_for_what_is_wrong_with_them(judged):
    for reason in ("wrong_person", "two_people", "no_person", "blurred"):
        rows = by_kind(judged, reason)
        assert [row["reject_reason"] for row in rows] == [reason] * GALLERIES, reason


def test_good_photos_are_kept_from_all_sides(judged):
    good = by_kind(judged, "good")
    assert len(good) == 9 * GALLERIES
    assert [row["reject_reason"] for row in good if not row["keep"]] == []
    backs = [row for row in good if abs(judged[0].truths[row["sha256"]].yaw) >= 150]
    assert {row["identity_evidence"] for row in backs} == {"gallery"}
    fronts = [row for row in good if abs(judged[0].truths[row["sha256"]].yaw) <= 20]
    by_face = sum(row["identity_evidence"] == "face" for row in fronts)
    assert by_face >= 0.7 * len(fronts)


def test_somebody_else_from_behind_cannot_be_told_and_stays(judged):
    rows = by_kind(judged, "stranger from behind")
    assert [(row["keep"], row["identity_evidence"]) for row in rows] == [(True, "gallery")] * GALLERIES


def test_keypoints_and_boxes_lie_where_the_body_is(judged):
    shelf, _, _ = judged
    errors = []
    for row in by_kind(judged, "good"):
        truth = shelf.truths[row["sha256"]]
        found, true = np.array(row["keypoints"])[5:], truth.keypoints[5:]
        seen = true[:, 2] == 2
        torso = np.linalg.norm(true[[0, 1], :2].mean(axis=0) - true[[6, 7], :2].mean(axis=0))
        errors += (np.linalg.norm(found[seen, :2] - true[seen, :2], axis=1) / torso).tolist()
        left, top, right, bottom = row["person_box"]
        overlap = intersection_over_union((left, top, right, bottom), truth.person_box)
        assert overlap > 0.7
        assert row["pose_model"] == "demo-pose"
    assert np.median(errors) < 0.1


def intersection_over_union(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (area - width * height)


def test_faces_that_are_stored_are_the_persons_own(judged):
    shelf, _, _ = judged
    faces: dict[str, list[np.ndarray]] = {}
    for row in by_kind(judged, "good"):
        if row["face_embedding"] is not None:
            vector = np.array(row["face_embedding"])
            assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-4)
            assert intersection_over_union(row["face_box"], shelf.truths[row["sha256"]].face_box) > 0.4
            faces.setdefault(row["identity"], []).append(vector)
    centres = {name: np.mean(vectors, axis=0) for name, vectors in faces.items()}
    for name, vectors in faces.items():
        for vector in vectors:
            assert max(centres, key=lambda other: float(vector @ centres[other])) == name


def test_a_threshold_computes_nothing_and_moves_verdicts(judged):
    shelf, before, _ = judged
    changed = CONFIG.model_dump()
    changed["pose"] |= {"second_person": 1.0}
    changed["quality"] |= {"min_sharpness": None}
    after = curate(shelf.workspace, CurateConfig.model_validate(changed), workers=1)
    assert after.computed == 0
    assert before.rejected["pose:two_people"] == before.rejected["quality:blurred"] == GALLERIES
    assert not {"pose:two_people", "quality:blurred"} & set(after.rejected)
    assert curate(shelf.workspace, CONFIG, workers=1).rejected == before.rejected


def test_what_if_predicts_what_a_run_with_other_cosines_decides(judged, tmp_path: Path):
    shelf, _, rows = judged
    shutil.copytree(shelf.workspace.root, tmp_path / "data")
    copy, change = Workspace(tmp_path / "data"), {"keep": 0.9, "reject": 0.86}
    found = what_if(copy, [], [f"identity.{key}={value}" for key, value in change.items()])
    new = CONFIG.model_copy(update={"identity": CONFIG.identity.model_copy(update=change)})
    real = curate(copy, new, workers=1)
    assert found.kept == (sum(row["keep"] for row in rows), real.kept)
    assert real.kept < found.kept[0]
    assert real.computed == 0


def test_without_networks_the_stages_are_skipped_and_said(judged):
    shelf, before, _ = judged
    plain = CurateConfig.model_validate(CONFIG.model_dump() | {"pose_model": "none", "face_model": "none"})
    summary = curate(shelf.workspace, plain, workers=1)
    assert summary.computed == 0
    assert set(summary.not_run) == {"pose", "face", "identity", "caption"}
    assert set(before.networks.values()) == {"demo-pose", "demo-face", "attributes"}
    assert "the stage pose was not run" in shelf.workspace.report.read_text().lower()
    assert not {"pose:no_person", "identity:wrong_person"} & set(summary.rejected)


def test_other_weights_are_computed_anew_and_their_scores_kept_apart(judged, tmp_path: Path):
    shelf, before, _ = judged
    weights = tmp_path / "other.pt"
    data = bytearray((NETWORKS / "pose" / "pose.pt").read_bytes())
    weights.write_bytes(data + b"\0")  # a zip may have something behind it: the same network, another file
    changed = CurateConfig.model_validate(CONFIG.model_dump() | {"pose_model": str(weights)})
    with_other = Workspace(tmp_path / "data")
    shutil.copytree(shelf.workspace.root, with_other.root)
    summary = curate(with_other, changed, workers=1)
    assert summary.computed == len(shelf.rows)
    folders = {stage: len(list((with_other.curation / stage).iterdir())) for stage in ("pose", "face", "quality")}
    assert folders == {"pose": 2, "face": 1, "quality": 2}
    assert summary.rejected == before.rejected
    assert set(pq.read_table(with_other.curated_table)["pose_model"].to_pylist()) == {"other.pt", None}


def test_damaged_weights_end_the_run_and_nothing_is_written(judged, tmp_path: Path):
    shelf, _, _ = judged
    (tmp_path / "bad.pt").write_bytes(b"no network")
    there = Workspace(tmp_path / "data")
    shutil.copytree(shelf.workspace.images, there.images)
    shutil.copy(shelf.workspace.images_table, there.images_table)
    broken = CurateConfig.model_validate(CONFIG.model_dump() | {"pose_model": str(tmp_path / "bad.pt")})
    with pytest.raises(ModelError, match="the stage pose cannot start"):
        curate(there, broken, workers=1)
    assert not there.curated_table.exists()


def test_a_face_model_without_thresholds_judges_nobody_and_says_so(judged, tmp_path: Path):
    shelf, before, _ = judged
    shutil.copytree(NETWORKS / "face", tmp_path / "mine")
    unknown = CONFIG.model_dump() | {"face_model": str(tmp_path / "mine"), "identity": {}}
    unjudged = curate(shelf.workspace, CurateConfig.model_validate(unknown), workers=1)
    assert "--set identity.same=COSINE" in unjudged.not_run["identity"]
    assert "identity:wrong_person" not in unjudged.rejected
    known = CurateConfig.model_validate(unknown | {"identity": {"same": 0.1, "keep": 1.0, "reject": 1.0}})
    summary = curate(shelf.workspace, known, workers=1)
    assert summary.computed == 0  # the same weights under another name
    assert summary.rejected["identity:wrong_person"] > before.rejected["identity:wrong_person"]
    curate(shelf.workspace, CONFIG, workers=1)


def test_the_command_line_names_networks_and_thresholds(judged):
    shelf, before, _ = judged
    words = ["curate", "--min-res", "500", "--min-photos", "3", "--pose", "demo-pose", "--face", "demo-face"]
    thresholds = ("quality.min_sharpness=10", "face.min_score=0.6", *IDENTITY)
    words += [word for threshold in thresholds for word in ("--set", threshold)]
    words += ["--json", "-w", str(shelf.workspace.root)]
    done = subprocess.run([sys.executable, "-m", "bolid.cli", *words], capture_output=True, text=True, check=True)
    for reason, count in before.rejected.items():
        assert f'"rejected {reason}", "photos": {count}}}' in done.stdout
    wrong = [word for word in words if word != "--json"] + ["--set", "pose.mni_score=1"]
    refused = subprocess.run([sys.executable, "-m", "bolid.cli", *wrong], capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "unknown key 'pose.mni_score'; did you mean 'min_score'?" in refused.stderr

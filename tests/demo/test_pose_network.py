"""The demo's pose network on people and rooms of a world that neither its training nor its card has seen."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.models.pose import PoseEstimator
from PIL import Image

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs bolid[pose]")

FOLDER = NETWORKS / "pose"
WEIGHTS = FOLDER / "pose.pt"
STAND_INS = Path(__file__).parents[1] / "stand_ins"
WORLD = 930_001
PHOTOS, ROOMS = 60, 40


@pytest.fixture(scope="module")
def estimate():
    return PoseEstimator(WEIGHTS)


@pytest.fixture(scope="module")
def photos():
    sizes = [(240, 320), (256, 320), (213, 320), (320, 240)]
    return [people.take_photo(WORLD, identity, 0, size=sizes[identity % 4]) for identity in range(PHOTOS)]


def overlap(a, b):
    """Intersection over union of two boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return inside / (np.prod(np.subtract(a[2:], a[:2])) + np.prod(np.subtract(b[2:], b[:2])) - inside)


def within_a_tenth_of_the_torso(photo, keypoints):
    """For each visible keypoint: is it nearer to the truth than a tenth of the projected torso?"""
    xy, _ = photo.camera.project(photo.keypoints_3d)
    torso = np.linalg.norm((xy[5] + xy[6]) / 2 - (xy[11] + xy[12]) / 2)
    seen = photo.truth.keypoints[:, 2] == 2
    away = np.linalg.norm(np.asarray(keypoints)[seen, :2] - photo.truth.keypoints[seen, :2], axis=1)
    return away <= 0.1 * torso


def judge(photos, found):
    """Recall (IoU of 0.5) and PCK@0.1 of poses [(box, keypoints), …] for each photo."""
    recalled, within = [], []
    for photo, poses in zip(photos, found, strict=True):
        overlaps = [overlap(photo.truth.person_box, box) for box, _ in poses]
        hit = bool(overlaps) and max(overlaps) >= 0.5
        recalled.append(hit)
        seen = int((photo.truth.keypoints[:, 2] == 2).sum())
        points = poses[int(np.argmax(overlaps))][1] if hit else None
        within += [False] * seen if points is None else within_a_tenth_of_the_torso(photo, points).tolist()
    return np.mean(recalled), np.mean(within)


def test_people_and_their_keypoints_are_found(estimate, photos):
    found = [[(np.array(pose.box), pose.keypoints) for pose in poses] for poses in estimate([p.image for p in photos])]
    recall, pck = judge(photos, found)
    assert recall >= 0.98
    # 0.90 is the aim, which the network of this card does not reach: what it says must hold for others too.
    assert pck >= min(0.90, json.loads((FOLDER / "figures.json").read_text())["pck_at_0.1_torso"] - 0.06)


def test_empty_rooms_are_empty(estimate):
    rooms = [people.empty_room(WORLD, n, size=(240, 320)) for n in range(ROOMS)]
    assert np.mean([not poses for poses in estimate(rooms)]) >= 0.95


STOCK = """
import json, sys
from ultralytics import YOLO
results = YOLO(sys.argv[1])(sys.argv[2:], verbose=False)
found = [[r.boxes.xyxy.tolist(), r.keypoints.data.tolist()] for r in results]
open(sys.argv[2] + ".json", "w").write(json.dumps(found))
assert not any(name.split(".")[0] == "bolid" for name in sys.modules)
"""


def test_stock_ultralytics_loads_and_runs_it(photos, tmp_path):
    files = []
    for index, photo in enumerate(photos[:20]):
        files.append(tmp_path / f"{index:02d}.png")
        Image.fromarray(photo.image).save(files[-1])
    without_us = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if importlib.util.find_spec("torchvision") is None:
        without_us["PYTHONPATH"] = str(STAND_INS)
    environment = {**without_us, "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path)}
    command = [sys.executable, "-c", STOCK, str(WEIGHTS), *map(str, files)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "00.png.json").read_text())
    found = [list(zip(np.array(boxes), np.array(points), strict=True)) for boxes, points in answer]
    recall, pck = judge(photos[:20], found)
    assert recall >= 0.95  # 19 of 20
    assert pck >= 0.35


def test_the_file_is_small_and_names_no_machine():
    content = WEIGHTS.read_bytes()
    assert len(content) <= 3_000_000
    for path in (b"/tmp", b"/home", b"/root", b"/work", b"site-packages"):
        assert path not in content


def test_the_card_and_the_record_belong_to_the_file(estimate):
    figures = json.loads((FOLDER / "figures.json").read_text())
    training = json.loads((FOLDER / "training.json").read_text())
    assert training["weights_sha256"] == estimate.weights_sha256
    assert figures["weights_bytes"] == WEIGHTS.stat().st_size
    card = (FOLDER / "README.md").read_text()
    assert str(figures["person_recall"]) in card
    assert "For demonstration and tests only" in card

"""The wrapper round ultralytics with the demo's network: what it returns, what it refuses, what it leaves alone."""

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import bolid
import numpy as np
import pytest
from bolid.demo import people
from bolid.demo.networks import NETWORKS
from bolid.errors import MissingExtraError, ModelError, UsageError
from bolid.models import pose as pose_module
from bolid.models.pose import PoseEstimator, ultralytics_calls
from PIL import Image

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs bolid[pose]")

WEIGHTS = NETWORKS / "pose" / "pose.pt"
STAND_INS = Path(__file__).parents[1] / "stand_ins"
NO_TORCHVISION = importlib.util.find_spec("torchvision") is None
WORLD = 31_001


@pytest.fixture(scope="module")
def estimate():
    return PoseEstimator(WEIGHTS)


@pytest.fixture(scope="module")
def photo():
    return people.take_photo(WORLD, 1, 0, size=(240, 320), pose="standing", framing="full", yaw=10.0)


def run(code, **environment):
    """Run Python code in a process of its own; returns its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(bolid.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def keypoint_errors(pose, truth):
    seen = truth.keypoints[:, 2] == 2
    return np.linalg.norm(pose.keypoints[seen, :2] - truth.keypoints[seen, :2], axis=1)


def test_a_person_is_found_where_they_are(estimate, photo):
    (pose,) = estimate([photo.image])[0]
    assert 0.25 <= pose.score <= 1
    assert np.abs(np.array(pose.box) - photo.truth.person_box).max() < 0.05 * 320
    assert np.median(keypoint_errors(pose, photo.truth)) < 0.03 * 320
    assert pose.keypoints.dtype == np.float32
    assert pose.keypoints.shape == (17, 3)


def test_left_is_the_persons_left(estimate, photo):
    # Facing the camera, the person's left (odd numbers) is at the image's right.
    (pose,) = estimate([photo.image])[0]
    for left, right in ((5, 6), (11, 12), (15, 16)):
        assert pose.keypoints[left, 0] > pose.keypoints[right, 0]


def test_two_people_are_two_poses_best_first_and_inside_the_image(estimate):
    photo = people.take_photo(WORLD, 2, 0, size=(320, 320), pose="standing", framing="full", companions=(3,))
    poses = estimate([photo.image])[0]
    assert len(poses) == 2
    assert poses[0].score >= poses[1].score
    truths = [photo.truth, *photo.truth.companions]
    for truth in truths:
        assert min(np.abs(np.array(pose.box) - truth.person_box).max() for pose in poses) < 0.08 * 320
    for pose in poses:
        x0, y0, x1, y1 = pose.box
        assert 0 <= x0 < x1 <= 320
        assert 0 <= y0 < y1 <= 320
        assert ((pose.keypoints[:, 2] >= 0) & (pose.keypoints[:, 2] <= 1)).all()


def test_channels_are_read_as_red_green_blue(estimate, photo, tmp_path):
    # ultralytics reads a file itself and knows the order of its channels.
    Image.fromarray(photo.image).save(tmp_path / "photo.png")
    with ultralytics_calls() as ultralytics:
        (stock,) = ultralytics.YOLO(str(WEIGHTS)).predict(str(tmp_path / "photo.png"), rect=False, verbose=False)
    (pose,) = estimate([photo.image])[0]
    np.testing.assert_allclose(pose.keypoints, stock.keypoints.data[0].numpy(), atol=1e-3)
    (exchanged, *_) = estimate([np.ascontiguousarray(photo.image[:, :, ::-1])])[0]
    assert np.abs(exchanged.keypoints - pose.keypoints).max() > 0.1


def test_coordinates_are_those_of_the_given_image(estimate, photo):
    (small,) = estimate([photo.image])[0]
    doubled = np.asarray(Image.fromarray(photo.image).resize((480, 640), Image.Resampling.BICUBIC))
    (large,) = estimate([doubled])[0]
    np.testing.assert_allclose(np.array(large.box) / 2, small.box, atol=6)
    assert np.median(np.abs(large.keypoints[:, :2] / 2 - small.keypoints[:, :2])) < 3


def test_a_photo_is_judged_alone_whatever_the_list_holds(estimate, photo):
    wide = people.take_photo(WORLD, 4, 0, size=(320, 200), framing="portrait").image
    alone = estimate([photo.image])[0]
    together = estimate([wide, photo.image])
    assert len(together) == 2
    assert len(together[1]) == len(alone)
    np.testing.assert_allclose(together[1][0].keypoints, alone[0].keypoints, atol=0.05)


def test_people_under_the_confidence_are_not_returned(photo):
    (found,) = PoseEstimator(WEIGHTS)([photo.image])[0]
    assert PoseEstimator(WEIGHTS, confidence=(found.score + 1) / 2)([photo.image]) == [[]]


def test_no_photos_no_poses(estimate):
    assert estimate([]) == []


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)]
)
def test_only_rgb_bytes_are_taken(estimate, image):
    with pytest.raises(UsageError, match=r"uint8 \[H, W, 3\] RGB"):
        estimate([image])


def test_the_weights_are_named_by_their_hash(estimate):
    printed = subprocess.run(["sha256sum", str(WEIGHTS)], capture_output=True, text=True, check=True).stdout
    assert estimate.weights_sha256 == printed.split()[0]


def test_missing_weights_say_what_fetches_them(tmp_path):
    with pytest.raises(ModelError, match="bolid models pull yolo11x-pose"):
        PoseEstimator(tmp_path / "none.pt")


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"no network", lambda whole: whole[:100_000]])
def test_damaged_weights_are_refused(tmp_path, damage):
    file = tmp_path / "damaged.pt"
    file.write_bytes(damage(WEIGHTS.read_bytes()))
    with pytest.raises(ModelError, match=r"damaged\.pt is not a network of ultralytics or is damaged"):
        PoseEstimator(file)


class _Intruder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    import torch

    torch.save({"model": _Intruder(tmp_path / "intruded")}, tmp_path / "network.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"model": _Intruder(tmp_path / "intruded")}))
    for name in ("network.pt", "plain.pt"):
        with pytest.raises(ModelError):
            PoseEstimator(tmp_path / name)
    assert not (tmp_path / "intruded").exists()


@pytest.mark.parametrize(
    ("description", "what"),
    [("yolo11n.yaml", "a detect network"), ("five.yaml", r"a pose network with keypoints \[5, 3\]")],
)
def test_other_networks_are_refused(tmp_path, description, what):
    with ultralytics_calls() as ultralytics:
        if description == "five.yaml":
            from ultralytics.utils import YAML

            folder = Path(ultralytics.__file__).parent / "cfg" / "models" / "11"
            YAML.save(tmp_path / description, YAML.load(folder / "yolo11-pose.yaml") | {"kpt_shape": [5, 3]})
            description = str(tmp_path / description)
        ultralytics.YOLO(description).save(tmp_path / "other.pt")
    with pytest.raises(ModelError, match=what):
        PoseEstimator(tmp_path / "other.pt")


def test_ultralytics_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(MissingExtraError, match=r"ultralytics is not installed; run: pip install 'bolid\[pose\]'"):
        PoseEstimator(WEIGHTS)


def test_the_licence_is_said_once(capsys, photo):
    pose_module._say_licence.cache_clear()
    for _ in range(2):
        PoseEstimator(WEIGHTS)([photo.image])
    assert capsys.readouterr().err.count("AGPL-3.0") == 1


@pytest.mark.skipif(not NO_TORCHVISION, reason="torchvision is installed")
def test_nobody_else_believes_in_torchvision(estimate, photo):
    import importlib.metadata

    from transformers.utils.import_utils import is_torchvision_available

    version = importlib.metadata.version
    estimate([photo.image])
    assert "torchvision" not in sys.modules
    assert importlib.metadata.version is version
    assert not is_torchvision_available()


def test_a_torchvision_that_is_there_is_left_alone():
    code = f"""
import sys, numpy, pathlib, torchvision
from bolid.models.pose import PoseEstimator, ultralytics_calls
there = torchvision
PoseEstimator(pathlib.Path({str(WEIGHTS)!r}))([numpy.zeros((64, 64, 3), numpy.uint8)])
with ultralytics_calls():
    assert sys.modules["torchvision"] is there
print("left alone")
"""
    path = str(Path(bolid.__file__).parents[1])
    if NO_TORCHVISION:
        path += os.pathsep + str(STAND_INS)
    assert run(code, PYTHONPATH=path) == "left alone\n"


def test_the_home_folder_stays_empty_and_so_does_the_temporary_one(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = f"""
import numpy, pathlib
from bolid.models.pose import PoseEstimator
print(len(PoseEstimator(pathlib.Path({str(WEIGHTS)!r}))([numpy.zeros((64, 64, 3), numpy.uint8)])))
"""
    places = {name: str(home / name) for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    assert run(code, HOME=str(home), TMPDIR=str(temporary), **places) == "1\n"
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_what_ultralytics_replaces_is_put_back():
    code = """
import io, PIL.Image, torch
before = PIL.Image.open, torch.save
from bolid.models.pose import ultralytics_calls
with ultralytics_calls():
    pass
print((PIL.Image.open, torch.save) == before)
"""
    assert run(code) == "True\n"

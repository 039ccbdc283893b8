"""Which networks are used, and that new weights are new scores."""

import hashlib
import importlib.util
from pathlib import Path

import pytest
from bolid.curation import networks
from bolid.curation.config import CurateConfig
from bolid.curation.decisions import cosines_of
from bolid.curation.networks import Absence, Network
from bolid.curation.stages.face import FaceStage
from bolid.curation.stages.identity import Cosines
from bolid.curation.stages.pose import PoseStage
from bolid.curation.stages.quality import QualityStage
from bolid.errors import MissingExtraError, ModelError, UsageError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Packages that seem to be installed, to be changed by a test; no network has been pulled."""
    there = {"ultralytics", "insightface", "onnxruntime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path / "models"))
    return there


def test_a_file_of_the_users_own_has_its_name_and_its_sum(installed: set[str], tmp_path: Path):
    weights = tmp_path / "mine.pt"
    weights.write_bytes(b"weights")
    found = networks.choose("pose", str(weights))
    assert isinstance(found, Network)
    assert (found.name, found.path) == ("mine.pt", str(weights))
    assert found.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found.thresholds == {}


def test_the_sum_of_a_folder_is_that_of_its_networks_whatever_they_are_called(tmp_path: Path):
    for folder, names in (("one", ("det", "rec")), ("two", ("b", "a"))):
        (tmp_path / folder).mkdir()
        for name, data in zip(names, (b"detector", b"recogniser"), strict=True):
            (tmp_path / folder / f"{name}.onnx").write_bytes(data)
    (tmp_path / "two" / "README.md").write_text("a card")
    one = networks.digest(tmp_path / "one")
    assert networks.digest(tmp_path / "two") == one
    (tmp_path / "two" / "a.onnx").write_bytes(b"recogniser, better")
    assert networks.digest(tmp_path / "two") != one


def test_the_usual_network_that_is_not_here_is_a_reason_not_an_error(installed: set[str]):
    absent = networks.choose("pose", None)
    assert isinstance(absent, Absence)
    assert "bolid models pull yolo11x-pose" in absent.why
    installed.clear()
    assert "pip install 'bolid[face]'" in networks.choose("face", None).why
    assert isinstance(networks.choose("face", "none"), Absence)


def test_a_network_that_was_asked_for_must_be_here(installed: set[str], tmp_path: Path):
    with pytest.raises(ModelError, match="bolid models pull yolo11n-pose"):
        networks.choose("pose", "yolo11n-pose")
    with pytest.raises(UsageError, match="yolo11n-pose"):
        networks.choose("pose", "yolo11n-pse")
    (tmp_path / "any.pt").write_bytes(b"")
    installed.remove("ultralytics")
    with pytest.raises(MissingExtraError, match=r"pip install 'bolid\[pose\]'"):
        networks.choose("pose", str(tmp_path / "any.pt"))


def test_a_network_of_another_task_is_refused(installed: set[str]):
    with pytest.raises(ModelError, match="demo-face is a network for face, not for pose"):
        networks.choose("pose", "demo-face")


def test_new_weights_are_new_scores_of_that_stage_and_of_what_builds_on_it():
    one, two = (Network("demo", "somewhere", weights) for weights in ("a" * 64, "b" * 64))
    for stage in (PoseStage, FaceStage):
        assert stage(one).key.fingerprint == stage(Network("renamed", "elsewhere", "a" * 64)).key.fingerprint
        assert stage(one).key.fingerprint != stage(two).key.fingerprint
        built = [QualityStage([stage(network)]).key.fingerprint for network in (one, two, one)]
        assert built[0] == built[2] != built[1]
    larger = Network("demo", "somewhere", "a" * 64, image_size=1280)
    assert FaceStage(larger).key.fingerprint != FaceStage(one).key.fingerprint


def test_the_face_models_thresholds_are_used_and_the_users_win():
    plain, known = CurateConfig(), {"same_person": 0.28, "identity_keep": 0.4, "identity_reject": 0.28}
    assert cosines_of(plain, {}) is None
    assert cosines_of(plain, known) == Cosines(same=0.28, keep=0.4, reject=0.28, merge=None)
    strict = CurateConfig.model_validate({"identity": {"keep": 0.5}})
    assert cosines_of(strict, known) == Cosines(same=0.28, keep=0.5, reject=0.28, merge=None)
    own = CurateConfig.model_validate({"identity": {"same": 0.3}})
    assert cosines_of(own, {}) == Cosines(same=0.3)

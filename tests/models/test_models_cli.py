"""`bolid models` as a user meets it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bolid.models import registry

DATA = b"weights" * 10_000
NAME = "yolo11x-pose"
FILE = "yolo11x-pose.pt"


@pytest.fixture
def mirror(tmp_path) -> Path:
    (tmp_path / "mirror" / NAME).mkdir(parents=True)
    (tmp_path / "mirror" / NAME / FILE).write_bytes(DATA)
    return tmp_path / "mirror"


def models(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bolid.cli", "models", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "BOLID_MODELS": str(tmp_path / "models"), "COLUMNS": "200", **environment},
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_shows_every_network(tmp_path):
    done = models(tmp_path, "list")
    assert done.returncode == 0
    assert [name for name in registry.names() if f" {name} " not in done.stdout] == []


def test_list_for_machines_says_all_that_is_known(tmp_path):
    told = {line["name"]: line for line in lines(models(tmp_path, "list", "--json"))}
    assert list(told) == list(registry.names())
    pose = told["yolo11n-pose"]
    assert pose["source"] == "https://github.com/ultralytics/assets/releases/download/v8.3.0/yolo11n-pose.pt"
    assert (pose["licence"], pose["commercial"], pose["free"], pose["here"]) == ("agpl-3.0", "conditions", False, False)
    assert told["buffalo_l"]["commercial"] == "no"
    assert told["sdxl-lightning-1step"]["hints"]["prediction_type"] == "sample"


def test_the_road_of_a_network(tmp_path, mirror):
    assert models(tmp_path, "path", NAME).returncode == 11

    refused = models(tmp_path, "pull", NAME, BOLID_MIRROR=str(mirror))
    assert refused.returncode == 7
    assert "GNU Affero General Public License 3.0" in refused.stderr
    assert f"run: bolid models pull {NAME} --accept-licence" in refused.stderr
    assert not (tmp_path / "models" / NAME).exists()

    pulled = models(tmp_path, "pull", NAME, "--accept-licence", BOLID_MIRROR=str(mirror))
    assert pulled.returncode == 0, pulled.stderr
    file = tmp_path / "models" / NAME / FILE
    assert pulled.stdout.strip() == models(tmp_path, "path", NAME).stdout.strip() == str(file)
    assert file.read_bytes() == DATA

    again = models(tmp_path, "pull", NAME, "--json", BOLID_MIRROR=str(mirror))
    assert lines(again)[-1] == {
        "event": "pulled", "path": str(file), "name": NAME, "state": "here", "bytes": len(DATA),
    }  # fmt: skip

    assert models(tmp_path, "verify").returncode == 0
    file.write_bytes(DATA[:-1] + b"?")
    damaged = models(tmp_path, "verify", NAME)
    assert damaged.returncode == 11
    assert f"{file} is damaged; run: bolid models pull {NAME}" in damaged.stderr
    assert {line["event"]: line for line in lines(models(tmp_path, "verify", NAME, "--json"))}["verified"] == {
        "event": "verified", "name": NAME, "files": 1, "MB": 0.1, "state": "damaged",
    }  # fmt: skip


def test_a_list_of_allowed_licences_accepts(tmp_path, mirror):
    done = models(tmp_path, "pull", NAME, "--allowed-licenses", "Apache-2.0, AGPL-3.0", BOLID_MIRROR=str(mirror))
    assert done.returncode == 0, done.stderr
    refused = models(tmp_path, "pull", NAME, "--allowed-licenses", "apache-2.0,mit", BOLID_MIRROR=str(mirror))
    assert refused.returncode == 7
    assert f"{NAME} is under agpl-3.0, which --allowed-licenses does not list" in refused.stderr


@pytest.mark.parametrize("command", ["pull", "path", "verify"])
def test_a_wrong_name_is_a_wrong_argument(tmp_path, command):
    done = models(tmp_path, command, "yolo11n_pose")
    assert done.returncode == 2
    assert "did you mean" in done.stderr


def test_verify_of_what_is_not_here_says_what_to_run(tmp_path):
    done = models(tmp_path, "verify", "buffalo_l")
    assert done.returncode == 11
    assert "run: bolid models pull buffalo_l" in done.stderr


def test_wrong_bytes_end_with_a_code_of_their_own(tmp_path, mirror):
    (mirror / "yolo11n-pose").mkdir()
    (mirror / "yolo11n-pose" / "yolo11n-pose.pt").write_bytes(DATA)
    done = models(tmp_path, "pull", "yolo11n-pose", "--accept-licence", BOLID_MIRROR=str(mirror))
    assert done.returncode == 13
    assert f"has sha256 {hashlib.sha256(DATA).hexdigest()}, expected 869e83fcdffdc737" in done.stderr
    assert not list((tmp_path / "models" / "yolo11n-pose").glob("*"))

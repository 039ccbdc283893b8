"""The whole road, small: what `bolid demo` leaves is what the architecture says, and Ctrl-C leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import webdataset
from bolid.workspace import Workspace

IDENTITIES, PHOTOS = 3, 12


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    words = ["demo", "--identities", str(IDENTITIES), "--photos", str(PHOTOS), "--seed", "3", "--keep", str(folder)]
    run = subprocess.run(
        [sys.executable, "-m", "bolid.cli", *words], capture_output=True, text=True, check=False, timeout=500
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return Workspace(folder / "data"), run


def test_every_command_is_shown_as_the_user_would_type_it(done):
    typed = [line.split()[2:4] for line in done[1].stderr.splitlines() if line.startswith("$ bolid ")]
    expected = ["crawl", "status", "curate", "pack", "shards", "train", "train", "generate", "eval"]
    assert [words[0] for words in typed] == expected
    assert [words[1] for words in typed if words[0] == "train"] == ["vae", "adapter"]


def test_the_table_holds_the_crawl_and_the_curation_against_the_truth(done):
    rows = {cells[0]: cells[1:] for line in done[1].stdout.splitlines() if len(cells := table_cells(line)) == 5}
    offers = json.loads((done[0].root.parent / "site" / "truth.json").read_text())["photos_offered"]
    assert rows["photos offered"][:2] == [str(IDENTITIES * PHOTOS)] * 2
    suppressed = next(cells[0] for name, cells in rows.items() if "suppress.txt" in name)
    assert suppressed == "1"
    for kind in ("undersized", "not an image", "exact copy", "truncated", "two people", "empty room", "blurred"):
        expected = str(sum(offer["kind"] == kind.replace(" ", "_") for offer in offers))
        share = "1.000" if int(expected) else ""
        assert rows[f"{'failed' if kind == 'truncated' else 'rejected'}: {kind}"] == [expected, expected, share, share]
    measured = rows.get("of those whose face was measured")
    assert measured is None or measured[0] == measured[1]
    assert rows["good photos lost"][0] == rows["good views from behind lost"][0] == "0"


def table_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("│").split("│")]


def test_every_photo_of_the_crawl_has_a_verdict(done):
    images, curated = pd.read_parquet(done[0].images_table), pd.read_parquet(done[0].curated_table)
    assert list(curated["url"]) == list(images["url"])
    assert (curated["keep"] == curated["reject_stage"].isna()).all()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_shards_open_in_webdataset_with_the_kept_photos(done):
    curated = pd.read_parquet(done[0].curated_table)
    samples = []
    for tar in sorted(done[0].shards.glob("*.tar")):
        stream = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
        samples += [json.loads(sample["json"]) for sample in stream]
        with tarfile.open(tar) as opened:
            assert all(member.mtime == 0 for member in opened)
    assert sorted(sample["sha256"] for sample in samples) == sorted(curated["sha256"][curated["keep"]])
    assert {sample["pose_model"] for sample in samples} == {"demo-pose"}
    assert all(0 < sample["pose_confidence"] <= 1 for sample in samples)
    assert 0 < sum(sample["has_face"] for sample in samples) < len(samples)


def test_training_and_evaluation_left_what_they_say(done):
    workspace = done[0]
    for name in ("vae", "adapter"):
        assert (workspace.run(name) / "config.toml").exists()
        losses = [json.loads(line) for line in (workspace.run(name) / "metrics.jsonl").read_text().splitlines()]
        assert len([row for row in losses if "loss" in row]) == {"vae": 150, "adapter": 100}[name]
    assert {path.name for path in workspace.export("adapter").iterdir()} >= {"face.safetensors", "body.safetensors"}
    figures = json.loads((workspace.evaluation / "figures.json").read_text())["figures"]
    assert any(figure["value"] is not None for figure in figures)
    assert len(list(workspace.pictures.glob("*.png"))) == 2


def test_every_path_that_is_printed_exists(done):
    printed = [line for line in done[1].stdout.splitlines() if line.startswith("/") and ": " not in line]
    assert len(printed) > 8
    assert all(Path(line).exists() for line in printed)


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path):
    precious = tmp_path / "data" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    command = [sys.executable, "-m", "bolid.cli", "demo", "--keep", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert "was not made by a demo" in run.stderr
    assert precious.read_text() == "years of work"


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path):
    words = ["demo", "--identities", "3", "--photos", "6", "--keep", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "bolid.cli", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("$ bolid curate"):
                break
        time.sleep(1.0)  # into the command
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        assert len(family) > 1
        os.kill(run.pid, signal.SIGINT)
        run.stderr.read()
        assert run.wait(60) == 130
    _gone, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []

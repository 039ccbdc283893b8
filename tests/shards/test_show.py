import json
from pathlib import Path

import numpy as np
import pytest
from bolid import progress
from bolid.errors import UsageError
from bolid.shards import PackConfig, PackSummary, pack, show, stats, tell_shown, tell_stats
from PIL import Image

from .conftest import Curation, encoded


def test_keypoints_and_boxes_are_drawn_where_they_are(curation: Curation, tmp_path: Path) -> None:
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[5], keypoints[6] = (150, 60, 0.9), (50, 60, 0.9)
    data = encoded(Image.new("RGB", (200, 200)), "JPEG")
    columns = {"keypoints": keypoints.ravel().tolist(), "person_box": [20.0, 30.0, 180.0, 190.0]}
    curation.add("ada", data, **columns, pose_model="m", pose_confidence=0.5, caption="in the dark")
    out = pack(curation.write(), PackConfig()).out
    [line] = show(out, "i000000_000000", tmp_path / "one.png")
    assert line.startswith("i000000_000000 · Ada · 200×200 · pose 0.50 (m) · no face · in the dark · https://")
    pixels = np.asarray(Image.open(tmp_path / "one.png")).astype(int)
    assert pixels[60, 150].tolist() == [0xFF, 0x9F, 0x1C]  # left shoulder
    assert pixels[60, 50].tolist() == [0x2E, 0xC4, 0xB6]  # right shoulder
    assert pixels[60, 100].min() == 255  # the line between them
    assert pixels[100, 20].tolist() == [0xE7, 0x1D, 0x36]  # the box
    assert pixels[130, 100].max() < 10


def test_an_identity_is_a_contact_sheet(packed: PackSummary, tmp_path: Path) -> None:
    lines = show(packed.out, "person_002", tmp_path / "sheet.jpg")
    assert len(lines) == 5
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > 5 * 320
    tell_shown(packed.out, "2", tmp_path / "again.png")
    assert (tmp_path / "again.png").exists()


def test_an_unknown_name_says_so(packed: PackSummary, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sample or identity 'nobody'"):
        show(packed.out, "nobody", tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_stats_count_what_is_there(curation: Curation) -> None:
    curation.add_people(people=3, photos=2)
    curation.add("solo", encoded(Image.new("RGB", (30, 90)), "JPEG"), face_embedding=[0.1] * 512, pose_confidence=0.5)
    [train] = stats(pack(curation.write(), PackConfig(split=(1, 0, 0))).out)
    assert (train.identities, train.samples, train.retired, train.single) == (4, 7, 0, 1)
    assert (train.photos[0], train.photos[-1]) == (1, 2)
    assert (train.short_side[0], train.short_side[-1]) == (30, 48)
    assert (train.posed, train.faces) == (1, 1)


def test_the_tables_name_the_dataset(packed: PackSummary, capsys: pytest.CaptureFixture[str]) -> None:
    tell_stats(packed.out)
    told = capsys.readouterr().out
    for expected in ("train", "val", "test", "1 pack(s)", str(packed.out)):
        assert expected in told


def test_json_lines_carry_the_same(packed: PackSummary, capsys: pytest.CaptureFixture[str]) -> None:
    progress.use_json_lines(True)
    try:
        tell_stats(packed.out)
    finally:
        progress.use_json_lines(False)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["split"]: event["photos"] for event in events} == packed.samples

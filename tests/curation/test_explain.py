import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
from bolid.curation.config import CurateConfig
from bolid.curation.explain import Story, explain
from bolid.curation.run import curate
from bolid.errors import UsageError, WorkspaceError
from bolid.workspace import Workspace

from .conftest import photo, shelve

CONFIG = CurateConfig(min_res=60, min_photos=2, pose_model="none", face_model="none", caption="none")
KEPT, SMALL, TWIN, BROKEN, LOST = photo(1), photo(2, (40, 50)), photo(3), photo(4)[:900], photo(5)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ann = [("ann", data) for data in (KEPT, SMALL, TWIN, TWIN, photo(2), BROKEN, LOST)]
    workspace = shelve(tmp_path_factory.mktemp("told"), [*ann, ("bob", TWIN), ("bob", photo(6))])
    workspace.photo(sha(LOST), "JPEG").unlink()
    curate(workspace, CONFIG, workers=1)
    return workspace


def lines(story: Story) -> dict[str, str]:
    assert len(story.lines) <= 14
    return dict(story.lines)


def test_a_kept_photo_is_told_in_some_ten_lines(curated: Workspace):
    (story,) = explain(curated, sha(KEPT))
    told = lines(story)
    assert (story.sha256, story.identity, story.verdict) == (sha(KEPT), "ann", "kept")
    assert told["photo"] == f"{sha(KEPT)}  {curated.photo(sha(KEPT), 'JPEG')}"
    assert told["gallery"] == "ann (Ann)"
    assert told["source"] == "http://x/0 · http://x"
    assert told["size"].startswith("64 × 80 px, upright 64 × 80")
    assert "short side 64 px (at least 60), aspect 1.25 (at most 3)" in told["decode"]
    assert told["pose"] == "not run"
    assert told["verdict"] == "kept"
    assert "not asked" not in told


def test_a_rejected_photo_says_what_decided_and_what_was_not_asked_any_more(curated: Workspace):
    (story,) = explain(curated, sha(SMALL))
    told = lines(story)
    assert told["decode"].startswith("rejected; short side 40 px (at least 60)")
    assert told["verdict"] == "rejected by decode: too_small, 40 against 60, margin -20"
    assert set(told["not asked"].split(", ")) >= {"pose", "quality", "identity", "coverage"}
    assert told["nearest"].startswith(f"kept photo most alike: {sha(photo(2))}, ")  # the same picture, larger


def test_what_has_no_picture_and_what_failed_have_a_story(curated: Workspace):
    assert lines(explain(curated, sha(BROKEN))[0])["verdict"] == "rejected by decode: corrupt"
    failed = lines(explain(curated, sha(LOST))[0])
    assert failed["verdict"] == "failed: the file is missing; the next run tries again"
    assert "decode" not in failed


def test_exact_copies_have_a_story_each(curated: Workspace):
    stories = explain(curated, sha(TWIN))
    assert sorted((story.identity, story.verdict) for story in stories) == [
        ("ann", "kept"), ("ann", "rejected"), ("bob", "kept")
    ]  # fmt: skip
    copy = next(lines(story) for story in stories if story.verdict == "rejected")
    assert copy["duplicates"] == f"rejected; exact_duplicate of {sha(TWIN)}: 0 bits differ (the same bytes)"
    assert copy["gallery"] == "ann (Ann); the same bytes are in bob"


def test_a_photo_is_found_by_its_beginning_file_and_address(curated: Workspace, tmp_path: Path):
    everybody = {row for row in pd.read_parquet(curated.curated_table)["sha256"] if row != sha(KEPT)}
    shortest = next(n for n in range(1, 65) if not any(other.startswith(sha(KEPT)[:n]) for other in everybody))
    copy = tmp_path / "my own copy.jpg"
    copy.write_bytes(KEPT)
    for way in (sha(KEPT)[:shortest], sha(KEPT)[:20].upper(), str(copy), str(curated.photo(sha(KEPT), "JPEG"))):
        assert [story.sha256 for story in explain(curated, way)] == [sha(KEPT)], way
    assert [story.sha256 for story in explain(curated, "http://x/0")] == [sha(KEPT)]


def test_what_is_not_one_photo_is_a_message(curated: Workspace, tmp_path: Path):
    table = pd.read_parquet(curated.curated_table)
    other = Workspace(tmp_path / "data")
    shutil.copytree(curated.root, other.root)
    table.assign(sha256=["abc" + one[3:] for one in table["sha256"]]).to_parquet(other.curated_table)
    with pytest.raises(UsageError, match=r"fits 7 photos: abc.*, abc.* and 2 more; give one"):
        explain(other, "abc")
    with pytest.raises(UsageError, match=r"is not in .*curated.parquet; .* bolid curate"):
        explain(curated, "0" * 64)
    with pytest.raises(UsageError, match="is not in"):
        explain(curated, "http://elsewhere/1.jpg")
    (tmp_path / "strange.jpg").write_bytes(photo(99))
    with pytest.raises(UsageError, match=r"strange\.jpg, by its bytes, is not in"):
        explain(curated, str(tmp_path / "strange.jpg"))
    with pytest.raises(UsageError, match="no file here, no address, and not the beginning"):
        explain(curated, "nobody.jpg")
    with pytest.raises(WorkspaceError, match="run first: bolid curate"):
        explain(Workspace(tmp_path / "none"), "abc")

"""Scores are looked up where they lie: in memory while they are few, else in a mapped file without a name."""

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import decisions, hamming, ledger, run, scores, spool, table
from bolid.curation.config import CurateConfig
from bolid.curation.measured import Photos, measured, some
from bolid.curation.stage import StageKey
from bolid.curation.stages import identity
from bolid.workspace import Workspace

CONFIG = CurateConfig(min_photos=2, pose_model="demo-pose", face_model="demo-face", caption="none")
EACH = 32
POOLS: list[pa.MemoryPool] = []
"""Those that measured: each must live as long as what it gave out."""


def plain(rows: int) -> pa.Table:
    chance = np.random.default_rng(rows)
    lists = [None if n % 7 == 3 else chance.random(n % 5).tolist() for n in range(rows)]
    return pa.table({"number": pa.array(range(rows)), "list": pa.array(lists, pa.list_(pa.float32()))})


def pieces(whole: pa.Table, size: int) -> list[pa.Table]:
    return [whole.slice(begin, size) for begin in range(0, whole.num_rows, size)]


@pytest.mark.parametrize("held", [0, 1 << 30])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_rows_are_taken_in_any_order_from_memory_or_file(
    held: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "HELD", held)
    monkeypatch.setattr(spool, "ROWS", 16)
    whole = plain(100)
    stored = spool.stored(pieces(whole, size), whole.schema, tmp_path)
    assert list(tmp_path.iterdir()) == []  # while it is in use: a killed process leaves nothing either
    assert stored.table.equals(whole)
    for chosen in ([], [99], [0, 1, 2], [15, 16, 17], [50, 3, 99, 3, 0]):
        found = stored.take(np.array(chosen, np.int64), ["list", "number"])
        assert found.equals(whole.select(["list", "number"]).take(pa.array(chosen, pa.int64())))


def test_what_is_in_a_file_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "HELD", 0)
    whole = plain(5000)
    before = pa.total_allocated_bytes()
    stored = spool.stored(pieces(whole, 500), whole.schema, tmp_path)
    assert stored.table.num_rows == 5000
    assert pa.total_allocated_bytes() == before


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "HELD", 0)
    whole = plain(40)
    assert spool.stored([whole], whole.schema, tmp_path / "is" / "not" / "there").table.equals(whole)


def test_columns_of_words_with_a_dictionary_each_batch_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "HELD", 0)
    monkeypatch.setattr(spool, "ROWS", 1)
    parts = [pa.table({"word": pa.array([word]).dictionary_encode()}) for word in ("one", "other")]
    assert spool.stored(parts, parts[0].schema, tmp_path).table["word"].to_pylist() == ["one", "other"]


class Stage:
    needs = ()

    def __init__(self, name: str) -> None:
        self.key = StageKey(name, 1)
        self.schema = pa.schema([("sha256", pa.string()), (name, pa.int64())])


def test_stages_are_read_side_by_side_whatever_the_order_of_their_parts(tmp_path: Path) -> None:
    one, other = Stage("one"), Stage("other")
    shas = [f"s{n}" for n in range(6)]
    for stage, order in ((one, [4, 0, 5, 1, 2, 3]), (other, [3, 2, 0, 4])):
        for n in order:
            for times in (1, 2):  # in two parts, as after a kill while parts were put together
                members = [shas[n], f"gone{n}"][:times]
                found = pa.table([members, pa.array([10 * n, -1][:times])], stage.schema)
                ledger.write_part(tmp_path, stage, found)
    found = scores.read([one, other], shas, tmp_path)
    assert [found.lacking(sha256) for sha256 in shas] == [(), (1,), (), (), (), (1,)]
    assert found.take(["s3", "s0"]).to_pylist() == [
        {"sha256": "s3", "one": 30, "other": 30}, {"sha256": "s0", "one": 0, "other": 0}
    ]  # fmt: skip
    assert found.take(["s5"], ["one"]).to_pylist() == [{"sha256": "s5", "one": 50}]
    with pytest.raises(KeyError):
        found.take(["s0", "s5"])


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def world(folder: Path, photos: int) -> Workspace:
    """A crawl of identities with `EACH` photos of one person, and a ledger that holds their scores."""
    workspace, chance = Workspace(folder), np.random.default_rng(3)
    shas = [sha(number) for number in range(photos)]
    slugs = [f"p{number // EACH:05d}" for number in range(photos)]
    columns = dict.fromkeys(("identity", "identity_name", "url", "page_url"), slugs)
    sizes = dict.fromkeys(("width", "height", "bytes"), [1200] * photos)
    folder.mkdir()
    images = pa.table({"sha256": shas, **columns, **sizes, "format": ["JPEG"] * photos})
    pq.write_table(images, workspace.images_table)
    stages = run._stages(run._networks(CONFIG, tell=False)[0], CONFIG, "cpu")
    for begin in range(0, photos, 128):
        count = min(128, photos - begin)
        faces = np.repeat(chance.standard_normal((count // EACH, 512)), EACH, axis=0).astype(np.float32)
        faces += 0.3 * chance.standard_normal(faces.shape).astype(np.float32)
        pose = np.stack([600 + 100 * np.sin(np.arange(17)), np.linspace(200, 1400, 17), np.full(17, 0.9)], axis=1)
        known = {
            "sha256": shas[begin : begin + count],
            "decoded_width": [1200] * count,
            "decoded_height": [1500] * count,
            "sharpness": chance.uniform(10, 900, count),
            "phash": chance.integers(0, 2**64, count, dtype=np.uint64),
            "pose_boxes": [[300, 150, 900, 1450]] * count,
            "pose_scores": [[0.9]] * count,
            "pose_keypoints": [pose.ravel()] * count,
            "face_boxes": [[520, 160, 700, 380]] * count,
            "face_scores": [[0.9]] * count,
            "face_landmarks": [[560, 220, 660, 220, 610, 270, 570, 320, 650, 320]] * count,
            "face_embeddings": list(faces / np.linalg.norm(faces, axis=1, keepdims=True)),
            **dict.fromkeys(("people_sharpness", "faces_sharpness"), [[40.0]] * count),
            **dict.fromkeys(("people_exposure", "faces_exposure"), [[0.5]] * count),
        }
        for stage in stages:
            rows = [
                pa.array(known.get(name, [None] * count), stage.schema.field(name).type) for name in stage.schema.names
            ]
            ledger.write_part(workspace.curation, stage, pa.table(rows, stage.schema))
    return workspace


def peak(work: Callable[[], object]) -> int:
    """Return by how many bytes Python, numpy and Arrow grew at most."""
    usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def test_memory_grows_by_less_than_an_embedding_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, small in (
        *((decisions, "AT_A_TIME", 64), (scores, "AT_A_TIME", 64), (ledger, "_ROWS", 64)),
        *((spool, "HELD", 1 << 16), (spool, "ROWS", 64), (table, "_ROWS", 64), (table, "_OBJECTS", 64)),
        *((hamming, "CHUNK", 1 << 10), (identity, "_PAIRS", 64)),
    ):
        monkeypatch.setattr(module, name, small)

    def judged(workspace: Workspace) -> None:
        found = run.judge(workspace, CONFIG, compute=False)
        outcomes = found.decisions.outcomes
        assert sum(outcome.keep for outcome in outcomes) == len(found.rows) == len(found.photos)
        assert all(outcome.finding and outcome.finding.evidence == "face" for outcome in outcomes)
        table.write(workspace.curated_table, found.images, found.photos, outcomes, found.found, CONFIG)

    worlds = [world(tmp_path / str(photos), photos) for photos in (128, 512, 2048)]
    judged(worlds[0])  # imports
    few, many = (peak(lambda workspace=workspace: judged(workspace)) for workspace in worlds[1:])
    assert (many - few) / 1536 < 1500  # of which the centres of the identities take a part


def test_photos_are_what_the_joined_scores_say(tmp_path: Path) -> None:
    workspace = world(tmp_path / "w", 2 * EACH)
    photos = run.judge(workspace, CONFIG, compute=False).photos
    assert isinstance(photos, Photos)
    assert list(photos) == [sha(number) for number in range(2 * EACH)]
    assert "no such" not in photos
    with pytest.raises(KeyError):
        photos["no such"]
    stages = run._stages(run._networks(CONFIG, tell=False)[0], CONFIG, "cpu")
    joined = pa.table({"sha256": list(photos)})
    for stage in stages:
        (part,) = ledger.scores_of(workspace.curation, stage)
        for name in part.column_names[1:]:
            joined = joined.append_column(name, part[name])
    found = some(photos, [sha(5), "no such", sha(3)])
    assert list(found) == [sha(5), sha(3)]
    for expected in measured(joined, CONFIG):
        one = photos[expected.sha256]
        assert (one.phash, one.sharpness, one.people) == (expected.phash, expected.sharpness, expected.people)
        assert one.face is not None
        assert expected.face is not None
        assert np.array_equal(one.face.embedding, expected.face.embedding)
        assert np.array_equal(one.person.keypoints, expected.person.keypoints)

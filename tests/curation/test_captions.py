"""Captions: which word names a person, what measured facts say, and that kept photos alone are described, once."""

import hashlib
import importlib.util
import io
import math
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import captions, colours, networks
from bolid.curation.captions import Captions
from bolid.curation.config import CurateConfig
from bolid.curation.networks import Absence, Network
from bolid.curation.pixels import PhotoReader
from bolid.curation.run import curate
from bolid.curation.stages import attributes, caption, pose
from bolid.curation.stages.caption import Caption
from bolid.demo import people
from bolid.demo.people.clothes import COLOURS, Garment, Outfit
from bolid.errors import ModelError, UsageError
from bolid.shards.options import PackConfig
from bolid.shards.writer import pack
from bolid.workspace import Workspace
from numpy.typing import NDArray
from PIL import Image

from .conftest import photo

Crawled = Callable[[Sequence[tuple[str, bytes]]], Workspace]
Floats = NDArray[np.float32]

# --- the person's noun ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a man in a suit", "Two WOMEN.", "portrait of a girl's face", "people on a beach"])
def test_a_caption_that_names_a_person(text: str) -> None:
    assert caption.names_person(text)


@pytest.mark.parametrize(
    "text", ["", "a mannequin in a shop", "a womanly dress", "a model airplane", "a record player"]
)
def test_a_caption_that_names_none(text: str) -> None:
    assert not caption.names_person(text)


def test_the_answer_that_names_a_person_is_taken_and_flagged_where_none_does() -> None:
    flagged = "no_person_noun"
    assert caption.decide("a man", None) == Caption("a man")
    assert caption.decide("a red dress", "a woman in a dress") == Caption("a woman in a dress")
    assert caption.decide("a red dress", "a dress") == Caption("a red dress", flagged)
    assert caption.decide("", "a dress") == Caption("a dress", flagged)
    assert caption.decide("", "") == Caption(None, flagged)
    assert caption.decide(None, None) == Caption(None)


# --- colours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rgb", "expected"),  # published values of sRGB's corners, D65
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((255, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 255, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 255), (32.2970, 79.1875, -107.8602)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
    ],
)
def test_lab_is_ciexyz_with_d65(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(colours.lab(np.array(rgb, np.uint8)), expected, atol=0.02)


def test_the_cloths_of_procedural_people_go_by_their_own_names() -> None:
    coarse = {"dark red": "red", "light blue": "blue", "navy": "blue"}
    for word, shares in COLOURS.items():
        rgb = np.round(np.array(shares) * 255).astype(np.uint8)
        assert colours.name(colours.lab(rgb)) == coarse.get(word, word)


# --- regions and posture --------------------------------------------------------------------------------------------

# An upright person in a picture of 200 x 400, the torso 100 px long; x and y by COCO's places.
STANDING = {5: (130, 80), 6: (70, 80), 11: (120, 180), 12: (80, 180), 13: (120, 260), 14: (80, 260)}
STANDING |= {15: (120, 340), 16: (80, 340), 0: (100, 40), 1: (110, 32), 2: (90, 32)}
SKIN, RED, BLUE, GREY = (224, 172, 140), (190, 30, 40), (40, 70, 180), (128, 128, 128)


def skeleton(**moved: tuple[float, float]) -> Floats:
    """The keypoints of STANDING, those that are given (as k13=…) elsewhere."""
    keypoints = np.zeros((17, 3), np.float32)
    places = {**STANDING, **{int(name[1:]): place for name, place in moved.items()}}
    for index, place in places.items():
        keypoints[index] = (*place, 0.9)
    return keypoints


def dressed(upper: tuple[int, int, int] = RED, lower: tuple[int, int, int] = BLUE) -> NDArray[np.uint8]:
    """Skin above, the upper clothes from the shoulders to the hips, the lower ones below, grey around."""
    pixels = np.full((400, 200, 3), GREY, np.uint8)
    pixels[10:80, 70:130] = SKIN
    pixels[80:180, 65:135] = upper
    pixels[180:360, 65:135] = lower
    return pixels


def measure(pixels: NDArray[np.uint8], keypoints: Floats) -> Floats:
    return np.array(attributes.clothes(Image.fromarray(pixels), keypoints), np.float32)


def test_colours_are_those_between_the_keypoints() -> None:
    found = measure(dressed(), skeleton())
    np.testing.assert_allclose(found[:4], [*colours.lab(np.array(RED, np.uint8)), 1], atol=1e-3)
    np.testing.assert_allclose(found[4:8], [*colours.lab(np.array(BLUE, np.uint8)), 1], atol=1e-3)
    np.testing.assert_allclose(found[8:], colours.lab(np.array(SKIN, np.uint8)), atol=1e-3)
    assert attributes.clothes_colours(found) == ("red", "blue")


@pytest.mark.parametrize("zoom", [1, 4])
def test_a_larger_picture_has_the_same_colours(zoom: int) -> None:
    pixels = dressed().repeat(zoom, 0).repeat(zoom, 1)
    keypoints = skeleton()
    keypoints[:, :2] *= zoom
    np.testing.assert_allclose(measure(pixels, keypoints), measure(dressed(), skeleton()), atol=1e-3)


def test_a_turned_picture_has_the_same_colours() -> None:
    keypoints = skeleton()
    keypoints[:, :2] = keypoints[:, [1, 0]]  # the picture mirrored at its diagonal
    mirrored = np.ascontiguousarray(dressed().transpose(1, 0, 2))
    np.testing.assert_allclose(measure(mirrored, keypoints)[:8], measure(dressed(), skeleton())[:8], atol=1e-3)


def test_folds_and_prints_do_not_change_the_colour_and_stripes_have_none() -> None:
    folded = dressed()
    folded[80:180:5, 65:135] = (np.array(RED) * 0.75).astype(np.uint8)
    folded[120:130, 90:110] = 255
    assert attributes.clothes_colours(measure(folded, skeleton())) == ("red", "blue")
    striped = dressed()
    striped[80:180].reshape(10, 10, 200, 3)[::2, :, 65:135] = 255
    assert attributes.clothes_colours(measure(striped, skeleton())) == (None, "blue")


def test_what_may_be_skin_is_no_cloth() -> None:
    bare = dressed(upper=tuple((np.array(SKIN) * 0.95).astype(int)), lower=RED)
    assert attributes.clothes_colours(measure(bare, skeleton())) == (None, "red")
    unseen = skeleton()
    unseen[:5] = 0  # from behind: no face to compare with
    assert attributes.clothes_colours(measure(bare, unseen)) == (None, "red")
    blue = skeleton()
    blue[:5] = 0
    assert attributes.clothes_colours(measure(dressed(), blue)) == ("red", "blue")


def test_keypoints_that_were_not_found_and_regions_outside_the_picture_measure_nothing() -> None:
    kneeless = skeleton()
    kneeless[13:15, 2] = 0.4
    assert np.isnan(measure(dressed(), kneeless)[4:8]).all()
    assert not np.isnan(measure(dressed(), kneeless)[:4]).any()
    cut = dressed()[:150]  # the picture ends below the chest
    assert np.isnan(measure(cut, skeleton())[4:8]).all()
    assert np.isnan(measure(dressed(), np.zeros((17, 3), np.float32))).all()


@pytest.mark.parametrize(
    ("keypoints", "expected"),
    [
        (skeleton(), "standing"),
        (skeleton(k13=(120, 200), k14=(80, 200), k15=(120, 275), k16=(80, 275)), "sitting"),
        (skeleton(k13=(190, 190), k14=(160, 190), k15=(190, 265), k16=(160, 265)), "sitting"),
        (skeleton(k14=(75, 250), k16=(60, 290)), None),  # one shin bent back, as in a step
        (skeleton(k15=(120, 255), k16=(80, 255)), None),  # kneeling: the ankles lie by the knees
        (skeleton(k5=(160, 175), k6=(160, 165), k11=(60, 175), k12=(60, 165)), None),  # bent forward over straight legs
        (skeleton(k16=(0, 0)), None),  # an ankle that was not found
    ],
)
def test_posture_is_said_where_it_is_clear(keypoints: Floats, expected: str | None) -> None:
    assert attributes.posture(keypoints, 0.5) == expected


def test_who_lies_lies_on_any_side() -> None:
    turned = skeleton()
    turned[:, :2] = turned[:, [1, 0]]
    assert attributes.posture(turned, 0.5) == "lying"
    turned[:, 0] = 400 - turned[:, 0]
    assert attributes.posture(turned, 0.5) == "lying"


def test_nothing_is_said_that_was_not_measured() -> None:
    nothing = np.full(attributes.PER_PERSON, math.nan, np.float32)
    head = np.zeros((17, 3), np.float32)
    head[0] = (50, 50, 0.9)
    assert attributes.decide(head, np.array([0, 0, 100, 100], np.float32), nothing, 0.5) == "a portrait of a person"


# --- through the stages ---------------------------------------------------------------------------------------------

RED_AND_BLUE = Outfit(
    Garment("T-shirt", "red", "plain", "white", "short", 0.6),
    Garment("trousers", "blue", "plain", "white", "long", 1.97),
    *("sneakers", "black", 1.0, 0.0, 0.008),
)
GREEN_AND_BLACK = Outfit(
    Garment("sweater", "green", "plain", "white", "long", 1.95),
    Garment("jeans", "black", "plain", "white", "long", 1.97),
    *("boots", "black", 1.0, 0.0, 0.012),
)
POSED = CurateConfig.model_validate(
    {"min_res": 200, "min_photos": 1, "near_duplicate": 0, "face_model": "none", "caption": "attributes"}
)
needs_pose = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="needs the extra pose")


@pytest.fixture(scope="module")
def shots() -> list[people.Photo]:
    """From the front, from behind, sitting; and one that is too small to be kept."""
    plain = {"size": (216, 288), "framing": "full"}
    return [
        people.take_photo(7_207, 1, 0, pose="standing", yaw=0.0, outfit=RED_AND_BLUE, **plain),
        people.take_photo(7_207, 2, 0, pose="standing", yaw=180.0, outfit=GREEN_AND_BLACK, **plain),
        people.take_photo(7_207, 3, 0, pose="sitting", yaw=-5.0, outfit=RED_AND_BLUE, **plain),
        people.take_photo(7_207, 4, 0, **plain | {"size": (128, 170)}),
    ]


@pytest.fixture
def posed(crawled: Crawled, shots: list[people.Photo], tmp_path: Path) -> tuple[Workspace, CurateConfig]:
    """A workspace whose ledger holds the true poses, as a network that errs nowhere would have left them."""
    workspace = crawled([("ann", people.encode_jpeg(shot.image)) for shot in shots])
    weights = tmp_path / "true-pose.pt"
    weights.write_bytes(b"never loaded")
    network = networks.choose("pose", str(weights))
    assert isinstance(network, Network)
    rows = []
    for shot, sha256 in zip(shots, pd.read_parquet(workspace.images_table)["sha256"], strict=True):
        keypoints = shot.truth.keypoints.copy()
        keypoints[:, 2] = keypoints[:, 2] > 0
        row = {"sha256": sha256, "pose_boxes": list(shot.truth.person_box), "pose_scores": [0.9]}
        rows.append(row | {"pose_keypoints": keypoints.ravel().tolist()})
    folder = workspace.curation / "pose" / pose.PoseStage(network).key.fingerprint
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pose.SCHEMA), folder / "part-truth.parquet")
    return workspace, POSED.model_copy(update={"pose_model": str(weights)})


def described(workspace: Workspace, stage: str) -> list[str]:
    """The photos of the ledger of a stage, each as often as it was scored."""
    parts = (workspace.curation / stage).rglob("part-*.parquet")
    return sorted(sha256 for part in parts for sha256 in pq.read_table(part)["sha256"].to_pylist())


def column(workspace: Workspace, name: str) -> list[object]:
    values: list[object] = pq.read_table(workspace.curated_table)[name].to_pylist()
    return values


TRUE = [
    "a full-length photo of a person standing, seen from the front, wearing red above the waist and blue below",
    "a full-length photo of a person standing, seen from the back, wearing green above the waist and black below",
    "a full-length photo of a person sitting, seen from the front, wearing red above the waist and blue below",
]


@needs_pose
def test_attributes_tell_the_truth_and_reach_the_shards(posed: tuple[Workspace, CurateConfig]) -> None:
    workspace, config = posed
    summary = curate(workspace, config, workers=1)
    assert (summary.kept, summary.described, summary.networks["caption"]) == (3, 3, "attributes")
    assert column(workspace, "caption") == [*TRUE, None]
    assert column(workspace, "caption_model") == ["attributes"] * 3 + [None]
    assert column(workspace, "caption_flag") == [None] * 4
    assert described(workspace, "attributes") == sorted(column(workspace, "sha256")[:3])  # not that which is too small
    again = curate(workspace, config, workers=1)
    assert (again.computed, again.described) == (0, 0)
    assert column(workspace, "caption") == [*TRUE, None]
    pack(workspace, PackConfig(split=(1.0, 0.0, 0.0)))
    [shard] = workspace.shards.glob("*.tar")
    with tarfile.open(shard) as tar:
        texts = [tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")]
    assert sorted(texts) == sorted(TRUE)


@needs_pose
def test_a_killed_run_goes_on_and_a_photo_that_cannot_be_described_stays(
    posed: tuple[Workspace, CurateConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, config = posed
    kept = curate(workspace, config.model_copy(update={"caption": "none"}), workers=1)
    assert (kept.described, "caption" in kept.networks) == (0, False)
    assert column(workspace, "caption") == [None] * 4
    first, second, third, _ = (str(sha256) for sha256 in column(workspace, "sha256"))

    describe = captions.describe

    def until_killed(chosen, finder, items, *rest):  # what a run that is killed after one photo leaves
        describe(chosen, finder, items[:1], *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(captions, "describe", until_killed)
    with pytest.raises(KeyboardInterrupt):
        curate(workspace, config, workers=1)
    assert described(workspace, "attributes") == [first]

    def without_a_file(*given):
        workspace.photo(second, "JPEG").unlink()
        return describe(*given)

    monkeypatch.setattr(captions, "describe", without_a_file)
    summary = curate(workspace, config, workers=1)
    assert (summary.kept, summary.failed, summary.described) == (3, 0, 1)
    assert described(workspace, "attributes") == sorted([first, third])
    assert column(workspace, "keep") == [True, True, True, False]
    assert column(workspace, "caption") == [TRUE[0], None, TRUE[2], None]
    [remark] = summary.remarks
    assert "1 kept photos have no caption (tried again next time)" in remark
    assert "the file is missing" in remark


@needs_pose
def test_thresholds_compute_no_attribute_again(posed: tuple[Workspace, CurateConfig]) -> None:
    workspace, config = posed
    curate(workspace, config, workers=1)
    stricter = CurateConfig.model_validate(config.model_dump() | {"pose": {"keypoint": 0.6, "min_score": 0.4}})
    assert curate(workspace, stricter, workers=1).described == 0
    looser = config.model_copy(update={"min_res": 100})
    assert curate(workspace, looser, workers=1).described == 1


def test_what_is_flagged_or_failed_is_counted() -> None:
    said = {"a": Caption("a tree", "no_person_noun"), "b": Caption("a man"), "c": Caption(None, "no_person_noun")}
    lines = Captions("m", said, {"d": "the worker process died", "e": "other"}).remarks()
    assert lines[0].startswith("2 kept photos have no caption")
    assert lines[0].endswith("the worker process died")
    assert lines[1:] == ["2 captions are flagged: no_person_noun"]
    assert Captions().remarks() == []


# --- BLIP-2 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from ..models.test_caption import made

    return made(tmp_path_factory.mktemp("blip") / "tiny", "t5")


def test_a_second_prompt_is_asked_where_nobody_is_named(
    blip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bolid.models.caption import Captioner

    captioner = Captioner(blip)
    pictures = [np.asarray(Image.open(io.BytesIO(photo(seed))).convert("RGB")) for seed in range(4)]
    first, second = (captioner(pictures, prompt) for prompt in (caption.PROMPT, caption.SECOND_PROMPT))
    # A word that the network says of some of these pictures and not of others stands for a person.
    words = [set(text.split()) for text in first]
    some = set.union(*words) - set.intersection(*words)
    assert some
    monkeypatch.setattr(caption, "PERSON_NOUNS", frozenset({min(some)}))
    monkeypatch.setattr(caption, "names_person", lambda text: min(some) in text.split())
    for seed in range(4):
        (tmp_path / f"{seed}.jpg").write_bytes(photo(seed))
    (tmp_path / "4.jpg").write_bytes(b"no picture")
    stage = caption.CaptionStage(Network("tiny", str(blip), "0"))
    stage.setup(PhotoReader())
    batch = {"sha256": [str(n) for n in range(5)], "path": [str(tmp_path / f"{n}.jpg") for n in range(5)]}
    rows = stage(pa.RecordBatch.from_pydict(batch)).to_pylist()
    asked = [min(some) not in text.split() for text in first]
    assert 0 < sum(asked) < 4
    assert [row["caption_first"] for row in rows] == [*first, None]
    alone = [text if again else None for text, again in zip(second, asked, strict=True)]
    assert [row["caption_second"] for row in rows] == [*alone, None]


def test_kept_photos_are_described_once_flagged_and_never_rejected(crawled: Crawled, blip: Path) -> None:
    workspace = crawled([("ann", photo(1)), ("ann", photo(2)), ("ann", photo(3, (40, 80)))])
    config = CurateConfig.model_validate(
        {"min_res": 60, "min_photos": 1, "pose_model": "none", "face_model": "none", "caption": str(blip)}
    )
    summary = curate(workspace, config, workers=2)
    assert (summary.kept, summary.described, summary.networks) == (2, 2, {"caption": "tiny"})
    assert described(workspace, "caption") == sorted(column(workspace, "sha256")[:2])
    assert column(workspace, "caption_flag") == ["no_person_noun"] * 2 + [None]  # its vocabulary has no such noun
    assert column(workspace, "caption_model") == ["tiny", "tiny", None]
    texts = column(workspace, "caption")
    assert all(texts[:2])
    assert list(summary.remarks) == ["2 captions are flagged: no_person_noun"]
    again = curate(workspace, config, workers=2)
    assert (again.computed, again.described) == (0, 0)
    assert column(workspace, "caption") == texts


def test_a_captioner_that_does_not_load_ends_the_run_and_blames_no_photo(
    crawled: Crawled, blip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in blip.iterdir():
        whole = file.read_bytes()
        (broken / file.name).write_bytes(whole[:-40] if file.suffix == ".safetensors" else whole)
    workspace = crawled([("ann", photo(1))])
    config = CurateConfig.model_validate(
        {"min_res": 60, "min_photos": 1, "pose_model": "none", "face_model": "none", "caption": str(broken)}
    )
    with pytest.raises(ModelError, match=r"the stage caption cannot start: .*bolid models pull blip2-flan-t5-xl"):
        curate(workspace, config, workers=1)


# --- which captioner ------------------------------------------------------------------------------------------------


def test_the_best_captioner_that_is_here_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    by_attributes = captions.choose(None, posed=True)
    assert isinstance(by_attributes, Network)
    assert by_attributes.name == "attributes"
    told = " ".join(capsys.readouterr().err.split())
    assert "captions are written from measured attributes" in told
    assert "bolid models pull blip2-flan-t5-xl" in told
    nothing = captions.choose(None, posed=False)
    assert isinstance(nothing, Absence)
    assert "bolid models pull blip2-flan-t5-xl" in nothing.why
    assert isinstance(captions.choose("none", posed=True), Absence)


def test_a_captioner_that_was_asked_for_must_be_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    with pytest.raises(UsageError, match="need the pose stage; give a network: --pose NAME"):
        captions.choose("attributes", posed=False)
    with pytest.raises(ModelError, match=r"bolid models pull blip2-opt-2\.7b"):
        captions.choose("blip2-opt-2.7b", posed=True)
    with pytest.raises(ModelError, match="demo-face is a network for face, not for caption"):
        captions.choose("demo-face", posed=True)


def test_the_sum_of_a_hub_folder_is_that_of_its_files_and_of_the_pull(tmp_path: Path) -> None:
    parts = {"config.json": b"{}", "model.safetensors": b"weights", "vocab.txt": b"words", "README.md": b"a card"}
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    sums = sorted(hashlib.sha256(parts[name]).hexdigest() for name in parts if name != "README.md")
    assert networks.digest(tmp_path) == hashlib.sha256("\n".join(sums).encode()).hexdigest()
    record = '{"source": "x@1", "licence": "mit", "pulled_at": "", "files": {%s}}'
    pulled = '"model.safetensors": {"sha256": "%s", "bytes": 7}' % ("f" * 64)
    (tmp_path / "bolid-files.json").write_text(record % pulled)
    known = sorted(["f" * 64, *(s for s in sums if s != hashlib.sha256(b"weights").hexdigest())])
    assert networks.digest(tmp_path) == hashlib.sha256("\n".join(known).encode()).hexdigest()

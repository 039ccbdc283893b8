"""The judges' figures on people of a world that no training and no figure has seen; stock loading; who may use them."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.demo import people
from bolid.demo.judges import JUDGES, AttributeJudge, ShapeJudge
from bolid.demo.networks import NETWORKS
from bolid.errors import DataError, ModelError
from bolid.models.clip import ClipScorer
from numpy.typing import NDArray
from PIL import Image, ImageFilter

if not JUDGES.exists():
    pytest.skip("the judges are not trained yet: python -m bolid.demo.train judges", allow_module_level=True)

SEED = 77_004
PEOPLE, PHOTOS = 16, 8
ROOT = Path(people.__file__).parents[2]


@pytest.fixture(scope="module")
def photos() -> list[people.Photo]:
    """Eight photos a person, every second one of the whole body, as the judges' figures are measured."""
    whole = {"framing": "full"}
    return [
        people.take_photo(SEED, who, n, size=(128, 128), **(whole if n % 2 else {}))
        for who in range(PEOPLE)
        for n in range(PHOTOS)
    ]


@pytest.fixture(scope="module")
def images(photos: list[people.Photo]) -> NDArray[np.uint8]:
    return np.stack([photo.image for photo in photos])


def truths(photos: list[people.Photo], name: str) -> list[str]:
    if name in ("pose", "view", "framing"):
        return [getattr(photo.truth, name) for photo in photos]
    return [photo.truth.attributes[name] for photo in photos]


def accuracy(judge: AttributeJudge, images: NDArray[np.uint8], photos: list[people.Photo], name: str) -> float:
    legs = np.array([photo.truth.framing in ("full", "three-quarter") for photo in photos])
    right = np.array(judge(images)[name]) == np.array(truths(photos, name))
    return float(right[legs].mean() if name.startswith("bottom") else right.mean())


# What the judge reaches at least; the aim for the top's colour is 0.95.
ATTRIBUTES = {
    "top_colour": 0.68,
    "bottom_colour": 0.75,
    "pose": 0.8,
    "view": 0.65,
    "background": 0.9,
    "framing": 0.9,
    "top": 0.4,
}


@pytest.mark.parametrize(("name", "least"), ATTRIBUTES.items())
def test_attributes_are_read_from_photos(
    photos: list[people.Photo], images: NDArray[np.uint8], name: str, least: float
) -> None:
    assert accuracy(AttributeJudge(), images, photos, name) >= least


def test_the_colour_of_plain_tops_is_read_from_blurred_photos_too(
    photos: list[people.Photo], images: NDArray[np.uint8]
) -> None:
    plain = np.array([photo.truth.attributes["top_pattern"] == "plain" for photo in photos])
    soft = np.stack([np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(1.2))) for i in images])
    for shown in (images, soft):
        right = np.array(AttributeJudge()(shown)["top_colour"]) == np.array(truths(photos, "top_colour"))
        assert right[plain].mean() >= 0.85


def test_probabilities_and_names_agree_and_features_tell_photos_apart(images: NDArray[np.uint8]) -> None:
    judge = AttributeJudge()
    for name, shares in judge.probabilities(images[:5]).items():
        assert np.allclose(shares.sum(1), 1, atol=1e-5)
        assert [judge.words[name][i] for i in shares.argmax(1)] == judge(images[:5])[name]
    features = judge.features(images)
    assert features.shape == (len(images), 128)
    assert np.linalg.matrix_rank(np.cov(features.T)) > 60


def r2(estimate: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    spread = np.stack([people.make_person(SEED, 1000 + i).shape for i in range(500)])
    return 1 - ((estimate - truth) ** 2).mean(0) / spread.var(0)


def test_a_shape_is_read_from_several_photos_of_a_person(images: NDArray[np.uint8]) -> None:
    judge = ShapeJudge()
    truth = np.stack([people.make_person(SEED, who).shape for who in range(PEOPLE)])
    albums = images.reshape(PEOPLE, PHOTOS, *images.shape[1:])
    together = np.stack([judge.together(album) for album in albums])
    single = judge(images).reshape(PEOPLE, PHOTOS, -1)[:, 1::2]
    assert judge.names == people.SHAPE_NAMES
    assert judge.valid.sum() >= 10
    several, one = r2(together, truth)[judge.valid].mean(), r2(single.reshape(-1, 22), truth.repeat(4, 0))
    assert several > 0.4  # the aim is 0.8, which this judge misses; its card says so
    assert several > one[judge.valid].mean()


def test_stock_transformers_loads_the_clip_and_it_finds_the_right_caption(photos: list[people.Photo]) -> None:
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder, chosen = JUDGES / "clip", photos[::3]
    captions = [photo.truth.caption for photo in chosen]
    tokens = CLIPTokenizer.from_pretrained(folder)(captions, padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=[p.image for p in chosen], return_tensors="pt")
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        similarity = model(**tokens, **pixels).logits_per_image
    own = torch.arange(len(chosen))
    assert float((similarity.argmax(1) == own).float().mean()) >= 20 / len(chosen)  # chance is 1 / len(chosen)
    right, wrong = similarity.diag(), (similarity.sum(1) - similarity.diag()) / (len(chosen) - 1)
    assert float((right > wrong).float().mean()) >= 0.95


def test_the_product_loader_gives_what_stock_transformers_gives(photos: list[people.Photo]) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    folder, chosen = JUDGES / "clip", photos[:4]
    captions = [photo.truth.caption for photo in chosen]
    tokens = CLIPTokenizer.from_pretrained(folder)(captions, padding=True, return_tensors="pt")
    pixels = torch.stack([torch.from_numpy(p.image).permute(2, 0, 1).float() / 127.5 - 1 for p in chosen])
    with torch.no_grad():
        stock = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()(**tokens, pixel_values=pixels)
    scorer = ClipScorer(folder)
    assert torch.allclose(scorer.image_features([p.image for p in chosen]), stock.image_embeds, atol=1e-4)
    assert torch.allclose(scorer.text_features(captions), stock.text_embeds, atol=1e-4)


def test_missing_and_damaged_judges_and_wrong_pictures_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing; run: python -m bolid\.demo\.train judges"):
        AttributeJudge(tmp_path)
    (tmp_path / "config.json").write_bytes((JUDGES / "shape" / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        ShapeJudge(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((JUDGES / "shape" / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelError, match="holds no judge of this version"):
        ShapeJudge(tmp_path)
    with pytest.raises(ModelError, match="holds no judge of this version"):
        AttributeJudge(tmp_path)
    with pytest.raises(DataError, match=r"not uint8 \[1, 64, 64, 3\]; resize them"):
        AttributeJudge()(np.zeros((1, 64, 64, 3), np.uint8))


def test_sizes_and_what_lies_beside_each_judge() -> None:
    assert sum(file.stat().st_size for file in JUDGES.rglob("*") if file.is_file()) <= 5_000_000
    for name in ("attributes", "shape", "clip"):
        config = json.loads((JUDGES / name / "training.json").read_text())
        assert config["seed"] != SEED
        card = (JUDGES / name / "README.md").read_text()
        assert "For demonstration and tests only" in card
        for figure in json.loads((JUDGES / name / "figures.json").read_text()):
            assert f"| {figure} |" in card


def imported(file: Path) -> set[str]:
    """Every name that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def test_no_training_reads_a_judge_or_their_world() -> None:
    networks = [file for part in ("base", "pose", "face") for file in ROOT.glob(f"demo/train/{part}*.py")]
    trained = [file for file in networks if "figures" not in file.name]
    trained += [*ROOT.glob("training/**/*.py"), *ROOT.glob("models/**/*.py")]
    assert len(trained) > 20
    for file in trained:
        assert not [name for name in imported(file) if "judges" in name], file
        assert 'TRAINING["judges"]' not in file.read_text(), file
    assert NETWORKS / "judges" == JUDGES

"""CLIP from a folder: features as an independent computation gives them, and errors that say what to pull."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from bolid.errors import DataError, ModelError
from bolid.models.clip import ClipScorer
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer

_spec = importlib.util.spec_from_file_location("tiny_clip", Path(__file__).with_name("tiny_clip.py"))
assert _spec is not None
assert _spec.loader is not None
tiny_clip: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny_clip)

MEAN, DEVIATION = tiny_clip.MEAN, tiny_clip.DEVIATION
PULL = "run: bolid models pull clip-vit-large-patch14"
BICUBIC = Image.Resampling.BICUBIC
TEXTS = ["A red shirt", "a blue dress, seen from behind", "grey"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_clip.make(tmp_path_factory.mktemp("clip"))
    return made


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


def pictures() -> list[NDArray[np.uint8]]:
    """Smooth pictures of several sizes: upright, wide, square, smaller than the network's."""
    rng = np.random.default_rng(0)
    sizes = [(96, 64), (40, 75), (32, 32), (20, 20)]
    seeds = [rng.integers(0, 256, (6, 6, 3), np.uint8) for _ in sizes]
    return [np.asarray(Image.fromarray(s).resize(wh, BICUBIC)) for s, wh in zip(seeds, sizes, strict=True)]


def prepared(picture: NDArray[np.uint8]) -> torch.Tensor:
    """What the CLIP paper's code does: shorter side to 32 (bicubic), middle 32x32, minus mean, over deviation."""
    height, width = picture.shape[:2]
    shorter = min(height, width)
    size = (32 * width // shorter, 32 * height // shorter)
    resized = Image.fromarray(picture).resize(size, BICUBIC)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    middle = np.asarray(resized.crop((left, top, left + 32, top + 32)), np.float64) / 255
    return torch.from_numpy(((middle - MEAN) / DEVIATION).transpose(2, 0, 1)).float()


def test_picture_features_are_those_of_an_independent_preprocessing(folder: Path, scorer: ClipScorer) -> None:
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[512, 5, 513]]), pixel_values=torch.stack([prepared(p) for p in pictures()])
        )
    found = scorer.image_features(pictures())
    assert found.shape == (4, 24) == (4, scorer.dim)
    assert torch.allclose(found, logits.image_embeds, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_text_features_do_not_depend_on_the_batch_they_come_in(folder: Path, scorer: ClipScorer) -> None:
    model, words = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    found = scorer.text_features(TEXTS)
    with torch.no_grad():
        for text, features in zip(TEXTS, found, strict=True):
            ids = torch.tensor([words(text).input_ids])
            alone = model(input_ids=ids, pixel_values=torch.zeros(1, 3, 32, 32)).text_embeds[0]
            assert torch.allclose(features, alone, atol=1e-5)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


def test_a_text_longer_than_the_context_is_cut(scorer: ClipScorer) -> None:
    whole, longer, other = "x " * 38, "x " * 38 + "y y", "x " * 37 + "y"  # a letter is a token; start and end are two
    kept, cut, changed = scorer.text_features([whole, longer, other])
    assert torch.allclose(kept, cut, atol=1e-6)
    assert not torch.allclose(kept, changed, atol=1e-3)


def test_nothing_gives_no_features_and_floats_are_refused(scorer: ClipScorer) -> None:
    assert scorer.image_features([]).shape == scorer.text_features([]).shape == (0, 24)
    with pytest.raises(DataError, match=r"uint8 pictures .* not float64 \[8, 8, 3\]"):
        scorer.image_features([np.zeros((8, 8, 3))])  # type: ignore[list-item]


def as_tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


def test_differentiable_features_are_those_of_the_processor(scorer: ClipScorer) -> None:
    """Up to the bytes that Pillow rounds to: cosine above 0.999 while other pictures are further away."""
    with torch.no_grad():
        made = torch.cat([scorer.image_features_differentiable(as_tensor(picture)) for picture in pictures()])
    found = scorer.image_features(pictures())
    assert torch.allclose(made.norm(dim=1), torch.ones(4))
    same = made @ found.T
    assert (same.diagonal() > 0.9999).all()
    assert (same.fill_diagonal_(0) < 0.999).all()


def test_the_gradient_of_the_features_is_that_of_finite_differences(folder: Path) -> None:
    scorer = ClipScorer(folder)
    wanted = scorer.text_features(TEXTS[:1]).clone()
    picture = 0.25 + 0.5 * as_tensor(pictures()[1])
    direction = torch.randn(picture.shape, generator=torch.Generator().manual_seed(2))

    def similarity(pixels: torch.Tensor) -> torch.Tensor:
        return (scorer.image_features_differentiable(pixels) * wanted).sum()

    leaf = picture.clone().requires_grad_(True)
    similarity(leaf).backward()
    assert leaf.grad is not None
    step = 1e-2
    with torch.no_grad():
        slope = (similarity(picture + step * direction) - similarity(picture - step * direction)) / (2 * step)
    assert float((leaf.grad * direction).sum()) == pytest.approx(float(slope), rel=0.02)
    assert all(parameter.grad is None for parameter in scorer._model.parameters())


def test_a_filter_that_torch_lacks_is_refused(folder: Path, tmp_path: Path) -> None:
    file = copied(folder, tmp_path) / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": 1}))
    with pytest.raises(ModelError, match="Pillow's filter 1, of which torch has no differentiable form"):
        ClipScorer(tmp_path).image_features_differentiable(torch.zeros(1, 3, 40, 40))


def copied(folder: Path, to: Path, *, without: str = "") -> Path:
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_missing_folder_or_file_says_what_to_pull(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"nowhere does not exist; {PULL}"):
        ClipScorer(tmp_path / "nowhere")
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).mkdir()
        with pytest.raises(ModelError, match=f"{name} missing.*{PULL}"):
            ClipScorer(copied(folder, tmp_path / name, without=name))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_says_what_to_pull(folder: Path, tmp_path: Path, name: str) -> None:
    damaged = copied(folder, tmp_path) / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(ModelError, match=f"cannot be loaded as CLIP.*{PULL}"):
        ClipScorer(tmp_path)


def test_weights_that_lack_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(copied(folder, tmp_path) / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"lacks 1 tensors.*visual_projection\.weight; {PULL}"):
        ClipScorer(tmp_path)

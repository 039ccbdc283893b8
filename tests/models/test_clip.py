"""CLIP from a folder: features as an independent computation gives them, and errors that say what to pull."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.errors import DataError, ModelError
from bolid.models.clip import ClipScorer
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

PULL = "run: bolid models pull clip-vit-large-patch14"
MEAN = [0.48145466, 0.4578275, 0.40821073]
DEVIATION = [0.26862954, 0.26130258, 0.27577711]
BICUBIC = Image.Resampling.BICUBIC
TEXTS = ["A red shirt", "a blue dress, seen from behind", "grey"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights beside a preprocessor configuration as OpenAI's folders hold it."""
    made = tmp_path_factory.mktemp("clip")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    words = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=40)
    words.save_pretrained(made)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    text = {**small, **ends, "vocab_size": len(pieces), "max_position_embeddings": 40, "projection_dim": 24}
    vision = {**small, "image_size": 32, "patch_size": 8, "projection_dim": 24}
    torch.manual_seed(3)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(made)
    preprocessing = {
        "crop_size": 32,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": MEAN,
        "image_std": DEVIATION,
        "resample": 3,
        "size": 32,
    }
    (made / "preprocessor_config.json").write_text(json.dumps(preprocessing))
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

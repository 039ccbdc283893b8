"""BLIP-2 from a folder: the words that an independent greedy search finds, and errors that say what to pull."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bolid.errors import DataError, ModelError, UsageError
from bolid.models import caption as module
from bolid.models.caption import Captioner
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

PULL = "run: bolid models pull blip2-flan-t5-xl"
PROMPT = "a photo of"
WORDS = ["<pad>", "</s>", "<unk>", "<s>", "a", "photo", "of", *(f"w{n}" for n in range(23))]
SIDE, QUERIES = 28, 3
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])


def made(folder: Path, language: str) -> Path:
    """A BLIP-2 of random weights, saved as the hub's folders are: the picture's token is the last one."""
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )
    tokenizer.add_tokens([AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
    tokenizer.save_pretrained(folder)
    ends = {"vocab_size": len(WORDS) + 1, "pad_token_id": 0, "eos_token_id": 1}
    if language == "t5":
        text: Any = T5Config(
            d_model=24,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=3,
            decoder_start_token_id=0,
            initializer_factor=2.0,
            **ends,
        )
    else:
        text = OPTConfig(
            hidden_size=24,
            word_embed_proj_dim=24,
            ffn_dim=32,
            num_hidden_layers=1,
            num_attention_heads=3,
            max_position_embeddings=64,
            bos_token_id=3,
            init_std=0.5,
            **ends,
        )
    torch.manual_seed(5)
    vision = Blip2VisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=14,
        initializer_range=0.5,
    )
    queries = Blip2QFormerConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, initializer_range=0.5
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=queries.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=len(WORDS),
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    preparation = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN.tolist(),
        "image_processor_type": "BlipImageProcessor",
        "image_std": DEVIATION.tolist(),
        "processor_class": "Blip2Processor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    (folder / "README.md").write_text("# tiny\n\n- Licence: CC0-1.0\n")
    return folder


@pytest.fixture(scope="module", params=["t5", "opt"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("blip") / request.param, request.param)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("blip") / "whole", "t5")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """Smooth pictures, no two of one size."""
    rng = np.random.default_rng(2)
    seeds = [rng.integers(0, 256, (4, 4, 3), np.uint8) for _ in range(count)]
    return [np.asarray(Image.fromarray(s).resize((30 + 5 * n, 60 - 3 * n))) for n, s in enumerate(seeds)]


def greedy(model: Blip2ForConditionalGeneration, picture: NDArray[np.uint8], tokens: int) -> str:
    """The likeliest word after the words so far, again and again; the picture is prepared by hand."""
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64) / 255
    pixels = torch.from_numpy(((small - MEAN) / DEVIATION).transpose(2, 0, 1)).float()[None]
    asked = [len(WORDS)] * QUERIES + [WORDS.index(word) for word in PROMPT.split()]
    reads = model.config.text_config.model_type == "t5"
    written: list[int] = []
    for _ in range(tokens):
        if reads:
            heard = torch.tensor([[0, *written]])
            said = model(pixel_values=pixels, input_ids=torch.tensor([asked]), decoder_input_ids=heard)
        else:
            said = model(pixel_values=pixels, input_ids=torch.tensor([asked + written]))
        word = int(said.logits[0, -1].argmax())
        if word == 1:
            break
        written.append(word)
    return " ".join(WORDS[word] for word in written if word < len(WORDS) and WORDS[word][0] != "<")


@torch.no_grad()
def test_the_words_are_those_of_a_search_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAMS", 1)
    monkeypatch.setattr(module, "MAX_TOKENS", 6)
    monkeypatch.setattr(module, "BATCH", 2)  # three pictures are two batches
    found = Captioner(folder)(pictures(3), PROMPT)
    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    assert found == [greedy(model, picture, 6) for picture in pictures(3)]
    assert len(set(found)) > 1  # the picture matters
    assert all(word in WORDS for text in found for word in text.split())


def test_beams_give_one_answer_each_time_and_no_more_words_than_asked_for(folder: Path) -> None:
    captioner = Captioner(folder)
    first = captioner(pictures(2), PROMPT)
    assert first == captioner(pictures(2), PROMPT)
    assert all(len(text.split()) <= module.MAX_TOKENS for text in first)
    assert captioner([], PROMPT) == []


def test_half_precision_works(folder: Path) -> None:
    captioner = Captioner(folder, dtype=torch.bfloat16)
    assert {value.dtype for value in captioner._model.vision_model.state_dict().values()} == {torch.bfloat16}
    assert len(captioner(pictures(2), PROMPT)) == 2


def test_what_is_no_picture_is_refused(t5: Path) -> None:
    with pytest.raises(DataError, match=r"uint8 pictures \[H, W, 3\], not float64 \[8, 8, 3\]"):
        Captioner(t5)([np.zeros((8, 8, 3))], PROMPT)  # type: ignore[list-item]


def copied(folder: Path, to: Path, without: str = "") -> Path:
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_missing_folder_or_file_says_what_to_pull(t5: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"nowhere does not exist; {PULL}"):
        Captioner(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"does not exist; run: bolid models pull blip2-opt-2\.7b"):
        Captioner(tmp_path / "blip2-opt-2.7b")
    names = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    for name in names:
        with pytest.raises(ModelError, match=f"{name} missing.*{PULL}"):
            Captioner(copied(t5, tmp_path / name, without=name))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_says_what_to_pull(t5: Path, tmp_path: Path, name: str) -> None:
    damaged = copied(t5, tmp_path) / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(ModelError, match=f"cannot be loaded as BLIP-2.*{PULL}") as caught:
        Captioner(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_tensor_are_refused(t5: Path, tmp_path: Path) -> None:
    weights = load_file(copied(t5, tmp_path) / "model.safetensors")
    del weights["language_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"lacks 1 tensors.*language_projection\.weight; {PULL}"):
        Captioner(tmp_path)


def test_a_folder_that_does_not_say_which_token_is_the_picture_is_refused(t5: Path, tmp_path: Path) -> None:
    config = json.loads((copied(t5, tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_token_index": 4}))
    with pytest.raises(ModelError, match=rf"stands for the picture \(config.json: 4, the tokenizer: 30\); {PULL}"):
        Captioner(tmp_path)


def test_devices_that_are_not_there_are_refused(t5: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpus'"):
        Captioner(t5, device="tpus")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="torch cannot use cuda here; choose cpu"):
            Captioner(t5, device="cuda")


def test_the_licence_is_said_once(
    t5: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_noticed", set())
    Captioner(t5)
    Captioner(t5)
    told = capsys.readouterr()
    assert " ".join(told.err.split()).count("captioner whole: weights CC0-1.0") == 1
    assert told.out == ""

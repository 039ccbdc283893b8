"""The base pipeline: random and tiny, from a folder, or missing."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from bolid.errors import ModelError
from bolid.models import registry
from bolid.models.sdxl import SDXL, load_base

CAPTION = "a person in a red coat and blue trousers, standing, seen from the left, on a street in front of a house, "


def test_prompts_are_told_apart_also_at_their_end() -> None:
    pipe = load_base("random-tiny")
    assert len(pipe.tokenizer) == 514
    texts = ["a man", "a cat", CAPTION + "rain", CAPTION + "snow", "", "grüße 漢"]
    ids = pipe.tokenizer(texts, padding="max_length", truncation=True).input_ids
    assert len({tuple(row) for row in ids}) == len(texts)
    embeddings, _, pooled, _ = pipe.encode_prompt(texts, do_classifier_free_guidance=False)
    assert len({tuple(row.flatten().tolist()) for row in embeddings}) == len(texts)
    assert len({tuple(row.tolist()) for row in pooled}) == len(texts)


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(9)
    state = torch.random.get_rng_state()
    one, same, other = load_base("random-tiny"), load_base("random-tiny"), load_base("random-tiny", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [next(pipe.unet.parameters()) for pipe in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_everything_is_frozen() -> None:
    pipe = load_base("random-tiny")
    modules = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    assert not any(p.requires_grad for module in modules for p in module.parameters())
    assert not any(module.training for module in modules)


def test_a_saved_folder_loads_as_it_was(tmp_path: Path) -> None:
    pipe = load_base("random-tiny")
    pipe.save_pretrained(tmp_path)
    back = load_base(str(tmp_path))
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(pipe, name).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in getattr(back, name).state_dict().items())
    assert back.tokenizer(CAPTION).input_ids == pipe.tokenizer(CAPTION).input_ids


def test_a_missing_base_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="run: hf download nobody/no-such-model"):
        load_base("nobody/no-such-model")
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("name", ["sdxl-base-1.0", SDXL])
def test_a_missing_base_that_the_registry_knows_says_to_pull_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match=r"run: bolid models pull sdxl-base-1\.0"):
        load_base(name)


def test_a_pulled_base_is_loaded_with_its_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find", lambda name: Pulled)
    monkeypatch.setattr(registry, "absence", lambda network: None)
    monkeypatch.setattr(registry, "local", lambda name: tmp_path)
    load_base("random-tiny").save_pretrained(tmp_path, variant="fp16")
    assert load_base("sdxl-base-1.0").unet.config["cross_attention_dim"] == 64


class Pulled:
    """What `load_base` reads of a registry entry."""

    name = "sdxl-base-1.0"
    hints: ClassVar = {"variant": "fp16"}

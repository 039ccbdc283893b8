"""The few-step UNet of a base: where it may lie, and what is refused."""

from pathlib import Path

import pytest
import torch
from bolid.errors import ModelError
from bolid.models import registry
from bolid.models.adapter import AdapterBundle
from bolid.models.lightning import load_few_step_unet
from bolid.models.sdxl import load_base
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def base() -> UNet2DConditionModel:
    return load_base("random-tiny").unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder whose UNet has other weights than the base's."""
    path = tmp_path_factory.mktemp("few")
    load_base("random-tiny", seed=1).save_pretrained(path)
    return path


def test_a_pipeline_a_unet_and_a_file_are_taken(base: UNet2DConditionModel, folder: Path) -> None:
    wanted = load_base("random-tiny", seed=1).unet.state_dict()
    for place in (folder, folder / "unet", folder / "unet" / "diffusion_pytorch_model.safetensors"):
        with AdapterBundle.for_unet(base).installed(base):  # the base may have its adapter already
            unet = load_few_step_unet(str(place), base, "random-tiny", 4)
        assert unet.encoder_hid_proj is None
        assert all(torch.equal(value, wanted[key]) for key, value in unet.state_dict().items())
        assert not any(p.requires_grad or p.is_meta for p in unet.parameters())
    sample = torch.ones(1, 4, 8, 8), torch.tensor([7]), torch.ones(1, 5, 64)
    added = {"text_embeds": torch.ones(1, 32), "time_ids": torch.ones(1, 6)}
    expected = load_base("random-tiny", seed=1).unet(*sample, added_cond_kwargs=added).sample
    assert torch.equal(unet(*sample, added_cond_kwargs=added).sample, expected)


def test_a_unet_of_another_base_is_refused(base: UNet2DConditionModel, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file({**tensors, name: torch.zeros(64, 7)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors does not fit the base random-tiny: .*to_k\.weight is "):
        load_few_step_unet(str(tmp_path / "other.safetensors"), base, "random-tiny", 4)
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be read as weights of a UNet"):
        load_few_step_unet(str(tmp_path / "broken.safetensors"), base, "random-tiny", 4)
    with pytest.raises(ModelError, match="holds no UNet"):
        load_few_step_unet(str(tmp_path), base, "random-tiny", 4)


def test_networks_of_the_registry_say_what_to_do(
    base: UNet2DConditionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="run: bolid models pull sdxl-lightning-4step"):
        load_few_step_unet("sdxl-lightning-4step", base, "sdxl-base-1.0", 4)
    with pytest.raises(ModelError, match="run: bolid models pull sdxl-lightning-4step"):
        load_few_step_unet("no-such-network", base, "sdxl-base-1.0", 4)
    monkeypatch.setattr(registry, "local", lambda name: tmp_path)
    with pytest.raises(ModelError, match=r"samples in 8 steps; set lightning\.steps=8"):
        load_few_step_unet("sdxl-lightning-8step", base, "sdxl-base-1.0", 4)
    with pytest.raises(ModelError, match="predicts the picture, not noise"):
        load_few_step_unet("sdxl-lightning-1step", base, "sdxl-base-1.0", 1)

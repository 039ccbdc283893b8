"""Installing, removing, exporting and importing an adapter on a whole tiny SDXL pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.errors import ModelError
from bolid.models.adapter import AdapterBundle, ConditionShape, cross_attention_layers, scale_at
from bolid.models.sdxl import load_base
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open

# diffusers' Euler scheduler hands a tensor to np.array, which numpy 2.4 announces to change.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionXLPipeline:
    return load_base("random-tiny")


@pytest.fixture
def bundle(pipe: StableDiffusionXLPipeline) -> AdapterBundle:
    torch.manual_seed(3)
    created = AdapterBundle.for_unet(pipe.unet)
    created.set_scale(face=0.7, body=0.4)
    return created


@pytest.fixture
def embeddings() -> list[torch.Tensor]:
    torch.manual_seed(4)
    return [torch.randn(1, 1, 512), torch.randn(1, 1, 256)]


def picture(
    pipe: StableDiffusionXLPipeline,
    embeddings: list[torch.Tensor] | None = None,
    cfg: float = 0.0,
    masks: list[torch.Tensor] | None = None,
) -> np.ndarray:
    if embeddings is not None and cfg > 1:
        embeddings = [torch.cat([torch.zeros_like(e), e]) for e in embeddings]
    made = pipe(
        "a person on a chair",
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=cfg,
        ip_adapter_image_embeds=embeddings,
        cross_attention_kwargs={"ip_adapter_masks": masks} if masks else None,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    )
    pixels: np.ndarray = made.images
    return pixels


def test_the_adapter_acts_and_scale_zero_is_the_base_to_the_bit(
    pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, embeddings: list[torch.Tensor]
) -> None:
    base = picture(pipe)
    with bundle.installed(pipe.unet):
        assert np.abs(picture(pipe, embeddings) - base).max() > 1e-3
        bundle.set_scale(face=0, body=0)
        assert np.array_equal(picture(pipe, embeddings), base)


def test_removing_restores_the_base_to_the_bit(
    pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, embeddings: list[torch.Tensor]
) -> None:
    base, processors, state = picture(pipe), pipe.unet.attn_processors, set(pipe.unet.state_dict())
    bundle.install(pipe.unet)
    assert set(pipe.unet.state_dict()) == state, "nothing is registered inside the UNet"
    picture(pipe, embeddings)
    bundle.remove()
    bundle.remove()
    assert np.array_equal(picture(pipe), base)
    assert pipe.unet.attn_processors == processors
    assert pipe.unet.encoder_hid_proj is None
    assert pipe.unet.config.encoder_hid_dim_type is None


@pytest.mark.parametrize("cfg", [0.0, 3.0])
def test_stock_diffusers_makes_the_same_picture_from_the_export(
    pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, embeddings: list[torch.Tensor], tmp_path: Path, cfg: float
) -> None:
    base = picture(pipe)
    with bundle.installed(pipe.unet):
        ours = picture(pipe, embeddings, cfg)
    bundle.export(tmp_path, {"base": "random-tiny"})
    names = ["face.safetensors", "body.safetensors"]
    pipe.load_ip_adapter(str(tmp_path), subfolder=["", ""], weight_name=names, image_encoder_folder=None)
    pipe.set_ip_adapter_scale([0.7, 0.4])
    stock = picture(pipe, embeddings, cfg)
    pipe.unload_ip_adapter()
    assert np.array_equal(stock, ours)
    assert np.array_equal(picture(pipe), base)

    imported = AdapterBundle.load(tmp_path)
    imported.set_scale(face=0.7, body=0.4)
    with imported.installed(pipe.unet):  # also after a stock adapter was unloaded
        assert np.array_equal(picture(pipe, embeddings, cfg), ours)


def test_the_file_has_the_faceid_layout_metadata_and_aligned_data(
    pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, tmp_path: Path
) -> None:
    files = bundle.export(tmp_path, {"base": "random-tiny", "steps": "7"})
    assert [file.name for file in files] == ["face.safetensors", "body.safetensors"]
    layers = len(cross_attention_layers(pipe.unet))
    with safe_open(files[1], framework="pt") as opened:
        metadata, keys = opened.metadata(), set(opened.keys())
    assert metadata == {
        "base": "random-tiny", "steps": "7", "condition": "body", "format": "pt", "bolid_format": "bolid-adapter-1",
    }  # fmt: skip
    matrices = {f"ip_adapter.{2 * i + 1}.to_{m}_ip.weight" for i in range(layers) for m in "kv"}
    projector = {f"image_proj.{m}.{p}" for m in ("proj.0", "proj.2", "norm") for p in ("weight", "bias")}
    assert keys == matrices | projector
    assert (8 + int.from_bytes(files[1].read_bytes()[:8], "little")) % 64 == 0
    assert AdapterBundle.load(tmp_path).metadata == {"base": "random-tiny", "steps": "7"}


def test_a_round_trip_keeps_every_tensor_and_the_order(bundle: AdapterBundle, tmp_path: Path) -> None:
    bundle.export(tmp_path)
    back = AdapterBundle.load(tmp_path)
    assert back.conditions == ("face", "body")
    expected = bundle.state_dict()
    assert set(back.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in back.state_dict().items())


def test_the_baseline_has_a_face_branch_only(pipe: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    baseline = AdapterBundle.for_unet(pipe.unet, {"face": ConditionShape(512, 4)})
    assert [file.name for file in baseline.export(tmp_path)] == ["face.safetensors"]
    assert AdapterBundle.load(tmp_path).conditions == ("face",)
    with pytest.raises(ValueError, match="no branch body"):
        baseline.set_scale(body=1)


def test_token_counts_and_widths_come_back_from_the_weights(pipe: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    AdapterBundle.for_unet(pipe.unet, {"body": ConditionShape(24, 16)}).export(tmp_path)
    projector = AdapterBundle.load(tmp_path).branch("body").image_proj
    assert (projector.condition_dim, projector.tokens) == (24, 16)


def test_gradients_reach_the_adapter_and_nothing_frozen(
    pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, embeddings: list[torch.Tensor]
) -> None:
    added = {"text_embeds": torch.randn(1, 32), "time_ids": torch.zeros(1, 6), "image_embeds": embeddings}
    with bundle.installed(pipe.unet):
        noise = pipe.unet(torch.randn(1, 4, 8, 8), 500, torch.randn(1, 160, 64), added_cond_kwargs=added).sample
    noise.square().mean().backward()
    without = [name for name, p in bundle.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert all(p.grad is None for p in pipe.unet.parameters())


def test_scales_by_block(pipe: StableDiffusionXLPipeline, bundle: AdapterBundle) -> None:
    bundle.set_scale(face={"mid_block": 0.5, "up_blocks.0": 1.0}, body=0)
    with bundle.installed(pipe.unet):
        scales = {
            name: p.scales for name, p in pipe.unet.attn_processors.items() if name in cross_attention_layers(pipe.unet)
        }
    assert {s for n, s in scales.items() if n.startswith("mid_block")} == {(0.5, 0.0)}
    assert {s for n, s in scales.items() if n.startswith("down_blocks")} == {(0.0, 0.0)}
    assert {s for n, s in scales.items() if n.startswith("up_blocks.0")} == {(1.0, 0.0)}


def test_the_longest_prefix_wins_and_prefixes_end_at_dots() -> None:
    assert scale_at({"up_blocks": 1.0, "up_blocks.1": 0.5}, "up_blocks.1.attn2.processor") == 0.5
    assert scale_at({"up_blocks.1": 0.5}, "up_blocks.10.attn2.processor") == 0.0


def test_refusals_say_what_to_do(pipe: StableDiffusionXLPipeline, bundle: AdapterBundle, tmp_path: Path) -> None:
    with bundle.installed(pipe.unet):
        with pytest.raises(ModelError, match="already installed"):
            bundle.install(pipe.unet)
        with pytest.raises(ModelError, match="unload it first"):
            AdapterBundle.for_unet(pipe.unet).install(pipe.unet)
    with pytest.raises(ModelError, match="no adapter in"):
        AdapterBundle.load(tmp_path)
    (tmp_path / "face.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        AdapterBundle.load(tmp_path)
    del bundle.branch("body").ip_adapter["1"]
    with pytest.raises(ModelError, match="cross-attention layers"):
        bundle.install(pipe.unet)


def test_a_low_rank_adapter_is_exported_whole_and_masks_are_those_of_stock_diffusers(
    pipe: StableDiffusionXLPipeline, embeddings: list[torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(6)
    small = AdapterBundle.for_unet(pipe.unet, rank=3)
    whole = AdapterBundle.for_unet(pipe.unet)
    layers = cross_attention_layers(pipe.unet).values()
    saved = sum(2 * (m.to_k.in_features * m.to_k.out_features) for m in layers)
    added = sum(2 * 3 * (m.to_k.in_features + m.to_k.out_features) for m in layers)
    count = {b: sum(p.numel() for p in b.parameters()) for b in (small, whole)}
    assert count[whole] - count[small] == 2 * (saved - added)  # two branches
    for name, parameter in small.named_parameters():
        if name.endswith("up.weight"):
            torch.nn.init.normal_(parameter, std=0.1)
    with small.installed(pipe.unet):
        ours = picture(pipe, embeddings)
    small.export(tmp_path)
    back = AdapterBundle.load(tmp_path)
    masks = [torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)]
    masks[0][..., :32] = 1
    with back.installed(pipe.unet):
        imported, masked = picture(pipe, embeddings), picture(pipe, embeddings, masks=masks)
    np.testing.assert_allclose(imported, ours, atol=1e-4)  # W x + U D x is rounded otherwise than (W + U D) x
    assert np.abs(masked - imported).max() > 1e-4
    names = ["face.safetensors", "body.safetensors"]
    pipe.load_ip_adapter(str(tmp_path), subfolder=["", ""], weight_name=names, image_encoder_folder=None)
    pipe.set_ip_adapter_scale([1.0, 1.0])
    assert np.array_equal(picture(pipe, embeddings), imported)
    assert np.array_equal(picture(pipe, embeddings, masks=masks), masked)
    pipe.unload_ip_adapter()

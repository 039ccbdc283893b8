"""The demo's base: loaded by stock diffusers, steered by prompts in four steps, and fit for an adapter.

Pictures are made without any of our code; our own code writes the prompts and judges what is to be seen.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bolid.demo import judges
from bolid.demo.networks import NETWORKS
from bolid.demo.train.base_data import wording
from bolid.models.adapter import AdapterBundle, cross_attention_layers
from bolid.models.sdxl import load_base
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASE = NETWORKS / "base"

if not all((NETWORKS / each).exists() for each in ("base", "judges")):
    pytest.skip("the small base is not trained yet: python -m bolid.demo.train base", allow_module_level=True)
FRESH = 950_003
"""World of prompts that neither training nor the figures have used."""

PICTURES = 96


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lightning() -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(BASE)
    pipe.unet = UNet2DConditionModel.from_pretrained(BASE / "unet_lightning")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def drawn(lightning: StableDiffusionXLPipeline) -> tuple[np.ndarray, list[dict[str, str]]]:
    asked = [wording(FRESH, identity, 0) for identity in range(PICTURES)]
    made = []
    for start in range(0, PICTURES, 32):
        prompts = [asked[i].captions[0] for i in range(start, start + 32)]
        made.append(picture(lightning, prompts, [FRESH + i for i in range(start, start + 32)]))
    return np.concatenate(made), [words.attributes for words in asked]


def picture(pipe: StableDiffusionXLPipeline, prompts: list[str], seeds: list[int]) -> np.ndarray:
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    out = pipe(prompts, num_inference_steps=4, guidance_scale=0, generator=noise, output_type="np").images
    return (out * 255).round().astype(np.uint8)


def share(drawn: tuple[np.ndarray, list[dict[str, str]]], name: str) -> float:
    pictures, truth = drawn
    seen = judges.AttributeJudge()(pictures)[name]
    return float(np.mean([a == words[name] for a, words in zip(seen, truth, strict=True)]))


def test_a_stock_pipeline_makes_pictures_of_its_own_size_from_single_precision(
    lightning: StableDiffusionXLPipeline, drawn: tuple[np.ndarray, list[dict[str, str]]]
) -> None:
    networks = (lightning.unet, lightning.vae, lightning.text_encoder, lightning.text_encoder_2)
    assert {network.dtype for network in networks} == {torch.float32}
    pictures, _ = drawn
    assert pictures.shape == (PICTURES, 128, 128, 3)
    assert pictures.std((1, 2, 3)).min() > 10  # none is blank


def test_four_steps_show_the_colour_that_the_prompt_names(drawn: tuple[np.ndarray, list[dict[str, str]]]) -> None:
    pictures, truth = drawn
    # A patterned top has two colours in nearly equal shares, and the judge of renders names either.
    plain = np.array([words["top_pattern"] == "plain" for words in truth])
    shown = (pictures[plain], [words for words, is_plain in zip(truth, plain, strict=True) if is_plain])
    assert plain.sum() > 40
    assert share(shown, "top_colour") >= 0.85


@pytest.mark.parametrize(("name", "least"), [("pose", 0.6), ("view", 0.6), ("background", 0.8)])
def test_four_steps_show_pose_view_and_background(
    drawn: tuple[np.ndarray, list[dict[str, str]]], name: str, least: float
) -> None:
    values = [words[name] for words in drawn[1]]
    chance = max(map(values.count, set(values))) / len(values)
    assert least > chance + 0.15
    assert share(drawn, name) >= least


def test_a_picture_depends_on_its_prompt_and_seed_alone(lightning: StableDiffusionXLPipeline) -> None:
    red, blue = (
        f"A full-body photo of a person wearing a long-sleeved {colour} shirt, black jeans and white sneakers, "
        "standing, seen from the front, in a park"
        for colour in ("red", "blue")
    )
    first, again, other = (picture(lightning, [red], [seed]) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, picture(lightning, [blue], [1]))


def test_guidance_and_the_base_s_own_scheduler_work(lightning: StableDiffusionXLPipeline) -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(BASE)
    assert pipe.scheduler.config["timestep_spacing"] == "leading"
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "a person in a park",
        num_inference_steps=8,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    assert made.shape == (1, 128, 128, 3)
    assert made.std() > 0.04


def test_the_encoder_keeps_an_unseen_photo(lightning: StableDiffusionXLPipeline) -> None:
    from bolid.demo import people

    photos = np.stack([people.take_photo(FRESH, i, 0, size=(128, 128)).image for i in range(12)])
    pixels = torch.from_numpy(photos.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
    with torch.no_grad():
        latents = lightning.vae.encode(pixels).latent_dist.mean
        back = lightning.vae.decode(latents).sample.clamp(-1, 1)
    error = (back - pixels).square().mean((1, 2, 3)) / 4
    assert (-10 * error.log10()).mean() > 26
    assert latents.mul(lightning.vae.config.scaling_factor).std().item() == pytest.approx(1, abs=0.15)


def test_the_files_are_small() -> None:
    def size(folder: Path) -> float:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20

    student = size(BASE / "unet_lightning")
    assert student <= 8
    assert size(BASE) - student <= 14


def test_our_loader_takes_it_and_an_adapter_fits() -> None:
    pipe = load_base(str(BASE))
    assert pipe.unet.dtype == torch.float32
    torch.manual_seed(5)
    bundle = AdapterBundle.for_unet(pipe.unet)
    layers = cross_attention_layers(pipe.unet)
    assert any(name.startswith("down_blocks.1.") for name in layers)
    assert any(name.startswith("mid_block.") for name in layers)

    def made(embeddings: list[torch.Tensor] | None) -> np.ndarray:
        noise = torch.Generator().manual_seed(6)
        out = pipe(
            "a person in a park",
            num_inference_steps=1,
            guidance_scale=0.0,
            ip_adapter_image_embeds=embeddings,
            generator=noise,
            output_type="np",
        )
        return np.asarray(out.images)

    plain = made(None)
    with bundle.installed(pipe.unet):
        adapted = made([torch.randn(1, 1, 512), torch.randn(1, 1, 256)])
        bundle.set_scale(face=0.0, body=0.0)
        off = made([torch.randn(1, 1, 512), torch.randn(1, 1, 256)])
    assert not np.array_equal(plain, adapted)
    assert np.array_equal(plain, off)

"""Pictures by a few-step UNet: the demo's student, against the stock pipeline that holds it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bolid.demo.networks import NETWORKS
from bolid.errors import ModelError
from bolid.generation.config import GenerateConfig
from bolid.generation.pipeline import generate
from bolid.generation.provenance import read_provenance
from PIL import Image
from pydantic import ValidationError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "a photo of a person wearing a red shirt, standing in a park"


def config(**changes: object) -> GenerateConfig:
    return GenerateConfig(height=128, width=128, **changes)


def test_the_picture_is_that_of_the_stock_pipeline_with_the_student_s_unet(tmp_path: Path) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    few = config(lightning="demo-base-lightning", seed=5)
    (made,) = generate(PROMPT, tmp_path, base="demo-base", config=few)
    pipe = StableDiffusionXLPipeline.from_pretrained(NETWORKS / "base")
    pipe.unet = UNet2DConditionModel.from_pretrained(NETWORKS / "base" / "unet_lightning")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    noise = torch.Generator().manual_seed(5)
    stock = pipe(PROMPT, num_inference_steps=4, guidance_scale=0.0, generator=noise, output_type="np").images[0]
    with Image.open(made) as picture:
        assert np.abs(np.asarray(picture).astype(int) - (stock * 255).round().astype(int)).max() <= 1
    assert read_provenance(made)["lightning"] == "demo-base-lightning"
    (plain,) = generate(PROMPT, tmp_path, base="demo-base", config=config(seed=5))
    assert plain.read_bytes() != made.read_bytes()
    assert read_provenance(plain)["lightning"] is None


def test_a_student_is_sampled_with_its_own_number_of_steps_and_without_guidance(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"samples in 4 steps; set lightning\.steps=4, or --steps"):
        generate(PROMPT, tmp_path, base="demo-base", config=config(lightning="demo-base-lightning", steps=2))
    with pytest.raises(ModelError, match="does not fit the base random-tiny"):
        generate(PROMPT, tmp_path, base="random-tiny", config=config(lightning="demo-base-lightning"))
    with pytest.raises(ValidationError, match="leave guidance at 0, or lightning out"):
        config(lightning="demo-base-lightning", guidance=5.0)

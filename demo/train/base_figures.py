"""Figures of the base and its student on captions, seeds and photos of a world that neither has seen.

The judge of what a picture shows has learnt from yet another world and is used by no training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from numpy.typing import NDArray

from ...evaluation.metrics import frechet_distance
from .. import judges
from . import base_data, record
from .base_text import said
from .base_vae import psnr

MEASURED = 920_003
"""Seed of the world of the figures' captions and photos."""

PROMPTS = 512
REFERENCE = 768
JUDGED = ("top_colour", "bottom_colour", "top", "top_pattern", "pose", "view", "framing", "background")
TEACHER_STEPS = 20
GUIDANCE = 4.0
STUDENT = "unet_lightning"

Pictures = NDArray[np.uint8]

TITLE = "A small SDXL of procedural people, and its four-step student"

WHAT = """
A text-to-image latent diffusion pipeline of SDXL's classes (`StableDiffusionXLPipeline`) at 128x128, trained from
nothing on photos of procedural people, one a photo, and their captions; and, in `unet_lightning`, a student of the
same shape that needs four network calls: trailing Euler steps without guidance, as SDXL-Lightning.

- `vae`: encoder a principal component transform of 8x8 blocks written into the layers, decoder trained.
- `text_encoder`, `text_encoder_2`: small CLIP text models with a tokenizer of the captions' words, trained with the
  UNet.
- Weights are in half precision; stock loaders read them as single precision.
- The judge is the attribute classifier of `demo/networks/judges`; its own accuracy on real renders is the ceiling.
"""


def measure(out: Path, work: Path, config: Mapping[str, object]) -> dict[str, Any]:
    """Measure the pipeline in `out` and write its figures and card."""
    examples = list(base_data.examples(MEASURED, PROMPTS + REFERENCE, work / "measured", 1))
    asked, reference = examples[:PROMPTS], examples[PROMPTS:]
    pipe = StableDiffusionXLPipeline.from_pretrained(out)
    teacher, student = pipe.unet, UNet2DConditionModel.from_pretrained(out / STUDENT)
    judge = judges.AttributeJudge()
    real = np.stack([e.image for e in asked])
    truth = [e.attributes for e in asked]
    figures: dict[str, Any] = {f"judge on renders: {k}": v for k, v in accuracies(judge(real), truth).items()}
    figures |= {f"chance: {k}": v for k, v in chances(truth).items()}
    against = judge.features(np.stack([e.image for e in reference]))
    figures["FID, renders"] = round(frechet_distance(judge.features(real), against), 2)
    captions = [e.captions[0] for e in asked]
    for name, unet, steps, guidance in (
        ("student, 4 steps", student, 4, 0.0),
        ("student, 1 step", student, 1, 0.0),
        (f"teacher, {TEACHER_STEPS} steps", teacher, TEACHER_STEPS, GUIDANCE),
    ):
        pipe.unet = unet
        pictures = generate(pipe, captions, MEASURED, steps, guidance)
        np.save(work / f"pictures-{name.replace(', ', '-').replace(' ', '-')}.npy", pictures)
        figures |= {f"{name}: {k}": v for k, v in accuracies(judge(pictures), truth).items()}
        figures[f"FID, {name}"] = round(frechet_distance(judge.features(pictures), against), 2)
        print({k: v for k, v in figures.items() if name in k}, flush=True)
    figures["PSNR of the autoencoder, dB"] = round(psnr(pipe.vae, base_data.pixels([e.image for e in asked[:256]])), 2)
    protocol = {
        "figures_world": MEASURED,
        "figures_prompts": PROMPTS,
        "figures_reference_photos": REFERENCE,
        "teacher_guidance": GUIDANCE,
        "FID": "squared Fréchet distance of the attribute judge's features; generated against reference renders",
    }
    record.write(
        out, "A small SDXL of procedural people, and its four-step student", WHAT, {**config, **protocol}, figures
    )
    return figures


@torch.no_grad()
def generate(
    pipe: StableDiffusionXLPipeline, prompts: Sequence[str], seed: int, steps: int, guidance: float, batch: int = 32
) -> Pictures:
    """One 128x128 picture a prompt, uint8 [N, 128, 128, 3], picture i from the noise of seed + i."""
    pipe.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    made = []
    for i in range(0, len(prompts), batch):
        part = list(prompts[i : i + batch])
        noise = [torch.Generator().manual_seed(seed + i + j) for j in range(len(part))]
        output: Any = pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise, output_type="np")
        made.append((output.images * 255).round().astype(np.uint8))
    return np.concatenate(made)


def accuracies(seen: Mapping[str, Sequence[str]], truth: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """For each judged attribute the share of pictures that show what was said, over pictures of which it was said.

    A patterned garment has two colours in nearly equal shares; the colour of plain ones is told apart.
    """
    out = {}
    words = [said(attributes) for attributes in truth]
    for name in JUDGED:
        pairs = [(a, w) for a, w in zip(seen[name], words, strict=True) if w[name] not in ("unsaid", "none")]
        out[name] = round(sum(a == w[name] for a, w in pairs) / len(pairs), 3)
        if name.endswith("_colour"):
            plain = [(a, w) for a, w in pairs if w[name.replace("_colour", "_pattern")] == "plain"]
            out[f"{name} of plain ones"] = round(sum(a == w[name] for a, w in plain) / len(plain), 3)
    return out


def chances(truth: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """For each judged attribute the share of its commonest value: what a guesser reaches who never looks."""
    out = {}
    for name in JUDGED:
        values = [w[name] for w in map(said, truth) if w[name] not in ("unsaid", "none")]
        out[name] = round(max(map(values.count, set(values))) / len(values), 3)
    return out

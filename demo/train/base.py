"""Trains the demo's base: a small SDXL pipeline on photos of procedural people, and its four-step student."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from . import base_data, corpus
from .base_student import StudentSettings, train_student
from .base_text import Hearing, TextEncoders, token_ids, word_tokenizer
from .base_unet import UNetSettings, scheduler, train_unet
from .base_vae import Transform, VaeSettings, fit_transform, train_decoder

PHOTOS = 12_288
FITTED = 2048
"""Photos that the transform of the autoencoder is fitted to."""

STUDENT = "unet_lightning"
"""Folder of the student's UNet beside the base's `unet`."""


def train(work: Path, out: Path) -> None:
    """Render, train the decoder, the text encoders with the UNet, and the student, measure, and write the pipeline."""
    torch.set_num_threads(1)
    data = load(work)
    text, teacher = train_teacher(data, work)
    vae = train_decoder(data.images, data.transform, VaeSettings(), work)
    student = train_student(teacher, text, data.ids, StudentSettings(), work)
    save(out, vae, text, data.tokenizer, teacher, student)
    from .base_figures import measure

    measure(out, work, settings())


@dataclass(frozen=True)
class TrainingData:
    """What the base learns from.

    images: uint8 [N, 3, 128, 128]; attributes: what is true of each; ids: token ids [N, K, S] of their captions;
    tokenizer, transform: what turns captions and images into numbers.
    """

    images: NDArray[np.uint8]
    attributes: list[dict[str, str]]
    ids: Tensor
    tokenizer: CLIPTokenizer
    transform: Transform


def load(work: Path) -> TrainingData:
    """Render the photos, or take them from `work`."""
    examples = list(base_data.examples(corpus.TRAINING["base"], PHOTOS, work / "photos"))
    images = base_data.pixels([example.image for example in examples])
    captions = [example.captions for example in examples]
    tokenizer = word_tokenizer(caption for group in captions for caption in group)
    flat = token_ids(tokenizer, [caption for group in captions for caption in group])
    ids = flat.view(len(captions), -1, flat.shape[1])
    return TrainingData(images, [e.attributes for e in examples], ids, tokenizer, fit_transform(images[:FITTED]))


def train_teacher(data: TrainingData, work: Path) -> tuple[TextEncoders, UNet2DConditionModel]:
    """Train the UNet and the text encoders together."""
    pixels = torch.from_numpy(data.images)
    sides = (pixels, pixels.flip(-1))
    latents = torch.stack([torch.cat([data.transform(part) for part in torch.split(side, 512)]) for side in sides])
    torch.manual_seed(UNetSettings().seed)
    end = int(data.tokenizer.eos_token_id)
    text = TextEncoders(end + 1, end)
    return text, train_unet(latents, data.ids, text, Hearing(data.attributes), UNetSettings(), work)


def settings() -> dict[str, object]:
    """Everything that decides the result."""
    return {
        "world": corpus.TRAINING["base"],
        "photos": PHOTOS,
        "transform_photos": FITTED,
        "photos_per_person": base_data.PHOTOS_PER_PERSON,
        "captions": base_data.CAPTIONS,
        "vae": asdict(VaeSettings()),
        "unet": asdict(UNetSettings()),
        "student": asdict(StudentSettings()),
    }


def assemble(
    vae: AutoencoderKL, text: TextEncoders, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionXLPipeline:
    """The stock pipeline of the parts."""
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text.first,
        text_encoder_2=text.second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler(),  # type: ignore[arg-type]
        add_watermarker=False,
    )


def save(
    out: Path,
    vae: AutoencoderKL,
    text: TextEncoders,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    student: UNet2DConditionModel | None = None,
) -> None:
    """Write the pipeline with half-precision weights; stock loaders read them as single precision."""
    for folder in ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", STUDENT):
        shutil.rmtree(out / folder, ignore_errors=True)
    pipe = assemble(vae, text, tokenizer, unet)
    parts: Sequence[torch.nn.Module] = (vae, text, unet, *([] if student is None else [student]))
    for part in parts:
        part.half()
    pipe.save_pretrained(out)
    if student is not None:
        student.save_pretrained(out / STUDENT)
    for part in parts:
        part.float()
    for name in ("text_encoder", "text_encoder_2"):
        # transformers loads in the type that the config names; the pipeline wants all its parts in one.
        file = out / name / "config.json"
        config = json.loads(file.read_text()) | {"dtype": "float32"}
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

"""Pictures from a pipeline, by the few-step scheme or the full one, each a function of its own seed."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

FEW_STEPS = 4


@torch.no_grad()
def sample(
    pipe: StableDiffusionXLPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: tuple[int, int],
    embeddings: Sequence[Tensor] = (),
    steps: int = FEW_STEPS,
    guidance: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Make one picture a prompt.

    Args:
        pipe: the base, with an adapter installed when `embeddings` are given.
        prompts: N prompts.
        seeds: N seeds of the starting noise.
        size: (height, width) in pixels.
        embeddings: of each condition of the adapter, `[N, d]`; the zero vector is a dropped condition.
        steps: steps of the sampler.
        guidance: at most 1: few-step Euler with trailing time steps, no guidance (SDXL-Lightning's scheme);
            above: the pipeline's own scheduler with classifier-free guidance, whose unconditional half has
            zero embeddings, as in training.

    Returns:
        RGB, `[N, height, width, 3]`.
    """
    guided = guidance > 1
    made = []
    # One at a time: stock pipelines take one embedding for a whole batch, and a picture depends on its own seed alone.
    with contextlib.nullcontext() if guided else few_step(pipe):
        for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            given = [embedding[index].to(pipe.device, pipe.unet.dtype) for embedding in embeddings]
            output: Any = pipe(
                prompt,
                height=size[0],
                width=size[1],
                num_inference_steps=steps,
                guidance_scale=guidance if guided else 0.0,
                ip_adapter_image_embeds=[stock_embedding(e, guided) for e in given] or None,
                generator=torch.Generator().manual_seed(seed),
                output_type="np",
            )
            made.append(output.images[0])
    return np.asarray((np.stack(made).clip(0, 1) * 255).round(), np.uint8)


def stock_embedding(embedding_d: Tensor, guided: bool) -> Tensor:
    """Return an embedding as stock pipelines take it: `[1, 1, d]`, with guidance `[2, 1, d]`, the zero vector first."""
    halves = [torch.zeros_like(embedding_d), embedding_d] if guided else [embedding_d]
    return torch.stack(halves)[:, None]


@contextlib.contextmanager
def few_step(pipe: StableDiffusionXLPipeline) -> Iterator[None]:
    """Give `pipe` the Euler scheduler with trailing time steps for the block."""
    own: Any = pipe.scheduler
    pipe.scheduler = EulerDiscreteScheduler.from_config(own.config, timestep_spacing="trailing")
    try:
        yield
    finally:
        pipe.scheduler = own

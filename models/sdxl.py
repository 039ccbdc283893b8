"""The base: an SDXL pipeline from a folder, a network of the registry, the hub's cache, or tiny with random weights.

Nothing is ever downloaded here; a missing base says which command fetches it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MissingExtraError, ModelError
from . import registry

try:
    from transformers.utils import logging as transformers_logging

    # Importing the pipeline imports image processors, which complain that torchvision, unused here, is missing.
    _verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from diffusers.utils.logging import disable_progress_bar
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    transformers_logging.set_verbosity(_verbosity)
except ImportError as error:
    raise MissingExtraError(error.name or "diffusers", "train") from error

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
RANDOM_TINY = "random-tiny"
PROMPT_TOKENS = 160  # a token is a byte here, and a caption must not lose its end
TEXT_WIDTH = 32  # each of the two text encoders; the UNet sees both side by side
TIME_ID_WIDTH = 8


ENCODERS = ("vae", "text_encoder", "text_encoder_2")


def load_base(
    name: str, seed: int = 0, dtype: torch.dtype = torch.float32, *, encoders: bool = True
) -> StableDiffusionXLPipeline:
    """Load the pipeline `name`: `random-tiny`, a name of the registry, a folder of `save_pretrained` or a hub name.

    Args:
        name: what to load.
        seed: of the random weights of `random-tiny`; without effect on real weights.
        dtype: of all weights.
        encoders: False leaves out VAE and text encoders, whose files need not be there.

    Raises:
        ModelError: the folder or the cached repository is missing or no SDXL pipeline.
    """
    absent: dict[str, Any] = {} if encoders else dict.fromkeys(ENCODERS)
    pipe = _random_tiny(seed) if name == RANDOM_TINY else _stored(name, dtype, absent)
    pipe.register_modules(**absent)  # type: ignore[no-untyped-call]
    move(pipe, torch.device("cpu"), dtype)
    pipe.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
    for module in networks(pipe):
        module.requires_grad_(False).eval()
    return pipe


def networks(pipe: StableDiffusionXLPipeline) -> tuple[nn.Module, ...]:
    """Return the networks that a pipeline has."""
    return tuple(each for each in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2) if each is not None)


def move(pipe: StableDiffusionXLPipeline, device: torch.device, dtype: torch.dtype) -> None:
    """Move all networks to `device` and `dtype`."""
    for network in networks(pipe):
        nn.Module.to(network, device, dtype)  # diffusers' own .to() warns whenever a dtype is named


@dataclass(frozen=True)
class Text:
    """What the UNet is told by a prompt.

    Attributes:
        states: `[B, S, D]`, hidden states of both encoders side by side.
        pooled: `[B, P]`, the second encoder's pooled embedding.
    """

    states: Tensor
    pooled: Tensor


@torch.no_grad()
def encode_text(pipe: StableDiffusionXLPipeline, prompts: list[str]) -> Text:
    """Encode prompts with both text encoders."""
    encode: Any = pipe.encode_prompt  # annotated for one prompt, made for several
    states, _, pooled, _ = encode(prompts, device=pipe.device, do_classifier_free_guidance=False)
    return Text(states, pooled)


def dropped_text(pipe: StableDiffusionXLPipeline) -> Text:
    """Return what a dropped text is, `[1, S, D]` and `[1, P]`: what stock guidance sees without a negative prompt.

    SDXL's pipelines put zeros there (`force_zeros_for_empty_prompt`), others the encoded empty prompt.
    """
    empty = encode_text(pipe, [""])
    if pipe.config["force_zeros_for_empty_prompt"]:
        return Text(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))
    return empty


def time_ids(original_size_B2: Tensor, crop_top_left_B2: Tensor, target_size: tuple[int, int]) -> Tensor:
    """Return SDXL's size conditions `[B, 6]`: original (height, width), crop (top, left), target (height, width)."""
    target_B2 = torch.tensor(target_size, device=original_size_B2.device).expand(len(original_size_B2), 2)
    return torch.cat([original_size_B2, crop_top_left_B2, target_B2], 1).float()


def _stored(name: str, dtype: torch.dtype, absent: dict[str, Any]) -> StableDiffusionXLPipeline:
    known, variant, where = registry.find(name), None, name
    if known is not None and ("/" not in name or registry.absence(known) is None):
        where, variant = str(registry.local(name)), known.hints.get("variant")
    folder = Path(where)
    if folder.exists() and not (folder / "model_index.json").exists():
        raise ModelError(f"{name} is no diffusers pipeline (no model_index.json); give a folder of save_pretrained")
    disable_progress_bar()
    try:
        return StableDiffusionXLPipeline.from_pretrained(
            where, local_files_only=True, dtype=dtype, variant=variant, **absent
        )
    except (OSError, ValueError) as error:
        if folder.exists():
            raise ModelError(f"{name} cannot be loaded: {error}") from error
        fetch = f"hf download {name}" if known is None else f"bolid models pull {known.name}"
        raise ModelError(
            f"the base model {name} is not on this machine; run: {fetch}   "
            f"(or use --base {RANDOM_TINY}, random weights, to try the road)"
        ) from error


def _random_tiny(seed: int) -> StableDiffusionXLPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = _byte_tokenizer()
        return StableDiffusionXLPipeline(
            unet=_tiny_unet(),
            vae=_tiny_vae(),
            text_encoder=CLIPTextModel(_tiny_text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(_tiny_text_config(tokenizer)),
            tokenizer=tokenizer,
            tokenizer_2=_byte_tokenizer(),
            scheduler=noise_schedule(),  # type: ignore[arg-type]
            add_watermarker=False,
        )


def _tiny_unet() -> UNet2DConditionModel:
    """SDXL's own layout (its first level without attention, then 1 and 2 transformer layers), a thousandth as wide."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * TIME_ID_WIDTH,
        cross_attention_dim=2 * TEXT_WIDTH,
    )
    return unet


def _tiny_vae() -> AutoencoderKL:
    vae: AutoencoderKL = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=256,
        scaling_factor=0.13025,
    )
    return vae


def _tiny_text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of all bytes and no merges: distinct prompts stay distinct, nothing is downloaded."""
    letters = byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    # Given as vocab=, not vocab_file=: transformers 5 builds a two-token vocabulary from the latter, silently.
    vocabulary: dict[str, Any] = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=PROMPT_TOKENS)


def byte_letters() -> list[str]:
    """Return the printable stand-in of each of the 256 bytes, in the order of byte-level BPE vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + index) for index in range(others)]


def noise_schedule() -> EulerDiscreteScheduler:
    """SDXL's own noise schedule."""
    scheduler: EulerDiscreteScheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    return scheduler

"""The few-step UNet of a base: SDXL-Lightning (Lin et al. 2024) or another distillation of the same network.

It has the base's own architecture, so that an adapter made for one fits the other; everything else (VAE, text
encoders) is the base's.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import ModelError, UsageError
from . import registry

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


def load_few_step_unet(name: str, base: UNet2DConditionModel, base_name: str, steps: int) -> UNet2DConditionModel:
    """Load a UNet with the architecture of `base`, frozen, in its type.

    Args:
        name: of the registry, a folder of `save_pretrained` (of a UNet, or of a pipeline), or a `.safetensors` file.
        base: the UNet that it was distilled from, without anything installed.
        base_name: for messages.
        steps: that it will be sampled with.

    Raises:
        ModelError: it is missing, damaged, does not fit the base, or is not for this number of steps.
    """
    path = _weights(name, base_name, steps)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as weights of a UNet ({error})") from error
    _require_same(tensors, base, f"{name} does not fit the base {base_name}")
    config = {**base.config, "encoder_hid_dim_type": None}
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
    # Copies: tensors in a mapped file may lie at odd addresses, where matrix products round in another way.
    unet.load_state_dict({key: value.to(base.dtype, copy=True) for key, value in tensors.items()}, assign=True)
    loaded: UNet2DConditionModel = unet.requires_grad_(False).eval()
    return loaded


def _weights(name: str, base_name: str, steps: int) -> Path:
    """Return the file of weights; a network of the registry must be for this number of steps and predict noise."""
    try:
        found = registry.resolve(name)
    except UsageError as error:
        raise ModelError(f"no few-step UNet {name}; run: bolid models pull sdxl-lightning-4step") from error
    hints = found.entry.hints if found.entry else {}
    if hints.get("prediction_type", "epsilon") != "epsilon":
        raise ModelError(f"{name} predicts the picture, not noise; choose a UNet for 2 steps or more")
    if hints.get("steps", steps) != steps:
        raise ModelError(f"{name} samples in {hints['steps']} steps; set lightning.steps={hints['steps']}, or --steps")
    path = found.path
    places = [path, path / WEIGHTS_FILE, path / "unet" / WEIGHTS_FILE]
    for place in places:
        if place.is_file():
            return place
    raise ModelError(
        f"{path} holds no UNet ({WEIGHTS_FILE}); give the few-step UNet of {base_name}: a file, or a folder of "
        "save_pretrained"
    )


def _require_same(tensors: dict[str, Tensor], base: UNet2DConditionModel, what: str) -> None:
    have = {key: tuple(value.shape) for key, value in tensors.items()}
    want = {key: tuple(value.shape) for key, value in base.state_dict().items()}
    if have == want:
        return
    key = min(key for key in have.keys() | want.keys() if have.get(key) != want.get(key))
    raise ModelError(
        f"{what}: {key} is {have.get(key, 'missing')} there and {want.get(key, 'missing')} in the base; give the "
        "few-step UNet that was distilled from this base"
    )

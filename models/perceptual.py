"""How different two pictures look: the distance of their features in the image tower of a CLIP.

The form is LPIPS's (Zhang et al. 2018, eq. 1, with all w_l = 1): features of several layers, each of unit length at
every place, squared differences averaged over places and layers. The network is one that other losses need anyway.

Shapes: N pictures, P patches, C channels.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingExtraError, ModelError
from .clip import CLIP

LAYERS = 4
"""Layers that are compared, evenly spaced, the last one among them."""


class PerceptualDistance:
    """The frozen image tower of a CLIP as a distance with a gradient.

    Args:
        folder: config.json, model.safetensors and preprocessor_config.json in Hugging Face's `CLIPModel` layout.

    Raises:
        ModelError: the folder or a file of it is missing, damaged, or does not hold all of a CLIP.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import CLIPModel
        except ImportError as error:
            raise MissingExtraError(error.name or "transformers", "train") from error
        kind: Any = CLIPModel  # the whole of it: loading a part warns of all that is left out
        try:
            model, report = kind.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            prepared = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
            self._mean, self._deviation = (
                torch.tensor(prepared[name], dtype=torch.float32)[:, None, None] for name in ("image_mean", "image_std")
            )
        except Exception as error:  # a damaged file raises whatever its parser raises
            said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ModelError(f"{folder} cannot be loaded as CLIP ({said}); {_advice()}") from error
        if report["missing_keys"]:
            lacking = f"{len(report['missing_keys'])} tensors, for instance {min(report['missing_keys'])}"
            raise ModelError(f"{folder} is no CLIP: it lacks {lacking}; {_advice()}")
        network = model.vision_model
        self.network: nn.Module = network.eval().requires_grad_(False)
        self._side = int(network.config.image_size)
        depth = int(network.config.num_hidden_layers)
        self._layers = sorted({max(1, round(depth * part / LAYERS)) for part in range(1, LAYERS + 1)})

    def place(self, device: torch.device) -> None:
        """Move the network; it stays in float32."""
        self.network.to(device)
        self._mean, self._deviation = self._mean.to(device), self._deviation.to(device)

    def __call__(self, drawn: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the distance of each picture from its target, `[N]`, at least 0, with a gradient to `drawn`.

        Args:
            drawn, target: `[N, 3, H, W]` RGB in -1..1.
            mask: `[N, 1, H, W]` in 0..1; where it is 0, both are grey.
        """
        with torch.autocast(drawn.device.type, enabled=False):
            drawn, target = drawn.float(), target.float()
            if mask is not None:
                drawn, target = drawn * mask, target * mask
            with torch.no_grad():
                wanted = self._features(target)
            each = [(a - b).square().sum(-1).mean(-1) for a, b in zip(self._features(drawn), wanted, strict=True)]
            return torch.stack(each).mean(0)

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """Return the patches' features `[N, P, C]` of the compared layers, each of unit length."""
        answer: Any = self.network(pixel_values=self._framed(pictures), output_hidden_states=True)
        return [F.normalize(answer.hidden_states[layer][:, 1:], dim=-1) for layer in self._layers]

    def _framed(self, pictures: Tensor) -> Tensor:
        """Fit pictures into the network's square, whole and in their aspect: a cut would take head and feet."""
        height, width = pictures.shape[-2:]
        ratio = self._side / max(height, width)
        to = max(1, round(height * ratio)), max(1, round(width * ratio))
        fitted = pictures
        if to != (height, width):
            fitted = F.interpolate(pictures, to, mode="bilinear", antialias=True, align_corners=False)
        normal = ((fitted + 1) / 2 - self._mean) / self._deviation
        free = self._side - to[0], self._side - to[1]
        top, left = free[0] // 2, free[1] // 2
        return F.pad(normal, (left, free[1] - left, top, free[0] - top))


def _advice() -> str:
    return f"run: bolid models pull {CLIP}"

"""The Body-ID Encoder: one latent `c_body` from any number of views of one person, and the decoder it is trained with.

Shapes: B identities, m views, d latent, R bone ratios, H and W crop.
Crops are RGB in -1..1, keypoints `[17, 3]` in pixels of the crop with a confidence.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import atomic
from ..errors import ModelError
from .body_config import BodyConfig
from .body_layers import Down, Up
from .heatmaps import BODY_KEYPOINT_COUNT, body_heatmaps

ENCODER_FILE = "encoder.safetensors"
DECODER_FILE = "decoder.safetensors"
CONFIG_FILE = "config.json"

RATIOS = 6
"""Bone-length ratios that the head predicts, see `training.losses.log_bone_ratios`."""
POOLED = (4, 3)
"""Height and width of the grid that the trunk is averaged to; proportions need to know where."""
LOGVAR_LIMIT = 8.0

N = TypeVar("N", bound=nn.Module)


def aggregate_views(mu: Tensor, logvar: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply the views' Gaussians, each to the power of its weight, with the prior N(0, I).

    `precision = 1 + sum_v w_v / var_v`, `mu = sum_v w_v mu_v / var_v / precision`: method.md stage 1.3, a product of
    experts (Hinton 2002; with the prior as one expert: Wu and Goodman 2018, eq. 2). The order of the views does not
    matter, a view of weight 0 changes nothing, and no view at all (m = 0) gives the prior.

    Args:
        mu, logvar: `[B, m, d]` posterior of each view.
        weight: `[B, m]` confidence of each view, at least 0.

    Returns:
        mu and logvar, `[B, d]`.
    """
    seen = weight[..., None] > 0
    precisions = torch.where(seen, weight[..., None] * torch.exp(-logvar), 0.0)
    precision = 1 + precisions.sum(1)
    # A view of weight 0 may hold anything, even NaN.
    mean = (precisions * torch.where(seen, mu, 0.0)).sum(1) / precision
    return mean, -precision.log()


class BodyEncoder(nn.Module):
    """A convolutional trunk over a crop and its 12 heat-maps: the posterior of one view, and of several."""

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.channels[0], *config.channels)
        self.stem = nn.Conv2d(3 + BODY_KEYPOINT_COUNT, widths[0], 3, padding=1)
        self.stages = nn.Sequential(*(Down(a, b) for a, b in pairwise(widths)))
        self.posterior = nn.Linear(widths[-1] * POOLED[0] * POOLED[1], 2 * config.latent)

    def forward(self, views: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior of each view.

        Args:
            views: `[B, m, 3, H, W]`; another size than the configured crop is scaled to it.
            keypoints: `[B, m, 17, 3]` in pixels of `views`.

        Returns:
            mu and logvar, `[B, m, d]`.
        """
        batch, count = views.shape[:2]
        if count == 0:
            empty = views.new_zeros(batch, 0, self.config.latent)
            return empty, empty
        crop = (views.shape[-1], views.shape[-2])
        maps = body_heatmaps(keypoints.flatten(0, 1), crop, self.config.size, self.config.heatmap_sigma)
        pixels = fitted(views.flatten(0, 1), self.config.size)
        features = self.stages(self.stem(torch.cat([pixels, maps.to(pixels.dtype)], 1)))
        pooled = F.adaptive_avg_pool2d(features, POOLED).flatten(1)
        # The posterior is made in float32 also under autocast: precisions of many views add up.
        with torch.autocast(pooled.device.type, enabled=False):
            mu, logvar = self.posterior(pooled.float()).unflatten(0, (batch, count)).chunk(2, -1)
        return mu, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)

    def encode(self, views: Tensor, keypoints: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar of `c_body`, `[B, d]`, from views weighted by `weight` `[B, m]`."""
        mu, logvar = self(views, keypoints)
        return aggregate_views(mu, logvar, weight)

    def save(self, folder: Path) -> None:
        """Write `encoder.safetensors` and `config.json` into `folder`."""
        save_network(self, folder, ENCODER_FILE, self.config)

    @classmethod
    def load(cls, folder: Path) -> "BodyEncoder":
        """Read what `save` wrote.

        Raises:
            ModelError: the files are missing, damaged or do not fit each other.
        """
        return load_network(cls(load_config(folder)), folder / ENCODER_FILE)


class BodyDecoder(nn.Module):
    """What a latent must be able to tell: the crop of a view in a given pose, and the bone ratios."""

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels[::-1]
        factor = 2 ** len(widths)
        self.start = (widths[0], config.height // factor, config.width // factor)
        self.seed = nn.Linear(config.latent, self.start[0] * self.start[1] * self.start[2])
        outputs = (*widths[1:], widths[-1])
        self.stages = nn.ModuleList(
            Up(a, b, BODY_KEYPOINT_COUNT, config.latent) for a, b in zip(widths, outputs, strict=True)
        )
        self.pixels = nn.Conv2d(outputs[-1], 3, 3, padding=1)
        self.ratio_head = nn.Sequential(nn.Linear(config.latent, 64), nn.SiLU(), nn.Linear(64, RATIOS))

    def forward(self, latent: Tensor, keypoints: Tensor) -> Tensor:
        """Draw the person of `latent` `[B, d]` in the pose of `keypoints` `[B, 17, 3]`: `[B, 3, H, W]` in -1..1."""
        features = self.seed(latent).unflatten(1, self.start)
        for stage in self.stages:
            size = (2 * features.shape[-1], 2 * features.shape[-2])
            maps = body_heatmaps(keypoints, self.config.size, size, self.config.heatmap_sigma)
            features = stage(features, maps.to(features.dtype), latent)
        return torch.tanh(self.pixels(features)).float()

    def ratios(self, latent: Tensor) -> Tensor:
        """Predict the log bone ratios `[B, R]` of `latent` `[B, d]`."""
        predicted: Tensor = self.ratio_head(latent)
        return predicted.float()

    def save(self, folder: Path) -> None:
        """Write `decoder.safetensors` and `config.json` into `folder`."""
        save_network(self, folder, DECODER_FILE, self.config)

    @classmethod
    def load(cls, folder: Path) -> "BodyDecoder":
        """Read what `save` wrote; raises ModelError as `BodyEncoder.load`."""
        return load_network(cls(load_config(folder)), folder / DECODER_FILE)


def random_init(config: BodyConfig, seed: int = 0) -> tuple[BodyEncoder, BodyDecoder]:
    """Return an encoder and a decoder whose weights are a function of `seed`; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BodyEncoder(config), BodyDecoder(config)


def fitted(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale pictures `[N, 3, H, W]` to `size` (width, height); those that have it are returned as they are."""
    if (pictures.shape[-1], pictures.shape[-2]) == size:
        return pictures
    return F.interpolate(pictures, (size[1], size[0]), mode="bilinear", antialias=True, align_corners=False)


def save_network(network: nn.Module, folder: Path, name: str, config: BodyConfig) -> None:
    """Write a network's weights and its configuration, each whole or not at all."""
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    with atomic.replacing(folder / name) as temporary:
        save_file(weights, temporary)
    atomic.write_text(folder / CONFIG_FILE, json.dumps(config.model_dump(mode="json"), indent=2) + "\n")


def load_config(folder: Path) -> BodyConfig:
    """Read `config.json`.

    Raises:
        ModelError: it is missing or not a configuration of this network.
    """
    path = folder / CONFIG_FILE
    try:
        return BodyConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{folder} holds no body encoder ({CONFIG_FILE} is missing); run: bolid train vae") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ModelError(f"{path} does not describe a body encoder of this version: {problems}") from None


def load_network(network: N, path: Path) -> N:
    """Put the weights in `path` into `network`, which is returned in evaluation mode.

    Raises:
        ModelError: the file is missing or damaged, or its tensors are not those of the network.
    """
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; run: bolid train vae") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit its {CONFIG_FILE}: {str(error).splitlines()[-1].strip()}") from error
    return network.eval()

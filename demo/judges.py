"""Judges of pictures, for evaluation only: what a photo of a procedural person shows, and how its body is built.

No network is trained with these: they learn from a world of people that the base never sees (`corpus.TRAINING`), so
that a base cannot have learnt to please them. Stand-ins of no real network; the small CLIP beside them is one, and is
loaded by `bolid.models.clip`.

Shapes: N pictures, H = W = 128 pixels, D features, S = 22 shape numbers, K whitened shape numbers.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import atomic
from ..errors import DataError, ModelError
from .networks import NETWORKS

JUDGES = NETWORKS / "judges"
SIZE = 128
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
BATCH = 64
LOG_PRECISION_LIMIT = 6.0
KEYPOINTS = 17
_LIMBS = ((5, 7), (6, 8), (7, 9), (8, 10), (11, 13), (12, 14), (13, 15), (14, 16))
_ACROSS = ((5, 6), (11, 12), (5, 11), (6, 12), (5, 12), (6, 11), (0, 5), (0, 6), (3, 4))
BONES = torch.tensor(_LIMBS + _ACROSS)
"""Pairs of COCO keypoints whose distance tells of the shape."""

Pictures = NDArray[np.uint8]
N = TypeVar("N", bound=nn.Module)
_ADVICE = "run: python -m bolid.demo.train judges"


class Residual(nn.Module):
    """Two convolutions beside a skip (He et al. 2016, identity mappings): `[N, C, H, W]` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        inner = self.conv1(F.relu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.relu(self.norm2(inner)))
        return out


class Trunk(nn.Module):
    """A small residual network: `[N, 3, 128, 128]` in 0..1 to `[N, 4 width, 8, 8]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, width, 3, 2, 1))
        stages: list[nn.Module] = [Residual(width)]
        for channels, outputs in pairwise((width, 2 * width, 4 * width)):
            stages += [nn.Conv2d(channels, outputs, 3, 2, 1), Residual(outputs)]
        self.stages = nn.Sequential(*stages, nn.BatchNorm2d(4 * width), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Return the grid of features."""
        out: Tensor = self.stages(self.stem(images * 2 - 1))
        return out


class Glances(nn.Module):
    """For each attribute a place to look at, and what is seen there: attention over the grid of features.

    Its answers begin as zeros, so that it changes nothing until it has learnt something.
    """

    def __init__(self, channels: int, classes: Sequence[int]) -> None:
        super().__init__()
        self.places = nn.Conv2d(channels, len(classes), 1)
        self.answers = nn.ModuleList(
            nn.Sequential(nn.Linear(channels + 3, 32), nn.ReLU(), nn.Linear(32, count)) for count in classes
        )
        for answer in self.answers:
            nn.init.zeros_(answer[2].weight)  # type: ignore[index]
            nn.init.zeros_(answer[2].bias)  # type: ignore[index]

    def forward(self, images: Tensor, grid: Tensor) -> list[Tensor]:
        """Return logits `[N, classes]` of each attribute from images `[N, 3, H, W]` and their grid `[N, C, h, w]`."""
        colours = F.adaptive_avg_pool2d(images, (grid.shape[2], grid.shape[3]))
        seen = torch.cat([grid, colours.to(grid.dtype)], 1).flatten(2)
        share = self.places(grid).flatten(2).float().softmax(-1).to(seen.dtype)
        looked = torch.einsum("nkp,ncp->nkc", share, seen)
        return [answer(looked[:, i]).float() for i, answer in enumerate(self.answers)]


class AttributeNetwork(nn.Module):
    """Features of a picture, and from them and a glance at the right place one classifier an attribute.

    Args:
        width: of the trunk.
        features: D.
        words: the classes of each attribute.
    """

    def __init__(self, width: int, features: int, words: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.words = {name: tuple(classes) for name, classes in words.items()}
        self.config = {"width": width, "features": features, "words": self.words}
        self.trunk = Trunk(width)
        self.pool = nn.Sequential(nn.Conv2d(4 * width, 64, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1024, features))
        self.heads = nn.ModuleList(nn.Linear(features, len(classes)) for classes in words.values())
        self.glances = Glances(4 * width, [len(classes) for classes in words.values()])

    def features(self, images: Tensor) -> Tensor:
        """Return the features `[N, D]` of images `[N, 3, 128, 128]` in 0..1."""
        out: Tensor = self.pool(self.trunk(images)).float()
        return out

    def forward(self, images: Tensor, *, glance: bool = True) -> dict[str, Tensor]:
        """Return the logits `[N, classes]` of each attribute; without glances from the features alone."""
        grid = self.trunk(images)
        hidden = F.relu(self.pool(grid).float())
        logits = [head(hidden).float() for head in self.heads]
        if glance:
            logits = [a + b for a, b in zip(logits, self.glances(images, grid), strict=True)]
        return dict(zip(self.words, logits, strict=True))


class ShapeNetwork(nn.Module):
    """A Gaussian over the whitened shape from each photo; photos of one person multiply (see `combine`).

    It finds the 17 keypoints in space first, and reads the shape from the lengths between them and from what the
    picture shows besides. `calibration` scales means and precisions; it is 1 while training.

    Args:
        width: of the trunk.
        names: the S shape numbers.
        valid: for each, whether it can be told from pictures, see the card.
        whitened: K.
    """

    calibration: Tensor
    mean: Tensor
    basis: Tensor

    def __init__(self, width: int, names: Sequence[str], valid: Sequence[bool], whitened: int) -> None:
        super().__init__()
        self.names, self.valid = tuple(names), tuple(valid)
        self.config = {"width": width, "names": list(names), "valid": list(valid), "whitened": whitened}
        self.trunk = Trunk(width)
        self.places = nn.Conv2d(4 * width, KEYPOINTS * 4, 1)
        self.squeeze = nn.Sequential(nn.Conv2d(4 * width, 16, 1), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU())
        self.posterior = nn.Sequential(
            nn.Linear(128 + KEYPOINTS * 4 + len(BONES), 192), nn.ReLU(), nn.Linear(192, 2 * whitened)
        )
        self.register_buffer("calibration", torch.ones(2))
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("basis", torch.zeros(whitened, len(names)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and precision `[N, K]` of the likelihood that each image gives."""
        mu, precision, _ = self.look(images)
        return mu, precision

    def look(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and precision `[N, K]`, and the keypoints `[N, 17, 3]`.

        A keypoint is x to the right, y down, both -1..1 across the image, and how much further than the middle of the
        hips it is, in the same unit.
        """
        grid = self.trunk(images)
        keypoints, certainty = _expected_places(self.places(grid).float())
        hips = keypoints[:, 11:13, :2].mean(1, keepdim=True)
        posed = torch.cat([(keypoints[..., :2] - hips) * 2, keypoints[..., 2:] * 2, certainty[..., None]], -1)
        ends = keypoints[:, BONES]
        lengths = ((ends[:, :, 0] - ends[:, :, 1]).square().sum(-1) + 1e-4).sqrt().log()
        seen = torch.cat([self.squeeze(grid).float(), posed.flatten(1), lengths], 1)
        mu, log_precision = self.posterior(seen).float().chunk(2, -1)
        precision = torch.exp(log_precision.clamp(-LOG_PRECISION_LIMIT, LOG_PRECISION_LIMIT))
        return mu * self.calibration[0], precision * self.calibration[1], keypoints

    @staticmethod
    def combine(mu: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply views `[..., m, K]` with the prior N(0, I): mean and variance `[..., K]`.

        A product of Gaussian experts (Hinton 2002): precisions add, means are weighted with them.
        """
        total = 1 + precision.sum(-2)
        return (mu * precision).sum(-2) / total, 1 / total

    def metres(self, whitened: Tensor) -> Tensor:
        """Turn whitened numbers `[..., K]` into a shape `[..., S]` in metres."""
        return self.mean + whitened @ self.basis


def _expected_places(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints `[N, 17, 3]` and certainties `[N, 17]` of maps `[N, 68, h, w]`: integral regression (Sun et al. 2018).

    Each cell says how likely a keypoint is near it, how far off, and how deep; the answer is the mean over all cells.
    """
    n, _, height, width = maps.shape
    score, off_x, off_y, depth = maps.view(n, 4, KEYPOINTS, height * width).unbind(1)
    share = score.softmax(-1)
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    grid_y, grid_x = (axis.flatten() for axis in torch.meshgrid(y, x, indexing="ij"))
    means = [(share * values).sum(-1) for values in (grid_x + off_x, grid_y + off_y, depth)]
    return torch.stack(means, -1), share.amax(-1)


class AttributeJudge:
    """Reads from a 128×128 picture what a caption says of it.

    Attributes:
        words: the classes of each attribute; those of the bottom garment mean little where no leg shows.

    Raises:
        ModelError: the folder's files are missing or damaged.
    """

    def __init__(self, folder: Path = JUDGES / "attributes") -> None:
        self._network = load_network(folder, AttributeNetwork)
        self.words: dict[str, tuple[str, ...]] = dict(self._network.words)

    def __call__(self, images: Pictures) -> dict[str, list[str]]:
        """Name each attribute of images uint8 `[N, 128, 128, 3]` RGB."""
        best = {name: p.argmax(1) for name, p in self.probabilities(images).items()}
        return {name: [self.words[name][i] for i in indices] for name, indices in best.items()}

    def probabilities(self, images: Pictures) -> dict[str, NDArray[np.float32]]:
        """Return the probability `[N, classes]` of each class of each attribute, in the order of `words`."""
        parts = [self._network(batch) for batch in _batches(images)]
        return {name: torch.cat([part[name].softmax(1) for part in parts]).numpy() for name in self.words}

    def features(self, images: Pictures) -> NDArray[np.float32]:
        """Return the features `[N, D]` that the classifiers share, for a Fréchet distance."""
        return torch.cat([self._network.features(batch) for batch in _batches(images)]).numpy()


class ShapeJudge:
    """Estimates a body's shape vector from one or several 128×128 pictures of it.

    Attributes:
        names: of the S numbers.
        valid: bool `[S]`, whether a number can be told from pictures at all; judge by those only.

    Raises:
        ModelError: the folder's files are missing or damaged.
    """

    def __init__(self, folder: Path = JUDGES / "shape") -> None:
        self._network = load_network(folder, ShapeNetwork)
        self.names: tuple[str, ...] = self._network.names
        self.valid: NDArray[np.bool_] = np.array(self._network.valid, bool)

    def __call__(self, images: Pictures) -> NDArray[np.float32]:
        """Estimate the shape `[N, S]` in metres from each of images uint8 `[N, 128, 128, 3]` RGB by itself."""
        mu, precision = self._views(images)
        return self._shape(mu[:, None], precision[:, None])

    def together(self, images: Pictures) -> NDArray[np.float32]:
        """Estimate one shape `[S]` in metres from images of the same person."""
        return self._shape(*self._views(images))

    def _views(self, images: Pictures) -> tuple[Tensor, Tensor]:
        parts = [self._network(batch) for batch in _batches(images)]
        return torch.cat([mu for mu, _ in parts]), torch.cat([precision for _, precision in parts])

    def _shape(self, mu: Tensor, precision: Tensor) -> NDArray[np.float32]:
        return self._network.metres(self._network.combine(mu, precision)[0]).numpy()


def save(network: AttributeNetwork | ShapeNetwork, folder: Path) -> None:
    """Write a judge's weights in float16 (statistics in float32) and its configuration."""
    exact = ("running_mean", "running_var", "mean", "basis", "calibration")
    weights = {
        name: (tensor if name.rsplit(".", 1)[-1] in exact else tensor.half()).contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    with atomic.replacing(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary)
    atomic.write_text(folder / CONFIG_FILE, json.dumps(network.config, indent=1) + "\n")


def _batches(images: Pictures) -> Sequence[Tensor]:
    """Images as tensors `[<= BATCH, 3, 128, 128]` in 0..1.

    Raises:
        DataError: another size or type.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3) or not len(images):
        raise DataError(
            f"a judge takes uint8 pictures [N, {SIZE}, {SIZE}, 3], not {images.dtype} {list(images.shape)}; resize them"
        )
    return [as_input(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]


def as_input(images: Pictures) -> Tensor:
    """Images uint8 `[N, H, W, 3]` as float32 `[N, 3, H, W]` in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255


def load_network(folder: Path, kind: type[N]) -> N:
    """Read what `save` wrote, in float32, for evaluation.

    Raises:
        ModelError: the files are missing, damaged or do not fit each other.
    """
    path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        network = kind(**json.loads(path.read_text(encoding="utf-8")))
        weights = {name: tensor.float() for name, tensor in load_file(weights_path).items()}
        counters = {name: t for name, t in network.state_dict().items() if not t.is_floating_point()}
        network.load_state_dict(counters | weights)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or weights_path} is missing; {_ADVICE}") from error
    except (SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        cause = str(error).strip().splitlines()[-1].strip()
        raise ModelError(f"{folder} holds no judge of this version ({cause}); {_ADVICE}") from error
    return network.eval().requires_grad_(False)

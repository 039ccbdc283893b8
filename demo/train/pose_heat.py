"""Heat maps to learn from: they tell each place of an inner layer which keypoint lies there, and are thrown away after.

YOLO's pose head sees a wrist only through the error of an offset of some hundred pixels, summed over ten anchors; from
random weights that takes long to show a narrow network where hands are. A 1x1 convolution on an inner layer that must
find each keypoint itself shows it at once. The network that is kept is as wide and as fast as without.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

KEYPOINTS = 17
WIDTH = 0.7
"""Standard deviation of a keypoint's heat, cells of the layer."""
HIDDEN_WEIGHT = 0.3
"""Weight of a keypoint that is in the picture, but hidden by the body or another thing."""


class KeypointHeat(nn.Module):
    """A heat map for each keypoint from each tapped layer of a network, and how far they are from the truth.

    Args:
        layers: the network's layers, `net.model`.
        tapped: which of them.
        channels: of each.
    """

    def __init__(self, layers: nn.Sequential, tapped: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, KEYPOINTS, 1) for width in channels)
        self._features: dict[int, torch.Tensor] = {}
        for place, layer in enumerate(tapped):
            layers[layer].register_forward_hook(lambda _, __, out, place=place: self._features.update({place: out}))

    def forward(self, keypoints: torch.Tensor, image_of: torch.Tensor, images: int) -> torch.Tensor:
        """Return the mean Kullback-Leibler divergence, in nats, of the heat from the truth; of the last forward pass.

        Args:
            keypoints: `[people, 17, 3]`, x and y as shares of the picture's sides, and visibility 0, 1 or 2.
            image_of: `[people]`, the picture that each is in.
            images: pictures of the batch. The heat of a picture with two people has two peaks.
        """
        losses = [
            divergence(head(self._features.pop(place).float()), keypoints.float(), image_of, images)
            for place, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


def divergence(logits: torch.Tensor, keypoints: torch.Tensor, image_of: torch.Tensor, images: int) -> torch.Tensor:
    """Return KL(truth || softmax of `logits [images, 17, h, w]` over its cells), the mean over keypoints that show."""
    height, width = logits.shape[2:]
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    across = torch.exp(-(((columns - keypoints[..., :1]) * width / WIDTH) ** 2) / 2)
    down = torch.exp(-(((rows - keypoints[..., 1:2]) * height / WIDTH) ** 2) / 2)
    weight = torch.tensor([0.0, HIDDEN_WEIGHT, 1.0])[keypoints[..., 2].long()]
    heat = (down[..., :, None] * across[..., None, :]).flatten(2) * weight[..., None]
    truth = torch.zeros(images, KEYPOINTS, height * width).index_add_(0, image_of, heat)
    counts = torch.zeros(images, KEYPOINTS).index_add_(0, image_of, weight).clamp(max=1)
    mass = truth.sum(-1, keepdim=True)
    counts = counts * (mass[..., 0] > 1e-4)
    truth = truth / mass.clamp(min=1e-6)
    apart = torch.xlogy(truth, truth).sum(-1) - (truth * logits.flatten(2).log_softmax(-1)).sum(-1)
    return (apart * counts).sum() / counts.sum().clamp(min=1)


class WithHeat:
    """A criterion of ultralytics to which the heat is added: its loss counts beside that of keypoints' visibility.

    Args:
        criterion: of ultralytics; called with predictions and batch, returns a vector and its parts by name.
        heat: of the same network.
        gain: weight of the heat.
        lr: of the heat's own heads, which Adam fits.
    """

    _PLACE = 2  # of the loss's vector: box, keypoints, visibility, class, distribution of the box

    def __init__(self, criterion: Any, heat: KeypointHeat, gain: float, lr: float) -> None:  # noqa: ANN401
        self._criterion, self._heat, self._gain = criterion, heat, gain
        self._optimizer = torch.optim.Adam(heat.parameters(), lr=lr)
        self.last = 0.0

    def __call__(self, predictions: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:  # noqa: ANN401
        """Return the loss `[5]` and the parts of ultralytics."""
        loss, parts = self._criterion(predictions, batch)
        images = len(batch["img"])
        with torch.autocast("cpu", enabled=False):
            heat = self._heat(batch["keypoints"], batch["batch_idx"].long().flatten(), images)
        self.last = float(heat.detach())
        more = torch.zeros_like(loss)
        more[self._PLACE] = self._gain * heat * images
        return loss + more, parts

    def step(self) -> None:
        """Fit the heads to the gradients that the last backward pass left."""
        self._optimizer.step()
        self._optimizer.zero_grad()

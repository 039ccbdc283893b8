"""The loop that all judges are trained with, and their photos as arrays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ... import progress
from .judges_data import View


@dataclass(frozen=True)
class Photos:
    """N photos: images uint8 [N, 128, 128, 3], shapes float32 [N, 22] metres, their words and captions."""

    identity: NDArray[np.int64]
    images: NDArray[np.uint8]
    shapes: NDArray[np.float32]
    words: list[dict[str, str]]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.images)


def photos(views: Iterable[View]) -> Photos:
    """Put photos side by side."""
    held = list(views)
    return Photos(
        np.array([view.identity for view in held]),
        np.stack([view.image for view in held]),
        np.stack([view.shape for view in held]),
        [view.words for view in held],
        [view.caption for view in held],
    )


@dataclass(frozen=True)
class Schedule:
    """AdamW with a learning rate that rises over a tenth of the steps and falls to nothing as a cosine."""

    epochs: int
    batch: int
    rate: float
    decay: float = 0.05
    seed: int = 0


Loss = Callable[[NDArray[np.int64], np.random.Generator], Tensor]


def fit(name: str, network: nn.Module, count: int, loss: Loss, schedule: Schedule) -> None:
    """Train a network in bfloat16 with float32 weights.

    Args:
        name: shown while it trains.
        network: whose parameters are trained; left in evaluation mode.
        count: items of an epoch.
        loss: of the items with these indices; draws what it needs from the generator.
        schedule: how long and how fast.
    """
    rng = np.random.Generator(np.random.PCG64(schedule.seed))
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": schedule.decay}, {"params": others, "weight_decay": 0.0}],
        lr=schedule.rate,
        betas=(0.9, 0.98),
    )
    steps = schedule.epochs * (count // schedule.batch)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.rate, steps, pct_start=0.1, cycle_momentum=False)
    network.train()
    recent = 0.0
    with progress.bar(name, steps, "steps") as bar:
        for _ in range(schedule.epochs):
            order = rng.permutation(count)
            for i in range(count // schedule.batch):
                with torch.autocast("cpu", torch.bfloat16):
                    value = loss(order[i * schedule.batch : (i + 1) * schedule.batch], rng)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                rates.step()
                recent += 0.02 * (float(value.detach()) - recent) if recent else float(value.detach())
                bar.advance(1, f"loss {recent:.3f}")
    network.eval()

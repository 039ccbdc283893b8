"""What the training loop asks of a task and of its data."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Batch = dict[str, Any]


class Task(Protocol):
    """What is trained."""

    def place(self, device: torch.device) -> None:
        """Move every network to `device`, frozen ones included; called once, before anything else."""

    def trainable(self) -> dict[str, nn.Module]:
        """Return the modules to train by name; of these, what requires a gradient is optimized, saved and averaged."""

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return scalars: `loss`, the total to minimise, and the named terms; `step` counts updates from 0."""

    def sample(self, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write pictures of the present state into `folder` (file names with the step); may return validation figures.

        Called without gradients, with the averaged weights in place, on the first process only.
        """

    def export(self, folder: Path) -> None:
        """Write the weights for use elsewhere into `folder`, which is new; conditions as for `sample`."""


@runtime_checkable
class Compiled(Protocol):
    """A task that says what is worth compiling; of other tasks, what is trained is compiled."""

    def compiled(self) -> list[nn.Module]:
        """Return the networks that `loop.compile` compiles, frozen ones included."""


class Batches(Protocol):
    """Where batches come from."""

    def __call__(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Yield batches without end, from the one with number `start` (from 0) of process `rank` on.

        Batch n must not depend on `start`. The batch's key `key`, when it has one, names its samples.
        """

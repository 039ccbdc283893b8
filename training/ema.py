"""Exponential moving average of the trained tensors."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


def decay_at(step: int, decay: float) -> float:
    """Return the decay of update `step` (from 0): it rises to `decay` as (1 + step) / (10 + step).

    The rise is that of tf.train.ExponentialMovingAverage(num_updates=step): without it the average would
    hold the initial weights for 1 / (1 - decay) updates.
    """
    return min(decay, (1 + step) / (10 + step))


class Average:
    """A float32 copy of every floating tensor in `tensors`, moved towards it at each update; `decay` 0 keeps none."""

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self._decay = decay
        self._live = {name: tensor for name, tensor in tensors.items() if decay and tensor.is_floating_point()}
        self.tensors = {name: tensor.detach().float().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the live tensors; `step` counts updates from 0."""
        if self.tensors:
            live = [tensor.detach().float() for tensor in self._live.values()]
            torch._foreach_lerp_(list(self.tensors.values()), live, 1 - decay_at(step, self._decay))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in place of the live tensors for the block."""
        kept = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        try:
            self._overwrite(self.tensors)
            yield
        finally:
            self._overwrite(kept)

    @torch.no_grad()
    def _overwrite(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])

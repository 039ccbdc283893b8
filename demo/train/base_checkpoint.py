"""What every training loop of the base shares: checkpoints, the learning rate, the order of the samples."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ... import atomic
from ...errors import ConfigError


def save_checkpoint(file: Path, settings: Any, step: int, **parts: Any) -> None:  # noqa: ANN401 - any dataclass
    """Write the step and the state of each part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {name: part.state_dict() for name, part in parts.items()}
    with atomic.replacing(file) as temporary:
        torch.save({"settings": asdict(settings), "step": step, **state}, temporary)


def load_checkpoint(file: Path, settings: Any, **parts: Any) -> int:  # noqa: ANN401 - any dataclass
    """Load the parts and return the step that follows; 0 when there is no checkpoint.

    Raises:
        ConfigError: the checkpoint was made with other settings.
    """
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    if state["settings"] != asdict(settings):
        raise ConfigError(f"{file} was made with other settings; delete it to train anew")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def rate_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def shuffled(count: int, batch: int, seed: int, skip: int) -> Iterator[NDArray[np.int64]]:
    """Yield batches of indices, epoch after epoch, each epoch in an order of its own, from batch number `skip`."""
    each = count // batch
    epoch, first = divmod(skip, each)
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for i in range(first, each):
            yield order[i * batch : (i + 1) * batch]
        epoch, first = epoch + 1, 0

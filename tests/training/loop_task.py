"""A small task for the tests of the loop: a line fitted to noisy points, with dropout so that random state matters."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from bolid.training.config import LoopConfig, RunConfig
from bolid.training.loop import Batch, RunSummary, train
from torch import Tensor, nn


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class LineTask:
    """Two modules that share a tensor, one frozen; `bad` steps give a loss that is not finite."""

    def __init__(self, bad: frozenset[int] = frozenset(), die_at: int = -1) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.line, self.frozen = Line(), nn.Linear(4, 4).requires_grad_(False)
        self.shared = nn.ModuleDict({"again": self.line.layers[3]})
        self.bad, self.die_at = bad, die_at
        self.sampled: list[int] = []

    def place(self, device: torch.device) -> None:
        self.line.to(device)
        self.frozen.to(device)

    def trainable(self) -> dict[str, nn.Module]:
        return {"line": self.line, "shared": self.shared}

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        if step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        error = self.line(self.frozen(batch["x"]) + 0.1 * torch.randn(batch["x"].shape)) - batch["y"]
        fit = error.square().mean() * (float("nan") if step in self.bad else 1.0)
        size = self.line.layers[0].weight.square().mean()
        return {"loss": fit + 0.01 * size, "fit": fit, "size": size}

    def sample(self, step: int, folder: Path) -> dict[str, float]:
        self.sampled.append(step)
        (folder / f"{step}.txt").write_text("picture")
        return {"figure": float(step)}

    def export(self, folder: Path) -> None:
        torch.save(self.line.state_dict(), folder / "line.pt")


def points(start: int, rank: int, world_size: int) -> Iterator[Batch]:
    number = start
    while True:
        generator = torch.Generator().manual_seed(number * world_size + rank)
        x = torch.randn(16, 4, generator=generator)
        yield {"x": x, "y": x.sum(1, keepdim=True), "key": [f"sample{number}"]}
        number += 1


def config(**changes: object) -> RunConfig:
    values: dict[str, object] = {"steps": 12, "warmup": 3, "lr": 0.02, "save_every": 4, "log_every": 1, "device": "cpu"}
    return RunConfig(loop=LoopConfig.model_validate(values | {"workers": 0, "sample_every": 6} | changes))


def run(folder: Path, resume: bool = False, task: LineTask | None = None, **changes: object) -> RunSummary:
    return train(task or LineTask(), points, folder, config(**changes), resume)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of the metrics that are equal in equal runs."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("samples_per_s", "data_wait", "memory_mb")} for row in found]


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(
        Path(sys.argv[1]),
        resume="resume" in sys.argv,
        task=LineTask(die_at=int(sys.argv[2])),
        **json.loads(sys.argv[3]),
    )
    print(f"process {PartialState().process_index} of {PartialState().num_processes}")

"""Which start gives L_id a useful gradient: keypoints and gradient of an untrained adapter against the start's time.

Prints a row a start: pure noise, then the target's own latent noised to each step of the sampler (t = 999, 749, 499,
249 for four). For each:

- `found`: share of the target's confident body keypoints that counted in the generated picture;
- `near`: share of them that lie within 0.2 torso lengths of the target's, in the torso frame; `median`: their distance;
- `L_id`, and the median norm of its gradient over all of the adapter, as a multiple of L_diff's on the same batch;
- `agreement`: mean cosine between the gradients of different noises. 1: they all say the same; 0: they say nothing.

The last row is the target decoded from its latent: what the VAE and the read-out leave of a perfect picture.

    python benchmarks/lightning_start.py --shards data/shards --body data/runs/vae/export \\
        --set base=sdxl-base-1.0 --set lightning.model=sdxl-lightning-4step --set losses.pose=yolo11x-pose
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from bolid.config import load_config
from bolid.training import adapter_data, losses
from bolid.training.adapter import AdapterTask, fresh_model
from bolid.training.adapter_config import AdapterConfig
from bolid.training.adapter_model import AdapterModel
from bolid.training.lightning import SHORTEST_TORSO, LightningBranch, opened, trailing_times
from bolid.training.task import Batch
from bolid.training.trainer import seed_step
from torch import Tensor

NEAR = 0.2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every start and print the table."""
    asked = options(arguments)
    fixed = ["weights.id=1", "losses.id=keypoints", "drop.text=0", "drop.face=0", "drop.body=0", "drop.all=0"]
    config = load_config(AdapterConfig, asked.config, [*fixed, *asked.set])
    model = fresh_model(config, asked.body)
    task = AdapterTask(model, config)
    branch = opened(model, config)
    assert branch is not None
    task.branch = branch
    device = torch.device("cuda" if torch.cuda.is_available() and config.loop.device != "cpu" else "cpu")
    task.place(device)
    data = adapter_data.dataset(asked.shards, asked.split, config, model.encoder.config)
    batch = adapter_data.examples(data, asked.people)
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    scale = diffusion_gradient(task, batch, asked.noises)
    rows = [measured(branch, config, batch, start, asked.noises, scale) for start in range(config.lightning.steps + 1)]
    rows.append(perfect(branch, batch))
    print(f"{len(batch['key'])} people of {config.base}, {config.resolution} px, {asked.noises} noises each, {device}")
    show(rows)
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured(
    branch: LightningBranch, config: AdapterConfig, batch: Batch, start: int, noises: int, scale: float
) -> dict[str, float | str]:
    """Return the figures of one start."""
    lightning = config.lightning.model_copy(update={"start": start})
    branch.config = config.model_copy(update={"lightning": lightning})
    model = branch.model
    latents, conditions = model.latents(batch, draw=False), model.conditions(batch)
    errors, total, norms, seen = [], torch.zeros(()), [], []
    for noise in range(noises):
        seed_step(config.loop.seed, noise, 0)
        with autocast(model):
            made = branch.generate(batch, latents, conditions)
            error, counted = compared(branch, made.pictures, made.keypoints)
        gradient = gradient_of(model, error.sum(1).mean())
        norms.append(float(gradient.norm()))
        total = total.to(gradient) + gradient / max(norms[-1], 1e-30)
        errors.append(error.detach().sqrt()[counted])
        seen.append((counted.sum(), wanted(branch, made.keypoints).sum()))
    between = (float(total.square().sum()) - noises) / (noises * (noises - 1))  # mean over pairs of unit vectors
    times = trailing_times(len(model.alphas), config.lightning.steps)
    time = times[max(start, 1) - 1]
    figures = summary(torch.cat(errors), seen)
    return {
        "start": f"t = {time}" if start else "noise",
        "signal": float(model.alphas[time].sqrt()) if start else 0.0,
        **figures,
        "L_id": float(sum((error.square().sum() for error in errors), torch.zeros(()))) / noises / len(batch["key"]),
        "gradient": statistics.median(norms) / scale,
        "agreement": between,
    }


def perfect(branch: LightningBranch, batch: Batch) -> dict[str, float | str]:
    """Return the figures of the targets, decoded from their latents."""
    with torch.no_grad(), autocast(branch.model):
        pictures = branch.decode(branch.model.latents(batch, draw=False))
        error, counted = compared(branch, pictures, batch["keypoints"])
    figures = summary(error.sqrt()[counted], [(counted.sum(), wanted(branch, batch["keypoints"]).sum())])
    return {"start": "target", "signal": 1.0, **figures, "L_id": float(error.sum(1).mean())}


def compared(branch: LightningBranch, pictures: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distances `[B, 12]` in torso lengths, and which counted."""
    assert branch.pose is not None
    asked = branch.config.losses
    found = branch.pose(pictures)
    shortest = SHORTEST_TORSO * min(pictures.shape[-2:])
    error, counted = losses.keypoint_error(found.keypoints, keypoints, asked.keypoint_confidence, shortest)
    counted = counted & (found.score >= asked.person_score)[:, None]
    return torch.where(counted, error, 0.0), counted


def wanted(branch: LightningBranch, keypoints: Tensor) -> Tensor:
    """Return which body keypoints of the targets are sure enough to be compared, `[B, 12]`."""
    return keypoints[:, losses.BODY, 2] >= branch.config.losses.keypoint_confidence


def summary(distance: Tensor, seen: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return the shares and the median of the keypoints that counted."""
    counted, asked = (float(sum(pair[side] for pair in seen)) for side in (0, 1))
    return {
        "found": counted / max(asked, 1),
        "near": float((distance <= NEAR).sum()) / max(asked, 1),
        "median": float(distance.median()) if len(distance) else float("nan"),
    }


def diffusion_gradient(task: AdapterTask, batch: Batch, noises: int) -> float:
    """Return the median norm of L_diff's gradient, the yardstick of the others."""
    branch, task.branch = task.branch, None
    norms = []
    for noise in range(noises):
        seed_step(task.config.loop.seed, noise, 0)
        with autocast(task.model):
            loss = task.loss(batch, 0)["loss"]
        norms.append(float(gradient_of(task.model, loss).norm()))
    task.branch = branch
    return statistics.median(norms)


def gradient_of(model: AdapterModel, loss: Tensor) -> Tensor:
    """Return the gradient over all of the adapter as one vector; zeros where it does not reach."""
    parameters = [parameter for parameter in model.bundle.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten().float() for gradient in found])


def autocast(model: AdapterModel) -> torch.autocast:
    """Return the precision in which the loop runs losses."""
    dtype = model.pipe.unet.dtype
    return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)


def show(rows: Sequence[dict[str, float | str]]) -> None:
    """Print the table."""
    names = list(rows[0])
    print(" ".join(f"{name:>10}" for name in names))
    for row in rows:
        cells = [row.get(name, "") for name in names]
        print(" ".join(f"{cell:>10}" if isinstance(cell, str) else f"{cell:>10.4g}" for cell in cells))


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--shards", type=Path, required=True, help="folder of a packed dataset with keypoints")
    parser.add_argument("--body", type=Path, required=True, help="export folder of a VAE run")
    parser.add_argument("--split", default="train")
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--noises", type=int, default=8, help="starting noises, at least 2")
    parser.add_argument("--config", type=Path, help="TOML file, as for bolid train adapter")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="likewise")
    parser.add_argument("--out", type=Path, help="file for the rows, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

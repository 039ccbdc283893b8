"""The few-step student: the teacher's guided Euler solution in four steps of one network call each.

The student starts as the teacher and learns, at each of the four trailing time steps, the one Euler step that lands
where several guided teacher steps land (progressive distillation, Salimans and Ho 2022, with the guidance folded in as
in Meng et al. 2023, all halvings at once). Its inputs are points of the teacher's own solutions from pure noise, so it
is trained on what it meets. Sampled as SDXL-Lightning is: trailing Euler steps without guidance.
"""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ... import progress
from .base_checkpoint import load_checkpoint, rate_at, save_checkpoint, shuffled
from .base_text import TextEncoders
from .base_unet import Averaged, plain_attention, predict, scheduler, seeded_noise, trajectories

STEPS = 4


@dataclass(frozen=True)
class StudentSettings:
    """How the student is distilled."""

    solutions: int = 2048
    teacher_steps: int = 12
    guidance: float = 4.0
    steps: int = 1500
    batch: int = 48
    rate: float = 4e-4
    warmup: int = 100
    average: float = 0.995
    seed: int = 4


@torch.no_grad()
def text_states(text: TextEncoders, ids_NS: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states [N, S, D] and the pooled embedding [N, P] of token ids."""
    parts = [text(part) for part in torch.split(ids_NS, 64)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[2] for part in parts])


def train_student(
    teacher: UNet2DConditionModel, text: TextEncoders, ids_NKS: Tensor, settings: StudentSettings, work: Path
) -> UNet2DConditionModel:
    """Distil the teacher on captions given as token ids [N, K, S]; the text encoders stay as they are."""
    rng = np.random.default_rng(settings.seed)
    n, k = rng.integers(0, ids_NKS.shape[0], settings.solutions), rng.integers(0, ids_NKS.shape[1], settings.solutions)
    states, pooled = text_states(text, ids_NKS[n, k])
    paths_5NCHW = _solutions(teacher, states, pooled, settings, work)
    sigmas, times = student_sigmas()
    torch.manual_seed(settings.seed)
    student = copy.deepcopy(teacher).requires_grad_(True).train()
    plain_attention(student)
    optimizer = torch.optim.AdamW(student.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    mean = Averaged(student, settings.average)
    file = work / "student.pt"
    start = load_checkpoint(file, settings, student=student, mean=mean, optimizer=optimizer)
    batches = shuffled(STEPS * settings.solutions, settings.batch, settings.seed, start)
    losses, begun = 0.0, time.monotonic()
    with progress.bar("student", settings.steps - start) as bar:
        for step in range(start, settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, settings.steps, settings.warmup, settings.rate)
            which, place = (torch.from_numpy(a) for a in np.divmod(next(batches), STEPS))
            x, then = paths_5NCHW[place, which].float(), paths_5NCHW[place + 1, which].float()
            sigma, after = (s[:, None, None, None] for s in (sigmas[place], sigmas[place + 1]))
            made = predict(student, x / (sigma**2 + 1).sqrt(), times[place], states[which], pooled[which])
            # The error where the step lands, against the size of what is there.
            weight = ((sigma - after) ** 2 / (after**2 + 1)).clamp(0.5, 5.0)
            loss = (weight * (made - (then - x) / (after - sigma)).square()).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            mean.update(student, step)
            losses += loss.item()
            bar.advance(1)
            if (step + 1) % 100 == 0:
                each = (time.monotonic() - begun) / (step + 1 - start)
                print(f"student step {step + 1} loss {losses / 100:.4f} {each:.3f} s/step", flush=True)
                losses = 0.0
                save_checkpoint(file, settings, step + 1, student=student, mean=mean, optimizer=optimizer)
    mean.copy_to(student)
    return student.eval().requires_grad_(False)


def student_sigmas() -> tuple[Tensor, Tensor]:
    """The scheduler's five noise levels and four time steps of a few-step sample."""
    euler: Any = type(scheduler()).from_config(scheduler().config, timestep_spacing="trailing")
    euler.set_timesteps(STEPS)
    return euler.sigmas, euler.timesteps


def _solutions(
    teacher: UNet2DConditionModel, states: Tensor, pooled: Tensor, settings: StudentSettings, work: Path
) -> Tensor:
    """The teacher's solutions at the student's five noise levels, bfloat16 [5, N, C, H, W], kept in `work`."""
    file = work / "solutions.pt"
    if file.exists():
        kept: Tensor = torch.load(file, weights_only=True)
        return kept
    teacher.eval()
    noise = seeded_noise(settings.seed, settings.solutions)
    made = []
    every = settings.teacher_steps // STEPS
    walk = trajectories(teacher, states, pooled, noise, settings.teacher_steps, settings.guidance, every)
    with progress.bar("teacher", -(-settings.solutions // 64)) as bar:
        for path in walk:
            made.append(path)
            bar.advance(1)
    paths = torch.cat(made, 1)
    torch.save(paths, file)
    return paths

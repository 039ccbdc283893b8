"""One update of the training loop, and all that belongs to one process: optimizer, averaged weights, device, seeds."""

import contextlib
import hashlib
import importlib
import math
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import InitProcessGroupKwargs, send_to_device
from torch import Tensor, nn

from .. import progress
from ..errors import MissingExtraError, TrainingError
from . import checkpoint, run_folder
from .checkpoint import Progress
from .config import LoopConfig
from .ema import Average
from .run_folder import RunFolder
from .task import Batch, Compiled, Task

LONGEST_WAIT = timedelta(hours=4)
"""For the first process, which draws the grids and writes the bank alone; torch's own limit on GPUs is ten minutes."""
SHARDED = {
    "FSDP": "ACCELERATE_USE_FSDP",
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron": "ACCELERATE_USE_MEGATRON_LM",
}
"""What cuts weights or moments up between processes, and the variable by which accelerate launch asks for it."""


class Trainer:
    """One task with its optimizer and averaged weights on this process's device."""

    def __init__(self, task: Task, accelerator: Accelerator, loop: LoopConfig) -> None:
        self.task, self.accelerator, self.loop = task, accelerator, loop
        task.place(accelerator.device)
        self.tensors = checkpoint.trained_tensors(task.trainable())
        module = _Loss(task)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = optimizer_for(parameters, loop)
        self.average = Average(self.tensors, loop.ema)
        if loop.compile:
            compile_networks(task, loop.compile)
        self.module = accelerator.prepare(module)

    def update(self, stream: Iterator[Batch], done: Progress) -> tuple[Progress, dict[str, Tensor | float]]:
        """Do one update; return the new progress and the figures of the update.

        Raises:
            TrainingError: too many updates in a row were not finite, or the device is out of memory.
        """
        begun = time.perf_counter()
        self.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.loop, done.step)
        gathered = _Gathered()
        for part in range(self.loop.accumulation):
            self._accumulate(stream, done.step, part, gathered)
        norm = self._gradient_norm()
        finite = self.agreed(bool(torch.isfinite(gathered.terms["loss"] + norm)))
        if finite:
            self.optimizer.step()
            self.average.update(done.step)
        self.optimizer.zero_grad(set_to_none=True)
        done = self._counted(done, finite, gathered)
        seconds = time.perf_counter() - begun
        return done, {
            **self._over_processes(gathered.terms),
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "grad_norm": norm,
            "samples_per_s": gathered.samples * self.accelerator.num_processes / seconds,
            "data_wait": gathered.waited / seconds,
            "memory_mb": peak_memory_mb(self.accelerator.device),
            "skipped": float(not finite),
        }

    def _accumulate(self, stream: Iterator[Batch], step: int, part: int, gathered: "_Gathered") -> None:
        """Add the gradient of one batch."""
        begun = time.perf_counter()
        batch = send_to_device(next(stream), self.accelerator.device, non_blocking=True)
        gathered.waited += time.perf_counter() - begun
        seed_step(self.loop.seed, step * self.loop.accumulation + part, self.accelerator.process_index)
        last = part == self.loop.accumulation - 1
        with memory_advice(), _synced(self.accelerator, self.module, last):
            terms = self.module(batch, step)
            self.accelerator.backward(terms["loss"] / self.loop.accumulation)
        gathered.add(batch, terms, self.loop.accumulation)

    def _over_processes(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of each term over the processes (which must have the same terms), in one exchange."""
        if self.accelerator.num_processes == 1:
            return terms
        means = self.accelerator.reduce(torch.stack(list(terms.values())), "mean")
        return dict(zip(terms, means, strict=True))

    def _gradient_norm(self) -> Tensor:
        parameters = [parameter for parameter in self.module.parameters() if parameter.grad is not None]
        norm: Tensor = nn.utils.clip_grad_norm_(parameters, self.loop.clip or math.inf)
        return norm

    def _counted(self, done: Progress, finite: bool, gathered: "_Gathered") -> Progress:
        if finite:
            return Progress(done.step + 1, done.skipped)
        in_a_row = done.skipped_in_a_row + 1
        bad = [name for name, value in gathered.terms.items() if not torch.isfinite(value)] or ["the gradient"]
        message = f"step {done.step + 1}: {', '.join(bad)} not finite, for the samples {', '.join(gathered.keys)}"
        if in_a_row >= self.loop.nonfinite_limit:
            raise TrainingError(
                f"{message}; {in_a_row} updates in a row were skipped. Look at these samples, lower loop.lr, "
                "or set loop.mixed_precision=no"
            )
        progress.warn(f"{message}; the update is skipped")
        return Progress(done.step + 1, done.skipped + 1, in_a_row)

    def agreed(self, finite: bool) -> bool:
        """Return whether `finite` holds on every process."""
        return not self.anyone(not finite)

    def anyone(self, flag: bool) -> bool:
        """Return whether `flag` holds on any process."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum") > 0)

    def save(self, run: RunFolder, done: Progress) -> None:
        """Write a checkpoint from the first process and delete the oldest."""
        if self.accelerator.is_main_process:
            checkpoint.save(run.checkpoints, done, self.tensors, self.average, self.optimizer)
            checkpoint.rotate(run.checkpoints, self.loop.keep)
        self.accelerator.wait_for_everyone()

    def restore(self, run: RunFolder) -> Progress:
        """Load the newest checkpoint; without one, begin at step 0."""
        found = checkpoint.steps(run.checkpoints)
        if not found:
            return Progress()
        done = checkpoint.load(found[-1], self.tensors, self.average, self.optimizer)
        progress.say(f"continuing {run.root} at step {done.step}")
        return done

    def sample(self, run: RunFolder, step: int) -> Mapping[str, float]:
        """Let the task write its sample grids; return its validation figures."""
        run.samples.mkdir(exist_ok=True)
        with self._averaged() as first:
            return (self.task.sample(step, run.samples) or {}) if first else {}

    def export(self, run: RunFolder) -> None:
        """Let the task write its weights, whole or not at all."""
        with self._averaged() as first:
            if first:
                with run_folder.replacing_folder(run.export) as folder:
                    self.task.export(folder)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[bool]:
        """Use the averaged weights, in evaluation mode, without gradients; yield whether this is the first process."""
        self.module.eval()
        seed_step(self.loop.seed, -1, 0)
        with torch.no_grad(), self.average.applied():
            yield self.accelerator.is_main_process
        self.accelerator.wait_for_everyone()


def accelerator_for(loop: LoopConfig) -> Accelerator:
    """Return the Accelerator of this process.

    Raises:
        TrainingError: the GPU asked for is not there, or accelerate is set to cut up the weights.
    """
    if loop.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "loop.device=cuda, but torch sees no GPU; set loop.device=cpu or install a CUDA build of torch"
        )
    _refuse_sharding()
    on_gpu = torch.cuda.is_available() and loop.device != "cpu"
    if not on_gpu and "OMP_NUM_THREADS" not in os.environ:
        # Readers need cores too: with a thread a core, both wait for each other, ten times as slow on two cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    precision = ("bf16" if on_gpu else "no") if loop.mixed_precision == "auto" else loop.mixed_precision
    # A branch that runs every n steps, or a head with nothing measured, leaves parameters unused.
    handlers = [
        DistributedDataParallelKwargs(find_unused_parameters=True),
        InitProcessGroupKwargs(timeout=LONGEST_WAIT),
    ]
    # Several processes without a GPU find each other only when told that they are to work on the CPU.
    on_cpu = loop.device == "cpu" or (not on_gpu and int(os.environ.get("WORLD_SIZE", "1")) > 1)
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=handlers)


def _refuse_sharding() -> None:
    """Refuse weights in pieces: checkpoints, averaged weights and the export hold whole tensors of one process.

    Asked of the environment, because on CPUs accelerate takes no notice of it and copies the weights without a word.
    """
    for name, variable in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("1", "true", "yes"):
            raise TrainingError(
                f"accelerate is set to use {name}, which cuts weights up between processes; bolid's checkpoints hold "
                "them whole. Run accelerate config again and choose multi-GPU without it. Where memory is short: "
                "loop.optimizer=adamw8bit, loop.ema=0, for the adapter also rank=64 and cache.mode=only"
            )


def optimizer_for(parameters: list[nn.Parameter], loop: LoopConfig) -> torch.optim.Optimizer:
    """Return AdamW, with its two moments in 8 bits where the run asks for it (Dettmers et al. 2022).

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if loop.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=loop.lr, weight_decay=loop.weight_decay)
    try:
        eight_bits: Any = importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise MissingExtraError("bitsandbytes", "8bit") from error
    optimizer: torch.optim.Optimizer = eight_bits.AdamW8bit(parameters, lr=loop.lr, weight_decay=loop.weight_decay)
    return optimizer


def compile_networks(task: Task, backend: str) -> None:
    """Compile the networks that take most of the time: those that the task names, else the ones it trains.

    Raises:
        TrainingError: torch knows no such backend.
    """
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise TrainingError(f"loop.compile={backend}: torch has no such backend; choose one of {', '.join(known)}")
    networks = task.compiled() if isinstance(task, Compiled) else list(task.trainable().values())
    for network in networks:
        network.compile(backend=backend)


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory in use so far, in 10⁶ bytes: of the GPU by tensors, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def learning_rate(loop: LoopConfig, step: int) -> float:
    """Return the learning rate of update `step` (from 0): a linear rise, then constant or half a cosine down to 0."""
    if step < loop.warmup:
        return loop.lr * (step + 1) / loop.warmup
    if loop.schedule == "constant":
        return loop.lr
    share = (step - loop.warmup) / max(1, loop.steps - loop.warmup)
    return loop.lr * 0.5 * (1 + math.cos(math.pi * share))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch (every device), numpy and random as a function of the three numbers."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "big") >> 1
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)


@contextlib.contextmanager
def memory_advice() -> Iterator[None]:
    """Turn a device that is out of memory into a message that names the options which help.

    Raises:
        TrainingError: out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the GPU is out of memory; lower loop.identities_per_batch and raise loop.accumulation by the same factor, "
            "set loop.mixed_precision=bf16 or loop.optimizer=adamw8bit, for the adapter also rank=64 or "
            "cache.mode=only (with generated pictures lightning.crop=512 or lightning.scale=0.5 in place of it), "
            f"or use smaller pictures ({str(error).split('.')[0]})"
        ) from error


class _Loss(nn.Module):
    """The task's loss as a module over what it trains, so that DDP and autocast see one forward pass."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.trainable = nn.ModuleDict(task.trainable())
        self._loss = task.loss

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return self._loss(batch, step)


class _Gathered:
    """What the batches of one update add up to."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.keys: list[str] = []
        self.samples = 0
        self.waited = 0.0

    def add(self, batch: Batch, terms: Mapping[str, Tensor], parts: int) -> None:
        for name, value in terms.items():
            share = value.detach() / parts
            self.terms[name] = self.terms[name] + share if name in self.terms else share
        self.keys += [str(key) for key in batch.get("key", ())]
        self.samples += next((len(value) for value in batch.values() if isinstance(value, Tensor) and value.ndim), 0)


def _synced(accelerator: Accelerator, module: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Exchange gradients between processes after the last batch of an update only."""
    return contextlib.nullcontext() if last else accelerator.no_sync(module)

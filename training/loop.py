"""The training loop of bolid, for every task and every number of devices (Accelerate).

A task says what is trained and what the loss is; the loop does the rest: updates, averaged weights, metrics, sample
grids, checkpoints that resume to the bit, export. Step counts are updates of the optimizer; one update takes
`accumulation` batches on each process.

Everything random in an update is a function of (seed, step, rank): the loop seeds torch, numpy and random before each
batch, so nothing needs to be stored to continue as if nothing had happened.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from .. import progress
from . import metrics_log, run_folder
from .checkpoint import Progress
from .config import LoopConfig, RunConfig
from .interrupts import stoppable
from .metrics_log import MetricsLog
from .run_folder import RunFolder
from .runs import MEASURED
from .task import Batch, Batches, Task
from .trainer import Trainer, accelerator_for

__all__ = ["Batch", "Batches", "RunSummary", "Task", "summarise", "train"]

SUMMARY_STEPS = 10


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        folder: the run's folder.
        export: folder of the weights for use elsewhere.
        steps: updates done over the whole run, resumed parts included.
        skipped: updates left out because loss or gradient were not finite.
        first, last: mean of each loss term over the first and the last ten updates.
        validation: the last figures that the task's `sample` returned.
    """

    folder: Path
    export: Path
    steps: int
    skipped: int
    first: dict[str, float]
    last: dict[str, float]
    validation: dict[str, float]


def train(
    task: Task,
    batches: Batches,
    folder: Path,
    config: RunConfig,
    resume: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> RunSummary:
    """Train `task` for `config.loop.steps` updates in the run folder `folder`.

    `inputs` names what the run reads by a hash of it (dataset, frozen weights): a run continues with the same only.

    Raises:
        TrainingError: the run exists and `resume` is off, its configuration or tensors differ, or the loss is not
            finite for `nonfinite_limit` updates in a row.
        WorkspaceError: the folder is in use by another process or cannot be written.
        KeyboardInterrupt: Ctrl-C; a checkpoint of the present step was saved before.
    """
    loop = config.loop
    accelerator = accelerator_for(loop)
    with _opened(accelerator, folder, config, resume, inputs or {}) as run, stoppable() as stop:
        trainer = Trainer(task, accelerator, loop)
        done = trainer.restore(run) if resume else Progress()
        # A run killed between its checkpoint and its grid owes the grid.
        owed = done.step > 0 and _sampled(loop, done.step) and not metrics_log.validated(run.metrics, done.step)
        stream = batches(done.step * loop.accumulation, accelerator.process_index, accelerator.num_processes)
        with (
            MetricsLog(run, done.step, accelerator.is_main_process) as log,
            progress.bar(f"train {folder.name}", loop.steps, "steps") as bar,
        ):
            bar.advance(done.step)
            if owed:
                log.validation(done.step, trainer.sample(run, done.step))
            note, stopping = "", False
            while done.step < loop.steps and not stopping:
                done, row = trainer.update(stream, done)
                log.add({"step": done.step, **row})
                last = done.step == loop.steps
                stopping = trainer.anyone(stop.asked)  # asked once an update: what it says here must be saved here
                saving = last or stopping or done.step % loop.save_every == 0
                if saving or done.step % loop.log_every == 0:
                    note = _note(log.flush()) or note
                if saving:
                    trainer.save(run, done)
                if _sampled(loop, done.step):
                    log.validation(done.step, trainer.sample(run, done.step))
                bar.advance(1, note)
        if stopping:
            raise KeyboardInterrupt
        trainer.export(run)
        return summarise(run)


def summarise(run: RunFolder) -> RunSummary:
    """Read what a run came to from its metrics."""
    rows, validation = metrics_log.read(run.metrics)
    skipped = sum(1 for row in rows if row["skipped"])
    means = [metrics_log.mean(part) for part in (rows[:SUMMARY_STEPS], rows[-SUMMARY_STEPS:])]
    first, last = ({name: value for name, value in part.items() if name not in (*MEASURED, "step")} for part in means)
    return RunSummary(run.root, run.export, len(rows), skipped, first, last, validation)


def _sampled(loop: LoopConfig, step: int) -> bool:
    """Say whether a grid is due after update `step`: every `sample_every` updates and after the last one."""
    return step == loop.steps or bool(loop.sample_every and step % loop.sample_every == 0)


@contextlib.contextmanager
def _opened(
    accelerator: Accelerator, folder: Path, config: RunConfig, resume: bool, inputs: Mapping[str, str]
) -> Iterator[RunFolder]:
    """Open the run folder on the first process; the others follow."""
    if accelerator.is_main_process:
        with run_folder.opened(folder, config, resume, inputs) as run:
            accelerator.wait_for_everyone()
            yield run
    else:
        accelerator.wait_for_everyone()
        yield RunFolder(folder)


def _note(means: Mapping[str, float]) -> str:
    return f"loss {means['loss']:.4f} · {means['samples_per_s']:.1f} samples/s" if "loss" in means else ""

"""What the training loop costs: its update against a bare one of the same modules, and how long it waits for data.

Prints a row a task. Both loops do forward, backward, clipping and AdamW on the same batches in memory, one update each
in turn, so that a busy machine slows both; the loop's also seeds, averages the weights, checks for what is not finite,
and writes metrics. `overhead` is the ratio of the median times less 1 (target: 3 % at most). `wait` is the share of an
update that the loop waits for its readers in a run on the shards with two of them (target: 2 % at most), the first
updates left out, in which readers start. `of CPU` is the overhead in this process's CPU time, which other processes
disturb less.

    python benchmarks/train_cpu.py --shards data/shards --body data/runs/vae/export
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from bolid.config import load_config
from bolid.training import adapter_data, metrics_log
from bolid.training.adapter import AdapterTask, fresh_model, train_adapter
from bolid.training.adapter_config import AdapterConfig
from bolid.training.batches import ShardBatches
from bolid.training.checkpoint import Progress
from bolid.training.metrics_log import MetricsLog
from bolid.training.run_folder import RunFolder
from bolid.training.task import Batch, Task
from bolid.training.trainer import Trainer, accelerator_for, optimizer_for
from bolid.training.vae import VaeData, VaeTask, train_vae
from bolid.training.vae_config import VaeConfig
from torch import nn

BATCHES = 8
STARTING = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both tasks and print the table."""
    asked = options(arguments)
    loop = ["loop.device=cpu", "loop.workers=2", "loop.sample_every=0", f"loop.steps={asked.updates}"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bolid-benchmark-") as folder:
        vae = load_config(VaeConfig, None, ["size=demo", *loop])
        rows.append({"task": "vae, size=demo"} | measured_vae(asked.shards, vae, Path(folder), asked.updates))
        adapter = load_config(AdapterConfig, None, [f"base={asked.base}", *loop])
        figures = measured_adapter(asked.shards, adapter, asked.body, Path(folder), asked.updates)
        rows.append({"task": f"adapter, {asked.base}"} | figures)
    print(f"{torch.get_num_threads()} threads, {asked.updates} updates each, torch {torch.__version__}")
    print(f"{'task':<24}{'loop, ms':>10}{'bare, ms':>10}{'overhead':>10}{'of CPU':>8}{'wait':>8}")
    for row in rows:
        times = f"{row['loop_s'] * 1e3:>10.1f}{row['bare_s'] * 1e3:>10.1f}"
        print(f"{row['task']:<24}{times}{row['overhead']:>10.1%}{row['overhead_cpu']:>8.1%}{row['wait']:>8.1%}")
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured_vae(shards: Path, config: VaeConfig, folder: Path, updates: int) -> dict[str, float]:
    """Return the figures of the encoder's training."""
    batches = list(islice(ShardBatches(VaeData.open(shards, config).training, config.loop)(0, 0, 1), BATCHES))
    figures = overhead(lambda: VaeTask(config), batches, config, folder / "vae-update", updates)
    train_vae(shards, folder / "runs/vae", config)
    return figures | {"wait": waited(folder / "runs/vae")}


def measured_adapter(shards: Path, config: AdapterConfig, body: Path, folder: Path, updates: int) -> dict[str, float]:
    """Return the figures of the adapter's training, without a cache."""
    sizes = fresh_model(config, body).encoder.config
    batches = list(islice(ShardBatches(adapter_data.dataset(shards, "train", config, sizes), config.loop)(0, 0, 1), 8))
    figures = overhead(
        lambda: AdapterTask(fresh_model(config, body), config), batches, config, folder / "adapter-update", updates
    )
    train_adapter(shards, folder / "runs/adapter", config, body)
    return figures | {"wait": waited(folder / "runs/adapter")}


def overhead(
    make: Callable[[], Task], batches: list[Batch], config: VaeConfig | AdapterConfig, folder: Path, updates: int
) -> dict[str, float]:
    """Return median seconds of an update of the loop and of a bare one, and how much longer the first is."""
    folder.mkdir(parents=True)
    clocks = (time.perf_counter, time.process_time)
    times: dict[str, list[tuple[float, ...]]] = {"loop": [], "bare": []}
    with MetricsLog(RunFolder(folder), 0) as log:
        turns = {"loop": looped(make(), batches, config, log), "bare": bare(make(), batches, config)}
        for number in range(updates + 2):
            for name in ("loop", "bare") if number % 2 else ("bare", "loop"):
                begun = [clock() for clock in clocks]
                next(turns[name])
                if number >= 2:
                    times[name].append(tuple(clock() - start for clock, start in zip(clocks, begun, strict=True)))
    wall, cpu = ({name: statistics.median(v[i] for v in values) for name, values in times.items()} for i in (0, 1))
    figures = {"overhead": wall["loop"] / wall["bare"] - 1, "overhead_cpu": cpu["loop"] / cpu["bare"] - 1}
    return {"loop_s": wall["loop"], "bare_s": wall["bare"], **figures}


def looped(task: Task, batches: list[Batch], config: VaeConfig | AdapterConfig, log: MetricsLog) -> Iterator[None]:
    """Do an update of bolid's loop a turn."""
    trainer = Trainer(task, accelerator_for(config.loop), config.loop)
    stream, done = endless(batches), Progress()
    while True:
        done, row = trainer.update(stream, done)
        log.add({"step": done.step, **row})
        if done.step % config.loop.log_every == 0:
            log.flush()
        yield


def bare(task: Task, batches: list[Batch], config: VaeConfig | AdapterConfig) -> Iterator[None]:
    """Do an update of a loop that has nothing but the update a turn."""
    task.place(torch.device("cpu"))
    parameters = [p for module in task.trainable().values() for p in module.parameters() if p.requires_grad]
    optimizer = optimizer_for(parameters, config.loop)
    for step, batch in enumerate(endless(batches)):
        task.loss(batch, step)["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, config.loop.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def endless(batches: list[Batch]) -> Iterator[Batch]:
    """Yield the batches again and again."""
    while True:
        yield from batches


def waited(run: Path) -> float:
    """Return the mean share of an update that a run waited for data."""
    rows, _ = metrics_log.read(run / "metrics.jsonl")
    return statistics.mean(row["data_wait"] for row in rows[STARTING:])


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards")
    parser.add_argument("--body", type=Path, required=True, help="export of a vae run")
    parser.add_argument("--base", default="demo-base", help="base of the adapter")
    parser.add_argument("--updates", type=int, default=60, help="of each loop, and of each run")
    parser.add_argument("--out", type=Path, help="JSON file with the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

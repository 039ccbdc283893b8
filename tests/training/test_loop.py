import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from bolid.errors import TrainingError, WorkspaceError
from bolid.training.checkpoint import trained_tensors
from bolid.training.ema import Average, decay_at
from bolid.training.loop import train
from bolid.training.trainer import learning_rate, seed_step
from safetensors.torch import load_file

TASK = Path(__file__).with_name("loop_task.py")
_spec = importlib.util.spec_from_file_location("loop_task", TASK)
assert _spec is not None
assert _spec.loader is not None
loop_task = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(loop_task)
LineTask, config, rows, run = loop_task.LineTask, loop_task.config, loop_task.rows, loop_task.run


def command(folder: Path, die_at: int, *words: str, **changes: object) -> list[str]:
    return [sys.executable, str(TASK), str(folder), str(die_at), json.dumps(changes), *words]


def test_a_run_leaves_what_the_architecture_says(tmp_path: Path) -> None:
    task = LineTask()
    summary = run(tmp_path / "r", task=task)
    assert sorted(p.name for p in (tmp_path / "r").iterdir() if p.name != ".lock") == [
        "checkpoints",
        "config.toml",
        "export",
        "inputs.json",
        "metrics.jsonl",
        "samples",
        "tensorboard",
    ]
    assert (summary.steps, summary.skipped, summary.validation) == (12, 0, {"figure": 12.0})
    assert summary.last["fit"] < summary.first["fit"]
    assert task.sampled == [6, 12]
    assert list((tmp_path / "r/tensorboard").glob("events*"))
    assert tomllib.loads((tmp_path / "r/config.toml").read_text())["loop"]["steps"] == 12
    updates = [row for row in rows(tmp_path / "r") if "loss" in row]
    assert [row["step"] for row in updates] == list(range(1, 13))
    assert updates[0].keys() == {"step", "loss", "fit", "size", "lr", "grad_norm", "skipped"}


def test_a_killed_run_continues_to_the_bit(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = {"accumulation": 2, "schedule": "cosine"}
    assert subprocess.run(command(whole, -1, **settings)).returncode == 0
    assert subprocess.run(command(broken, 9, **settings)).returncode == -signal.SIGKILL
    assert len(rows(broken)) == 10  # nine updates, one validation: the last one is past the checkpoint
    assert not (broken / "export").exists()
    resumed = subprocess.run(command(broken, -1, "resume", **settings), capture_output=True, text=True)
    assert resumed.returncode == 0
    assert "at step 8" in resumed.stderr, "a run that began anew would be equal too"
    assert rows(broken) == rows(whole)
    for name in ("checkpoints/step-12/model.safetensors", "checkpoints/step-12/ema.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    moments = [torch.load(folder / "checkpoints/step-12/optimizer.pt")["state"]["state"] for folder in (whole, broken)]
    assert moments[0].keys() == moments[1].keys()
    for number, state in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in state.items())
    exported = [torch.load(folder / "export/line.pt") for folder in (whole, broken)]
    assert all(torch.equal(exported[0][name], exported[1][name]) for name in exported[0])


def test_ctrl_c_saves_a_checkpoint_and_a_second_run_continues(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    process = subprocess.Popen(command(folder, -1, steps=10**6, save_every=10**6))
    while not (folder / "metrics.jsonl").exists() or len(rows(folder)) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait() not in (0, -signal.SIGKILL)
    [saved] = (folder / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert max(row["step"] for row in rows(folder)) == step
    assert run(folder, resume=True, steps=step + 2).steps == step + 2


def test_checkpoints_are_rotated_and_leftovers_removed(tmp_path: Path) -> None:
    (tmp_path / "r/checkpoints/.step-4.x.tmp").mkdir(parents=True)
    run(tmp_path / "r", save_every=2, keep=2)
    assert sorted(p.name for p in (tmp_path / "r/checkpoints").iterdir()) == ["step-10", "step-12"]


def test_a_run_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "r", steps=1)
    with pytest.raises(TrainingError, match=r"--run NAME or continue it with --resume"):
        run(tmp_path / "r", steps=1)
    with pytest.raises(TrainingError, match="no run"):
        run(tmp_path / "other", resume=True)


def test_a_run_in_use_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "r", steps=1)
    held = "import sys, time, pathlib; from bolid import atomic\nwith atomic.locked(pathlib.Path(sys.argv[1]), 'x'):\n"
    process = subprocess.Popen(
        [sys.executable, "-c", held + " print('held', flush=True); time.sleep(60)", str(tmp_path / "r/.lock")],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(WorkspaceError, match=str(process.pid)):
            run(tmp_path / "r", resume=True, steps=1)
    finally:
        process.kill()
        process.communicate()


def test_a_changed_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path / "r", steps=2)
    with pytest.raises(TrainingError, match=r"loop\.lr: 0\.02 -> 0\.5"):
        run(tmp_path / "r", resume=True, steps=2, lr=0.5)
    assert run(tmp_path / "r", resume=True, steps=3, keep=1).steps == 3
    with pytest.raises(TrainingError, match=r"loop\.schedule: 'constant' -> 'cosine'\n +loop\.steps: 3 -> 4$"):
        run(tmp_path / "r", resume=True, steps=4, schedule="cosine")


def test_updates_that_are_not_finite_are_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run(tmp_path / "r", task=LineTask(bad=frozenset({2, 3, 7})), nonfinite_limit=3)
    assert (summary.steps, summary.skipped) == (12, 3)
    assert all(torch.isfinite(value).all() for value in torch.load(summary.export / "line.pt").values())
    skipped = [row for row in rows(tmp_path / "r") if row.get("skipped")]
    assert [(row["step"], row["loss"]) for row in skipped] == [(3, None), (4, None), (8, None)]
    assert "sample7" in capsys.readouterr().err


def test_too_many_in_a_row_stop_the_run_with_the_samples(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss, fit not finite, for the samples sample4; 3 updates in a row"):
        run(tmp_path / "r", task=LineTask(bad=frozenset({2, 3, 4})), nonfinite_limit=3)


def test_the_gradient_of_two_halves_is_that_of_the_whole(tmp_path: Path) -> None:
    class Plain(LineTask):
        def loss(self, batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
            self.line.eval()
            return {"loss": (self.line(batch["x"]) - batch["y"]).square().mean()}

    def halves(start: int, rank: int, world_size: int):
        for batch in loop_task.points(0, rank, world_size):
            for part in (slice(0, 8), slice(8, 16)):
                yield {"x": batch["x"][part], "y": batch["y"][part]}

    once, twice = Plain(), Plain()
    train(once, loop_task.points, tmp_path / "a", config(steps=5))
    train(twice, halves, tmp_path / "b", config(steps=5, accumulation=2))
    for a, b in zip(once.line.parameters(), twice.line.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def losses_of_two_ranks_one_after_the_other(steps: int) -> list[float]:
    """A plain loop over the batches of both ranks: the gradient is the mean of theirs."""
    task, loop = LineTask(), config().loop
    optimizer = torch.optim.AdamW(task.line.parameters(), weight_decay=loop.weight_decay)
    streams = [loop_task.points(0, rank, 2) for rank in range(2)]
    found = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = loop.lr * min(1, (step + 1) / loop.warmup)
        total = 0.0
        for rank, stream in enumerate(streams):
            seed_step(loop.seed, step, rank)
            loss = task.loss(next(stream), step)["loss"] / 2
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(task.line.parameters(), loop.clip)
        optimizer.step()
        optimizer.zero_grad()
        found.append(total)
    return found


def test_two_processes_agree(tmp_path: Path) -> None:
    # Not accelerate launch: with --cpu it starts one process, whatever --num_processes says (accelerate 1.15).
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for folder, words in (("whole", ["-1"]), ("broken", ["9"]), ("broken", ["-1", "resume"])):
        die_at, *rest = words
        done = subprocess.run(
            [*launch, *command(tmp_path / folder, int(die_at), *rest)[1:]],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == (die_at == "-1"), done.stderr
        if done.returncode == 0:
            assert all(f"process {rank} of 2" in done.stdout for rank in range(2))
        assert ("at step 8" in done.stderr) == bool(rest), "a run that began anew would be equal too"
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")
    for name in ("model", "ema"):
        files = [tmp_path / run / f"checkpoints/step-12/{name}.safetensors" for run in ("whole", "broken")]
        assert files[0].read_bytes() == files[1].read_bytes()
    found = [row["loss"] for row in rows(tmp_path / "whole") if "loss" in row]
    assert found == pytest.approx(losses_of_two_ranks_one_after_the_other(12), rel=1e-4)


def test_without_an_average_a_run_continues_too(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", ema=0)
    run(tmp_path / "parts", ema=0, steps=8)
    assert run(tmp_path / "parts", ema=0, resume=True).steps == 12
    assert rows(tmp_path / "whole")[-2:] == rows(tmp_path / "parts")[-2:]
    exported = torch.load(whole.export / "line.pt")
    live = load_file(tmp_path / "whole/checkpoints/step-12/model.safetensors")
    assert all(torch.equal(value, live[f"line.{name}"]) for name, value in exported.items())


def test_the_learning_rate_rises_then_falls() -> None:
    loop = config(steps=103, warmup=3, lr=1.0, schedule="cosine").loop
    assert [round(learning_rate(loop, step), 3) for step in (0, 1, 2, 3, 53, 102)] == [0.333, 0.667, 1, 1, 0.5, 0]
    assert learning_rate(config(lr=1.0).loop, 10**6) == 1


def test_seeds_differ_by_step_and_rank() -> None:
    drawn = set()
    for place in [(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0), (0, 1, 0)]:
        seed_step(*place)
        drawn.add(torch.rand(1).item())
    assert len(drawn) == 4


def test_the_average_follows_its_recurrence_and_gives_the_weights_back() -> None:
    live = {"w": torch.zeros(1)}
    average = Average(live, decay=0.5)
    expected = 0.0
    for step in range(20):
        live["w"].fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        assert decay == decay_at(step, 0.5)
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert live["w"].item() == pytest.approx(expected)
    assert live["w"].item() == 19


def test_a_task_that_trains_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match="requires_grad"):
        trained_tensors({"frozen": torch.nn.Linear(2, 2).requires_grad_(False)})

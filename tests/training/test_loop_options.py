"""Options of the loop, and what it says when the machine or the numbers give up."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from bolid.config import load_config
from bolid.errors import MissingExtraError, TrainingError
from bolid.training import metrics_log
from bolid.training.run_folder import opened
from bolid.training.vae_config import VaeConfig
from torch import Tensor


def _load() -> ModuleType:
    path = Path(__file__).with_name("loop_task.py")
    spec = importlib.util.spec_from_file_location("loop_task_options", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loop_task = _load()


def test_a_compiled_run_has_the_losses_of_a_plain_one(tmp_path: Path) -> None:
    plain, compiled = loop_task.LineTask(), loop_task.LineTask()
    loop_task.run(tmp_path / "plain", task=plain, steps=3)
    loop_task.run(tmp_path / "compiled", task=compiled, steps=3, compile="eager")
    assert compiled.line._compiled_call_impl is not None
    assert plain.line._compiled_call_impl is None
    assert loop_task.rows(tmp_path / "compiled") == loop_task.rows(tmp_path / "plain")


@pytest.mark.parametrize(("name", "variable"), [("FSDP", "USE_FSDP"), ("DeepSpeed", "USE_DEEPSPEED")])
def test_weights_in_pieces_are_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_{variable}", "true")  # what accelerate launch sets
    with pytest.raises(TrainingError, match=f"(?i){name}.*run accelerate config again.*multi-GPU") as error:
        loop_task.run(tmp_path / "r")
    for option in ("optimizer=adamw8bit", "rank=", "cache.mode=only"):
        assert option in str(error.value)
    assert not (tmp_path / "r").exists()


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loop\.compile=induktor.*inductor"):
        loop_task.run(tmp_path / "r", compile="induktor")


def test_eight_bits_need_bitsandbytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"bitsandbytes is not installed.*bolid\[8bit\]"):
        loop_task.run(tmp_path / "r", optimizer="adamw8bit")


def test_out_of_memory_names_what_helps(tmp_path: Path) -> None:
    class Large(loop_task.LineTask):
        def loss(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(TrainingError, match="identities_per_batch") as error:
        loop_task.run(tmp_path / "r", task=Large())
    for option in ("loop.accumulation", "mixed_precision=bf16", "optimizer=adamw8bit", "rank=", "cache.mode=only"):
        assert option in str(error.value)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Steep(loop_task.LineTask):
        def loss(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
            terms = super().loss(batch, step)
            if step == 4:
                bias = self.line.layers[0].bias  # the root's slope at 0 is infinite
                terms["loss"] = terms["loss"] + torch.sqrt((bias - bias.detach()).square().sum())
            return terms

    summary = loop_task.run(tmp_path / "r", task=Steep())
    [row] = [row for row in loop_task.rows(tmp_path / "r") if row.get("skipped")]
    assert (summary.skipped, row["step"]) == (1, 5)
    assert row["loss"] is not None
    assert "the gradient not finite, for the samples sample4" in capsys.readouterr().err


def test_each_update_tells_rate_wait_and_memory(tmp_path: Path) -> None:
    loop_task.run(tmp_path / "r", steps=3)
    for row in metrics_log.read(tmp_path / "r/metrics.jsonl")[0]:
        assert row["samples_per_s"] > 0
        assert 0 <= row["data_wait"] < 1
        assert 20 < row["memory_mb"] < 1e6, "a process with torch in it"


def test_a_run_of_an_earlier_version_continues_with_keys_that_came_later(tmp_path: Path) -> None:
    config = load_config(VaeConfig)
    with opened(tmp_path / "r", config, resume=False) as run:
        run.metrics.write_text('{"step": 1}\n')
    lines = run.config.read_text().splitlines(keepends=True)
    run.config.write_text("".join(line for line in lines if not line.startswith(("optimizer", "compile"))))
    with opened(tmp_path / "r", config, resume=True):
        pass
    changed = load_config(VaeConfig, None, ["loop.optimizer=adamw8bit"])
    with (
        pytest.raises(TrainingError, match=r"loop\.optimizer: 'adamw' -> 'adamw8bit'"),
        opened(tmp_path / "r", changed, resume=True),
    ):
        pass


def test_runs_are_told_without_torch() -> None:
    code = "import sys, bolid.training.runs_page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

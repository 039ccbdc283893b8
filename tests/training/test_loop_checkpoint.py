import json
from pathlib import Path

import pytest
import torch
from bolid.errors import TrainingError
from bolid.training import checkpoint
from bolid.training.checkpoint import Progress
from bolid.training.ema import Average
from safetensors.torch import load_file, save_file
from torch import nn


class State:
    """Modules that share a tensor, with an optimizer that has stepped once."""

    def __init__(self, width: int = 3, seed: int = 0) -> None:
        torch.manual_seed(seed)
        first = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        second = nn.ModuleDict({"inside": first[0]})  # what accelerator.save_state loses
        self.tensors = checkpoint.trained_tensors({"first": first, "second": second})
        self.optimizer = torch.optim.AdamW(first.parameters(), lr=0.1)
        first(torch.randn(4, 2)).square().sum().backward()
        self.optimizer.step()
        self.average = Average(self.tensors, 0.9)

    def save(self, folder: Path, step: int = 1) -> Path:
        return checkpoint.save(folder, Progress(step, 2, 1), self.tensors, self.average, self.optimizer)

    def load(self, path: Path) -> Progress:
        return checkpoint.load(path, self.tensors, self.average, self.optimizer)


def test_everything_comes_back(tmp_path: Path) -> None:
    saved, loaded = State(seed=0), State(seed=1)
    assert not torch.equal(saved.tensors["first.0.weight"], loaded.tensors["first.0.weight"])
    assert loaded.load(saved.save(tmp_path)) == Progress(1, 2, 1)
    assert saved.tensors.keys() == {
        *("first.0.weight", "first.0.bias", "second.inside.weight", "second.inside.bias"),
        *("first.1.weight", "first.1.bias", "first.1.running_mean", "first.1.running_var"),
        "first.1.num_batches_tracked",
    }
    for name, tensor in saved.tensors.items():
        assert torch.equal(tensor, loaded.tensors[name])
    for name, tensor in saved.average.tensors.items():
        assert torch.equal(tensor, loaded.average.tensors[name])
    for before, after in zip(
        saved.optimizer.state_dict()["state"].values(), loaded.optimizer.state_dict()["state"].values(), strict=True
    ):
        assert all(torch.equal(before[key], after[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_a_tensor_missing_from_the_file_is_found_on_load(tmp_path: Path) -> None:
    path = State().save(tmp_path)
    kept = load_file(path / "model.safetensors")
    del kept["second.inside.weight"]
    save_file(kept, path / "model.safetensors")
    with pytest.raises(TrainingError, match=r"1 missing: second\.inside\.weight"):
        State().load(path)


def test_a_tensor_lost_on_the_way_out_is_found_on_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file({name: tensor for name, tensor in tensors.items() if "inside" not in name}, path)

    monkeypatch.setattr(checkpoint, "save_file", lossy)
    with pytest.raises(TrainingError, match="2 missing"):
        State().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_that_no_checkpoint_would_hold_is_refused(tmp_path: Path) -> None:
    state = State()
    state.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(5))]})
    with pytest.raises(TrainingError, match=r"no checkpoint would contain, of shapes \[\(5,\)\]"):
        state.save(tmp_path)


def test_another_network_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = State(width=3).save(tmp_path)
    with pytest.raises(TrainingError, match=r"of another form: first\.0\.bias"):
        State(width=4).load(path)


def test_a_damaged_checkpoint_names_itself(tmp_path: Path) -> None:
    for name in ("model.safetensors", "ema.safetensors", "optimizer.pt", "state.json"):
        path = State().save(tmp_path)
        (path / name).write_bytes((path / name).read_bytes()[:-40])
        with pytest.raises(TrainingError, match="step-1"):
            State().load(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02 no pickle", b"PK\x03\x04" + bytes(200), b"null"])
def test_whatever_lies_in_place_of_the_state_is_no_traceback(tmp_path: Path, content: bytes) -> None:
    for name in ("optimizer.pt", "state.json", "model.safetensors"):
        path = State().save(tmp_path)
        (path / name).write_bytes(content)
        with pytest.raises(TrainingError, match="step-1"):
            State().load(path)


def test_the_census_is_written_down(tmp_path: Path) -> None:
    state = json.loads((State().save(tmp_path) / "state.json").read_text())
    assert state["census"]["first.0.weight"] == ["float32", [3, 2]]
    assert state["progress"] == {"step": 1, "skipped": 2, "skipped_in_a_row": 1}


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        (tmp_path / f"step-{step}").mkdir()
    checkpoint.rotate(tmp_path, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-10", "step-100"]

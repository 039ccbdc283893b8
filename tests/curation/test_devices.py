"""Where networks run when nobody says where."""

import sys

import pytest
from bolid.curation import devices
from bolid.curation.config import CurateConfig


def test_what_is_asked_for_is_not_questioned() -> None:
    for asked in ("cpu", "cuda", "cuda:1"):
        assert devices.of_torch(asked) == devices.of_onnx(asked) == asked


def test_without_a_driver_it_is_the_cpu_and_torch_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_driver", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would be an error
    assert devices.of_torch(CurateConfig().device) == devices.of_onnx(CurateConfig().device) == "cpu"


@pytest.mark.parametrize(("torch_can", "onnx_can"), [(True, True), (True, False), (False, True)])
def test_with_a_driver_each_package_is_asked(monkeypatch: pytest.MonkeyPatch, torch_can: bool, onnx_can: bool) -> None:
    torch, onnxruntime = pytest.importorskip("torch"), pytest.importorskip("onnxruntime")
    providers = ["CUDAExecutionProvider"] * onnx_can + ["CPUExecutionProvider"]
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_can)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert devices.of_torch("auto") == ("cuda" if torch_can else "cpu")
    assert devices.of_onnx("auto") == ("cuda" if torch_can and onnx_can else "cpu")

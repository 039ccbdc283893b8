"""Where networks run when nobody says where: on the GPU, if the packages can use it."""

import ctypes
import importlib.util

AUTO = "auto"


def of_torch(asked: str) -> str:
    """Return the device for networks of torch: what was asked for, or for `auto` cuda where torch can use it.

    torch is imported only where the machine has a driver: that takes seconds, and a run that computes nothing has
    no need of it.
    """
    if asked != AUTO:
        return asked
    if not _has_driver() or importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def of_onnx(asked: str) -> str:
    """Return the device for networks of onnxruntime, likewise; many installations have it for the CPU alone."""
    if asked != AUTO:
        return asked
    if of_torch(asked) == "cpu" or importlib.util.find_spec("onnxruntime") is None:
        return "cpu"
    import onnxruntime  # type: ignore[import-untyped]

    return "cuda" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "cpu"


def _has_driver() -> bool:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False

"""People and their keypoints in photos, by YOLO-pose networks through ultralytics: the only file that imports it.

ultralytics is AGPL-3.0; that is said once a process, when it is first used. It is asked to install, look up and send
nothing (`YOLO_OFFLINE`, `YOLO_AUTOINSTALL`) and to keep its settings in a temporary folder; variables that the user has
set and an import before ours win.

A `.pt` file is a pickle, and a pickle can run code when it is read. Files are therefore read by ultralytics' restricted
reader, which makes nothing but the network's own classes (`ULTRALYTICS_SAFE_LOAD`; ultralytics before 8.4 has no such
reader). Give only files whose sha256 the registry knows, or that the user named.
"""

import atexit
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import progress
from ..errors import MissingExtraError, ModelError, UsageError

LICENCE = "AGPL-3.0"
_KEYPOINTS = 17  # of COCO


@dataclass(frozen=True)
class Pose:
    """One person found in a photo; pixels of the given image, origin at its upper left corner.

    box: x0, y0, x1, y1, within the image.
    score: 0..1, that this is a person.
    keypoints: float32 [17, 3], COCO order, x, y and confidence 0..1; left and right are the person's.
    """

    box: tuple[float, float, float, float]
    score: float
    keypoints: NDArray[np.float32]


class PoseEstimator:
    """A YOLO-pose network, loaded once and called with lists of photos.

    Args:
        weights: a `.pt` file of ultralytics with 17 COCO keypoints; see above on trust.
        image_size: pixels of the longer side that photos are scaled to; None takes the size stored with the weights.
        confidence: people with a lower score are not returned.
        device: of torch, "cpu" or "cuda:0".

    Raises:
        MissingExtraError: ultralytics is not installed.
        ModelError: the file is missing, damaged or holds another kind of network.
    """

    def __init__(
        self, weights: Path, *, image_size: int | None = None, confidence: float = 0.25, device: str = "cpu"
    ) -> None:
        if not weights.is_file():
            raise ModelError(f"no pose network at {weights}; fetch one with: bolid models pull yolo11x-pose")
        self._sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        # Square, not "rect", which would pad an image by what the others of its list are: results may not depend on it.
        self._options: dict[str, Any] = {"conf": confidence, "device": device, "rect": False, "verbose": False}
        if image_size is not None:
            self._options["imgsz"] = image_size
        with ultralytics_calls() as ultralytics:
            self._network = _load(ultralytics, weights)

    @property
    def weights_sha256(self) -> str:
        """Hexadecimal SHA-256 of the weights file."""
        return self._sha256

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Pose]]:
        """The people in each image, best score first.

        Args:
            images: uint8 [H, W, 3] RGB each; sizes may differ.

        Raises:
            UsageError: an image of another shape or type.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise UsageError(f"an image is {image.dtype} {list(image.shape)}; poses need uint8 [H, W, 3] RGB")
        if not images:
            return []
        reversed_channels = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]  # ultralytics takes BGR
        with ultralytics_calls():
            results = self._network.predict(reversed_channels, batch=len(images), **self._options)
            return [_poses(result) for result in results]


def torch_network(weights: Path) -> tuple[Any, int]:
    """Return the torch module of a pose network, in float32, frozen and for evaluation, and its image size in pixels.

    In evaluation it takes `[N, 3, H, W]` RGB in 0..1 and returns first, for each of A anchors in pixels of the input,
    `[N, 4 + 1 + 17 * 3, A]`: centre, width and height of a box, the score of a person, and the keypoints.

    Raises:
        MissingExtraError: ultralytics is not installed.
        ModelError: as of `PoseEstimator`.
    """
    if not weights.is_file():
        raise ModelError(f"no pose network at {weights}; fetch one with: bolid models pull yolo11x-pose")
    with ultralytics_calls() as ultralytics:
        network = _load(ultralytics, weights)
        return network.model.float().eval().requires_grad_(False), int(network.overrides.get("imgsz", 640))


def _load(ultralytics: types.ModuleType, weights: Path) -> Any:  # noqa: ANN401 - ultralytics' YOLO
    try:
        network = ultralytics.YOLO(str(weights))
    except Exception as error:  # ultralytics raises anything from KeyError to TypeError for a file that is no network
        raise ModelError(
            f"{weights} is not a network of ultralytics or is damaged ({type(error).__name__}); "
            "fetch one with: bolid models pull yolo11x-pose"
        ) from error
    shape = list(getattr(network.model, "kpt_shape", None) or getattr(network.model, "yaml", {}).get("kpt_shape") or [])
    if network.task != "pose" or shape != [_KEYPOINTS, 3]:
        what = f"a {network.task} network" + (f" with keypoints {shape}" if shape else "")
        raise ModelError(
            f"{weights} is {what}; {_KEYPOINTS} COCO keypoints are needed, as: bolid models pull yolo11x-pose"
        )
    return network


def _poses(result: Any) -> list[Pose]:  # noqa: ANN401 - ultralytics' Results
    boxes, scores = result.boxes.xyxy.tolist(), result.boxes.conf.tolist()
    points = result.keypoints.data.cpu().numpy().astype(np.float32).reshape(len(boxes), _KEYPOINTS, 3)
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    return [Pose((boxes[i][0], boxes[i][1], boxes[i][2], boxes[i][3]), scores[i], points[i]) for i in order]


@contextlib.contextmanager
def ultralytics_calls() -> Iterator[types.ModuleType]:
    """Yield ultralytics for a block of calls into it: offline, and content where torchvision is absent.

    Not for several threads at once: what it changes for the block, it changes for the process.

    Raises:
        MissingExtraError: ultralytics is not installed.
    """
    with _entries(os.environ, _environment()), _unpatched(), _without_torchvision():
        try:
            ultralytics = importlib.import_module("ultralytics")
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "ultralytics", "pose") from error
        _say_licence()
        yield ultralytics


@cache
def _say_licence() -> None:
    progress.say(f"poses: ultralytics, licence {LICENCE} (a service built on it must offer its source)")


@cache
def _settings_folder() -> str:
    """A folder for the settings that ultralytics writes when it is imported; gone when the process ends."""
    folder = tempfile.mkdtemp(prefix="bolid-ultralytics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _environment() -> Mapping[str, str]:
    """What ultralytics reads when it is imported; variables that the user has set stay."""
    wanted = {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "true",
    }
    if "YOLO_CONFIG_DIR" not in os.environ:
        wanted["YOLO_CONFIG_DIR"] = _settings_folder()
    return {name: value for name, value in wanted.items() if name not in os.environ}


@contextlib.contextmanager
def _unpatched() -> Iterator[None]:
    """Put back what ultralytics replaces when it is imported, for everybody else in the process.

    Its `PIL.Image.open` wants a package more where a file is no picture; its `torch.save` tries again and again.
    """
    import torch

    opened, saved = Image.open, torch.save
    try:
        yield
    finally:
        Image.open, torch.save = opened, saved


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let ultralytics run where torchvision is absent; do nothing where it is there.

    ultralytics uses one function of torchvision for poses, non-maximum suppression, has its own version of it
    (`TorchNMS`), and chooses by whether torchvision has been imported; yet it reads torchvision's version when it is
    imported itself, and imports torchvision before it predicts. For the time of the block, and no longer (diffusers and
    transformers look for torchvision too, and must not find it), the version is that which fits torch, and the module
    is a stand-in whose only function is ultralytics' own.
    """
    if not _absent("torchvision"):
        yield
        return
    stand_in = types.ModuleType("torchvision")
    stand_in.__dict__["ops"] = types.SimpleNamespace(nms=_own_nms)
    known = importlib.metadata.version
    try:
        importlib.metadata.version = lambda distribution_name: (
            _fitting() if distribution_name == "torchvision" else known(distribution_name)
        )
        with _entries(sys.modules, {"torchvision": stand_in}):
            yield
    finally:
        importlib.metadata.version = known


@contextlib.contextmanager
def _entries(table: MutableMapping[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    """Hold `values` in a table for a block, then what was there before."""
    before = {name: table[name] for name in values if name in table}
    table.update(values)
    try:
        yield
    finally:
        for name in values:
            del table[name]
        table.update(before)


@cache
def _absent(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def _fitting() -> str:
    """The version of torchvision that belongs to this torch: 0.(minor + 15)."""
    minor = int(importlib.metadata.version("torch").split(".")[1])
    return f"0.{minor + 15}.0"


def _own_nms(boxes: Any, scores: Any, threshold: float) -> Any:  # noqa: ANN401 - torch's tensors
    return importlib.import_module("ultralytics.utils.nms").TorchNMS.nms(boxes, scores, threshold)

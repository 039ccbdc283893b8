"""Faces in a photo: boxes, five landmarks and embeddings, by a model folder that InsightFace loads.

The only place that imports insightface. Nothing is downloaded here: a folder that is missing or lacks a network is an
error that says what to pull. A cosine of two embeddings means nothing without its model: thresholds are kept with it.
"""

import contextlib
import hashlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import progress
from ..errors import DataError, MissingExtraError, ModelError, UsageError

TASKS = ("detection", "recognition", "genderage")
"""Those of insightface's tasks that are loaded; the last may be missing. Of its answers only the age is kept."""
RESEARCH_ONLY = "non-commercial research only (InsightFace's pretrained models)"

_noticed: set[str] = set()


@dataclass(frozen=True)
class Face:
    """One found face; pixels of the given image, whose upper left corner is the origin.

    box: x0, y0, x1, y1; may reach a little over the image's edge.
    score: the detector's, 0..1.
    landmarks: float32 [5, 2]: the eye at the image's left in an upright face that looks at the camera, the other eye,
        the nose, the mouth's left and right corners.
    embedding: float32 [512] of unit length.
    age: estimated, years; None where the folder holds no network for it.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]
    embedding: NDArray[np.float32]
    age: int | None = None

    @property
    def area(self) -> float:
        """The box's area in pixels."""
        return max(self.box[2] - self.box[0], 0.0) * max(self.box[3] - self.box[1], 0.0)


class FaceAnalyser:
    """A detector and a recogniser from one folder of ONNX files, as `insightface.app.FaceAnalysis` finds them.

    A network for age (96 x 96 to 3, as `genderage.onnx` of InsightFace's own models) is used where there is one.

    Args:
        folder: with a detector (SCRFD's or RetinaFace's outputs) and a recogniser (112 x 112 to 512).
        det_size: (width, height) in pixels, multiples of 32, that a photo is fitted into for detection.
        det_threshold: least score of a face.
        device: cpu, cuda or cuda:N.
        licence: of the weights, for the notice; None takes the folder's card (a line "- Licence: …" in its README.md),
            and without a card that of InsightFace's own models.
        threads: of onnxruntime; None means OMP_NUM_THREADS where it is set, else one a core.

    Raises:
        MissingExtraError: insightface or onnxruntime is not installed.
        ModelError: the folder is missing, lacks a network or holds a damaged one.
        UsageError: a device that onnxruntime does not have, or a detection size that does not fit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        det_size: tuple[int, int] = (640, 640),
        det_threshold: float = 0.5,
        device: str = "cpu",
        licence: str | None = None,
        threads: int | None = None,
    ) -> None:
        if min(det_size) < 32 or any(side % 32 for side in det_size):
            raise UsageError(f"detection size {det_size[0]}x{det_size[1]} must be of multiples of 32 pixels")
        self.folder, self.det_size, self.det_threshold = folder, det_size, det_threshold
        _files(folder)
        self._app = _load(folder, device, threads)
        self._app.prepare(ctx_id=-1 if device == "cpu" else 0, det_thresh=det_threshold, det_size=det_size)
        _notice(folder.name, licence or _card_licence(folder))

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """Find the faces in an image [H, W, 3] RGB; the largest comes first.

        Raises:
            DataError: not an image of bytes with three channels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"an image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
        width, height = self.det_size
        if min(image.shape[:2]) * min(width / image.shape[1], height / image.shape[0]) < 1:
            return []  # a line without a pixel left at the detector's size
        with _quiet():
            found = self._app.get(np.ascontiguousarray(image[..., ::-1]))
        return sorted((_face(each) for each in found), key=lambda face: (face.area, face.score), reverse=True)

    @property
    def estimates_age(self) -> bool:
        """Say whether the folder holds a network for age; without one every face's `age` is None."""
        return "genderage" in self._app.models

    @cached_property
    def weights_sha256(self) -> str:
        """A digest of the folder's ONNX files, whatever they are called."""
        digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(self.folder))
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError(f"no face model at {folder}; run: bolid models pull buffalo_l")
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise ModelError(f"{folder} holds no ONNX file; run: bolid models pull buffalo_l")
    return files


def _load(folder: Path, device: str, threads: int | None) -> Any:  # noqa: ANN401 - insightface has no types
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("onnxruntime", "face") from None
    try:
        with _quiet():
            from insightface.app import FaceAnalysis
    except ImportError:
        raise MissingExtraError("insightface", "face") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    options.log_severity_level = 4  # what is wrong is raised, and named below
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        with _quiet():
            app = FaceAnalysis(
                name=str(folder.resolve()), allowed_modules=list(TASKS), providers=providers, sess_options=options
            )
    except AssertionError:  # insightface's way to say that no file is a detector
        raise ModelError(f"{folder} holds no face detector; run: bolid models pull buffalo_l") from None
    except Exception as error:  # onnxruntime's and protobuf's errors share no base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{folder} could not be loaded: {reason}; remove it and run: bolid models pull buffalo_l"
        ) from error
    if "recognition" not in app.models:
        raise ModelError(f"{folder} holds no face recogniser; run: bolid models pull buffalo_l")
    return app


def _providers(device: str, available: list[str]) -> list[Any]:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind != "cuda" or not (index or "0").isdigit():
        raise UsageError(f"unknown device {device!r}; choose cpu, cuda or cuda:N")
    if "CUDAExecutionProvider" not in available:
        raise UsageError(f"onnxruntime cannot use {device}; install onnxruntime-gpu or choose cpu")
    return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep standard output for results, and warnings about other libraries' use of each other from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _face(found: Any) -> Face:  # noqa: ANN401 - insightface has no types
    x0, y0, x1, y1 = (float(v) for v in found.bbox)
    vector = np.asarray(found.embedding, np.float32)
    length = float(np.linalg.norm(vector))
    landmarks, age = np.asarray(found.kps, np.float32), getattr(found, "age", None)
    return Face(
        (x0, y0, x1, y1),
        float(found.det_score),
        landmarks,
        vector / np.float32(max(length, 1e-12)),
        None if age is None else int(age),
    )


def _card_licence(folder: Path) -> str:
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8").splitlines():
            if line.startswith("- Licence:"):
                return line.removeprefix("- Licence:").strip().split(",")[0].rstrip(".")
    return RESEARCH_ONLY


def _notice(name: str, licence: str) -> None:
    if name not in _noticed:
        _noticed.add(name)
        progress.say(f"face model {name}: weights {licence}; insightface's code is MIT", model=name, licence=licence)

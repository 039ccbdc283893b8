"""The pose network: a narrow YOLO11-pose, trained from random weights through ultralytics.

`python -m bolid.demo.train pose` renders 3200 photos and 480 empty rooms, trains for half an hour on one core, and
measures the result on people, places and rooms of another world.
"""

import hashlib
import importlib
import io
import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

from ... import atomic, progress
from ...models.pose import ultralytics_calls
from . import corpus, pose_data, record
from .pose_figures import measure

_LICENCE = "AGPL-3.0, which ultralytics asks for models that were trained with it"

PEOPLE, ROOMS = 3200, 480
SCALE = (0.5, 0.1875, 640)
"""Depth, width and most channels (before width) of yolo11-pose.yaml; the smallest of ultralytics is 0.5, 0.25, 1024."""

_COMMON: dict[str, Any] = {
    "optimizer": "AdamW",
    "lrf": 0.01,
    "weight_decay": 0.001,
    "cos_lr": True,
    "warmup_epochs": 0.5,
    "warmup_bias_lr": 0.0,
    "amp": False,
    "seed": 0,
    "pose": 18.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "degrees": 8.0,
    "translate": 0.08,
    "scale": 0.25,
    "hsv_h": 0.015,
    "hsv_s": 0.4,
    "hsv_v": 0.3,
}
STAGES: tuple[dict[str, Any], ...] = (
    _COMMON | {"imgsz": 224, "epochs": 16, "batch": 16, "nbs": 16, "lr0": 1.5e-3},
    _COMMON | {"imgsz": 192, "epochs": 90, "batch": 8, "nbs": 8, "lr0": 1e-3, "kpt_oks_sigmas": [0.05] * 17},
)
"""What ultralytics trains with, where it is not its default; each stage goes on from the weights of the one before.

COCO's widths of keypoints (sigma 0.025 for an eye, 0.107 for a hip) forgive a hip off by a third of a torso and give an
eye that is far off no gradient; the second stage asks the same of all, about what PCK@0.1 does.
"""


_OF_THE_DATA = ("kpt_oks_sigmas",)  # which ultralytics reads from the description of the data


def train(work: Path, out: Path) -> None:
    """Render, train, measure, and write `pose.pt` with its record to `out`; finished stages of `work` are kept."""
    data, count = dataset(work)
    progress.say(f"{count} pictures; {len(STAGES)} stages of training")
    for stage in range(1, len(STAGES) + 1):
        trained = stage_file(work, stage)
        if not trained.exists():
            start = None if stage == 1 else stage_file(work, stage - 1)
            atomic.write_bytes(trained, cleaned(run(work, data, STAGES[stage - 1], start), STAGES[stage - 1]["imgsz"]))
    publish(trained, len(STAGES), work, out)


def publish(trained: Path, stages: int, work: Path, out: Path) -> None:
    """Measure a trained file and write it to `out` with its record."""
    weights = out / "pose.pt"
    atomic.write_bytes(weights, trained.read_bytes())
    figures = {"weights_bytes": weights.stat().st_size} | measure(weights, work / "measure")
    config = {
        "world": corpus.TRAINING["pose"],
        "people": PEOPLE,
        "empty_rooms": ROOMS,
        "scale": list(SCALE),
        "stages": STAGES[:stages],
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    record.write(out, "YOLO11-pose for procedural people", _WHAT, config, figures, licence=_LICENCE)


def stage_file(work: Path, stage: int) -> Path:
    """Where the weights after this stage (1, 2, …) are kept; the name follows from all that decides them."""
    decides = json.dumps([PEOPLE, ROOMS, SCALE, STAGES[:stage]])
    return work / f"stage-{stage}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}.pt"


_WHAT = """
A YOLO11-pose network (`pose.pt`, fp16, the 17 COCO keypoints) narrower than yolo11n-pose: people and keypoints in one
pass at 192 pixels. Loaded as any of ultralytics' weights: `YOLO("pose.pt")`. Trained from random weights on renders of
one world, a seventh of them of two people, with a share of empty rooms.

The file holds classes of ultralytics, whose licence is AGPL-3.0 and which counts networks trained through it as derived
works: use and pass on `pose.pt` under AGPL-3.0.
"""


def dataset(work: Path) -> tuple[Path, int]:
    """`data.yaml` of the training pictures, and how many there are; made anew from the cached renders."""
    seed = corpus.TRAINING["pose"]
    renders = work / "renders"
    people = corpus.rendered(pose_data.shots(seed, PEOPLE), pose_data.keep_sample, renders)
    return pose_data.write_dataset(chain(people, pose_data.empty_rooms(seed, ROOMS, renders)), work / "dataset", seed)


def run(work: Path, data: Path, settings: dict[str, Any], start: Path | None) -> Path:
    """Train from the weights `start`, or from random ones, and return the last checkpoint."""
    shutil.rmtree(work / "runs", ignore_errors=True)
    described = json.loads(data.read_text())
    described |= {name: value for name, value in settings.items() if name in _OF_THE_DATA}
    stage_data = data.with_name("stage.yaml")
    stage_data.write_text(json.dumps(described))
    options = {name: value for name, value in settings.items() if name not in _OF_THE_DATA}
    fixed: dict[str, Any] = {"device": "cpu", "workers": 0, "cache": "ram", "plots": False, "val": False}
    with ultralytics_calls() as ultralytics:
        network = ultralytics.YOLO(str(start or _architecture(ultralytics, work)), task="pose")
        network.add_callback("on_pretrain_routine_end", _hasten)
        with progress.bar("training", settings["epochs"], "epochs") as bar:
            network.add_callback("on_train_epoch_end", lambda trainer: bar.advance(note=_losses(trainer)))
            network.train(data=str(stage_data), project=str(work.resolve() / "runs"), name="pose", **fixed, **options)
    return work / "runs" / "pose" / "weights" / "last.pt"


def _losses(trainer: Any) -> str:  # noqa: ANN401 - ultralytics' trainer
    return ", ".join(f"{name} {float(value):.3f}" for name, value in trainer.tloss.items())


def _hasten(trainer: Any) -> None:  # noqa: ANN401 - ultralytics' trainer
    """Compute in bfloat16 and channels last: half the time on a CPU, but ultralytics offers it on GPUs only."""
    import torch

    network = trainer.model.to(memory_format=torch.channels_last)
    network.forward = torch.autocast("cpu", torch.bfloat16)(network.forward)


def _architecture(ultralytics: Any, work: Path) -> Path:  # noqa: ANN401 - the module
    """YOLO11-pose as ultralytics describes it, with a scale of our own."""
    yaml: Any = importlib.import_module("ultralytics.utils").YAML
    folder = Path(ultralytics.__file__).parent / "cfg" / "models" / "11"
    described = yaml.load(folder / "yolo11-pose.yaml")
    described |= {"nc": 1, "scales": {"n": list(SCALE)}}
    path = work / "bolid-pose.yaml"
    path.write_text(json.dumps(described))  # JSON is YAML
    return path


def cleaned(checkpoint: Path, image_size: int) -> bytes:
    """The checkpoint as a file for use: weights in half precision, no optimizer, no paths of this machine."""
    import torch

    with ultralytics_calls() as ultralytics:
        tasks: Any = importlib.import_module("ultralytics.nn.tasks")
        network, _ = tasks.load_checkpoint(str(checkpoint))
        network.half()
        network.args = {"task": "pose", "imgsz": image_size}
        network.yaml.pop("yaml_file", None)
        for name in ("pt_path", "criterion", "class_weights", "kpt_oks_sigmas"):
            network.__dict__.pop(name, None)
        for weight in network.parameters():
            weight.requires_grad = False
        whole = {
            "epoch": -1,
            "model": network,
            "ema": None,
            "optimizer": None,
            "updates": None,
            "best_fitness": None,
            "train_args": dict(network.args),
            "version": ultralytics.__version__,
            "license": "AGPL-3.0",
        }
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        return buffer.getvalue()

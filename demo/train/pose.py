"""The pose network: a narrow YOLO11-pose, trained from random weights through ultralytics.

`python -m bolid.demo.train pose` renders 9600 photos and 480 empty rooms, trains for two hours on one core,
and measures the result on people, places and rooms of another world.
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
from .pose_heat import HIDDEN_WEIGHT, WIDTH, KeypointHeat, WithHeat

_LICENCE = "AGPL-3.0, which ultralytics asks for models that were trained with it"

ROOMS = 480
SCALE, REG_MAX = (0.5, 0.25, 512), 8
"""Depth, width and most channels (before width) as in yolo11-pose.yaml, and values a side of a box (16 there)."""
HEAD: tuple[list[Any], ...] = (
    [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
    [[-1, 6], 1, "Concat", [1]],
    [-1, 2, "C3k2", [512, True]],
    [-1, 1, "Conv", [512, 3, 2]],
    [[-1, 10], 1, "Concat", [1]],
    [-1, 2, "C3k2", [1024, True]],
    [[13, 16], 1, "Pose", ["nc", "kpt_shape"]],
)
"""YOLO11's head without its finest level: the people here fill their photos, and its places took much of the time."""
TAPPED, HEAT = (4, 13), 10.0
"""The layers that learn heat maps, too (strides 8 and 16), and the weight of these; see `pose_heat`."""

_COMMON: dict[str, Any] = {
    "optimizer": "AdamW",
    "weight_decay": 0.001,
    "cos_lr": True,
    "warmup_epochs": 0.5,
    "warmup_bias_lr": 0.0,
    "amp": False,
    "seed": 0,
    "pose": 18.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "degrees": 0.0,
    "translate": 0.02,
    "scale": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "imgsz": 192,
    "batch": 8,
    "nbs": 8,
    "kpt_oks_sigmas": [0.05] * 17,
}
STAGES: tuple[dict[str, Any], ...] = (
    _COMMON | {"people": 3200, "epochs": 16, "lr0": 3e-3, "lrf": 0.5},
    _COMMON | {"people": 9600, "epochs": 36, "lr0": 2.5e-3, "lrf": 0.01},
    _COMMON | {"people": 9600, "epochs": 16, "lr0": 2e-3, "lrf": 0.01},
)
"""What ultralytics trains with, where it is not its default; each stage goes on from the weights of the one before.

COCO's widths of keypoints (sigma 0.025 for an eye, 0.107 for a hip) forgive a hip off by a third of a torso and give an
eye that is far off no gradient; these ask the same of all, about what PCK@0.1 does. Pictures are mirrored and moved a
little, no more: the network is too narrow to learn them by heart, and what it need not see it should not learn.
"""


_OURS = ("people", "kpt_oks_sigmas")  # not options of ultralytics: the second is read from the description of the data


def train(work: Path, out: Path) -> None:
    """Render, train, measure, and write `pose.pt` with its record to `out`; finished stages of `work` are kept."""
    for stage, settings in enumerate(STAGES, 1):
        trained = stage_file(work, stage)
        if not trained.exists():
            data, count = dataset(work, settings["people"])
            progress.say(f"stage {stage} of {len(STAGES)}: {count} pictures")
            start = None if stage == 1 else stage_file(work, stage - 1)
            atomic.write_bytes(trained, cleaned(run(work, data, settings, start), settings["imgsz"]))
    publish(trained, len(STAGES), work, out)


def publish(trained: Path, stages: int, work: Path, out: Path) -> None:
    """Measure a trained file and write it to `out` with its record."""
    weights = out / "pose.pt"
    atomic.write_bytes(weights, trained.read_bytes())
    figures = {"weights_bytes": weights.stat().st_size} | measure(weights, work / "measure")
    config = {
        "world": corpus.TRAINING["pose"],
        "empty_rooms": ROOMS,
        "scale": list(SCALE),
        "reg_max": REG_MAX,
        "head": list(HEAD),
        "heat": {"layers": list(TAPPED), "weight": HEAT, "width": WIDTH, "weight_of_hidden": HIDDEN_WEIGHT},
        "stages": STAGES[:stages],
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    record.write(out, "YOLO11-pose for procedural people", _WHAT, config, figures, licence=_LICENCE)


def stage_file(work: Path, stage: int) -> Path:
    """Where the weights after this stage (1, 2, …) are kept; the name follows from all that decides them."""
    decides = json.dumps([ROOMS, SCALE, REG_MAX, HEAD, TAPPED, HEAT, STAGES[:stage]])
    return work / f"stage-{stage}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}.pt"


_WHAT = """
A YOLO11-pose network (`pose.pt`, fp16, the 17 COCO keypoints) smaller than yolo11n-pose, without its finest level:
people and keypoints in one pass at 192 pixels. Loaded as any of ultralytics' weights: `YOLO("pose.pt")`. Trained from
random weights on renders of one world, a seventh of them of two people, with a share of empty rooms.

The file holds classes of ultralytics, whose licence is AGPL-3.0 and which counts networks trained through it as derived
works: use and pass on `pose.pt` under AGPL-3.0.
"""


def dataset(work: Path, people: int) -> tuple[Path, int]:
    """`data.yaml` of photos of so many people and of the empty rooms, and their number; from cached renders."""
    seed = corpus.TRAINING["pose"]
    renders = work / "renders"
    photos = corpus.rendered(pose_data.shots(seed, people), pose_data.keep_sample, renders)
    return pose_data.write_dataset(chain(photos, pose_data.empty_rooms(seed, ROOMS, renders)), work / "dataset", seed)


def run(work: Path, data: Path, settings: dict[str, Any], start: Path | None) -> Path:
    """Train from the weights `start`, or from random ones, and return the last checkpoint."""
    shutil.rmtree(work / "runs", ignore_errors=True)
    described = json.loads(data.read_text())
    described["kpt_oks_sigmas"] = settings["kpt_oks_sigmas"]
    stage_data = data.with_name("stage.yaml")
    stage_data.write_text(json.dumps(described))
    options = {name: value for name, value in settings.items() if name not in _OURS}
    fixed: dict[str, Any] = {"device": "cpu", "workers": 0, "cache": "ram", "plots": False, "val": False}
    with ultralytics_calls() as ultralytics:
        network = ultralytics.YOLO(str(start or _architecture(ultralytics, work)), task="pose")
        network.add_callback("on_pretrain_routine_end", lambda trainer: _prepare(trainer, settings["lr0"]))
        network.add_callback("on_train_batch_end", lambda trainer: trainer.model.criterion.step())
        with progress.bar("training", settings["epochs"], "epochs") as bar:
            network.add_callback("on_train_epoch_end", lambda trainer: bar.advance(note=_losses(trainer)))
            network.train(data=str(stage_data), project=str(work.resolve() / "runs"), name="pose", **fixed, **options)
    return work / "runs" / "pose" / "weights" / "last.pt"


def _losses(trainer: Any) -> str:  # noqa: ANN401 - ultralytics' trainer
    parts = trainer.tloss | {"heat": trainer.model.criterion.last}
    return ", ".join(f"{name} {float(value):.3f}" for name, value in parts.items())


def _prepare(trainer: Any, lr: float) -> None:  # noqa: ANN401 - ultralytics' trainer
    """Add the heat maps, and compute in bfloat16 and channels last: ultralytics does so on GPUs only."""
    import torch

    network = trainer.model.to(memory_format=torch.channels_last)
    heat = KeypointHeat(network.model, TAPPED, [widths(network.model[layer]) for layer in TAPPED])
    network.criterion = WithHeat(network.init_criterion(), heat, HEAT, lr)
    network.forward = torch.autocast("cpu", torch.bfloat16)(network.forward)


def widths(block: Any) -> int:  # noqa: ANN401 - a C3k2 of ultralytics
    """Channels of what the block puts out."""
    return int(block.cv2.conv.out_channels)


def _architecture(ultralytics: Any, work: Path) -> Path:  # noqa: ANN401 - the module
    """YOLO11-pose as ultralytics describes it, with a scale of our own."""
    yaml: Any = importlib.import_module("ultralytics.utils").YAML
    folder = Path(ultralytics.__file__).parent / "cfg" / "models" / "11"
    described = yaml.load(folder / "yolo11-pose.yaml")
    described |= {"nc": 1, "scales": {"n": list(SCALE)}, "reg_max": REG_MAX, "head": list(HEAD)}
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

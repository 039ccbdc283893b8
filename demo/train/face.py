"""Trains the demo's face model, a folder as InsightFace loads it: a detector and a recogniser in ONNX.

Half an hour of one core renders the people, as much again trains both networks.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ... import atomic, progress
from ...models.face import FaceAnalyser
from . import face_detector, face_recogniser, record
from .corpus import TRAINING
from .face_data import TURNED, Picture, heads, photos, rooms
from .face_figures import LARGE, SHOWN, detection, false_in_rooms, recognition, unseen

N = TypeVar("N", bound=nn.Module)

DETECTION_SIDE = 640
"""Photos are fitted into a square of this side for detection; a photo's 40 pixels are 15 to 20 of its."""

WHAT = """
A folder for `insightface.app.FaceAnalysis(name=DIR)`: `det.onnx`, a face detector with SCRFD's nine outputs (two
anchors a place at strides 8, 16 and 32, any size of multiples of 32) and five landmarks, and `rec.onnx`, aligned
112 x 112 faces to 512 numbers. Both were made from nothing and hold no weights of InsightFace's models.

The detector learnt from whole photos, close heads and empty rooms (quality focal loss, GIoU); the recogniser from close
heads under a cosine margin (CosFace), aligned by true landmarks with a detector's errors. The figures are of photos
with a short side of 1000 to 1200 pixels, detected at 640 x 640, through the whole path. A face counts as visible when
half of it or more shows. The threshold belongs to this model: other models' cosines mean other things.
"""


class Plan(NamedTuple):
    """How much is rendered, how long both networks learn, and on whom they are measured."""

    photos: int = 1280
    rooms: int = 128
    settled_on: int = 192
    identities: int = 896
    heads_each: int = 6
    detector_identities: int = 320
    detector: tuple[face_detector.Course, ...] = face_detector.ROUNDS
    recogniser: tuple[face_recogniser.Course, ...] = face_recogniser.ROUNDS
    unseen_seed: int = 920_003
    unseen_identities: int = 168
    unseen_each: int = 3
    unseen_rooms: int = 80


def train(work: Path, out: Path) -> None:
    """Render, train, export and measure; what an earlier run has finished is taken from ``work``."""
    plan = Plan()
    detector, recogniser = train_detector(plan, work), train_recogniser(plan, work)
    out.mkdir(parents=True, exist_ok=True)
    export_recogniser(recogniser, out / "rec.onnx")
    export_detector(detector, out / "det.onnx")
    settle(detector, list(photos(plan.photos + plan.settled_on, work))[plan.photos :], out)
    export_detector(detector, out / "det.onnx")
    record.write(out, "Face model of the demo", WHAT, config(plan), measure(plan, work, out))


def train_detector(plan: Plan, work: Path, workers: int | None = None) -> face_detector.Detector:
    """The detector after all its rounds, each trained or taken from ``work``."""
    torch.manual_seed(plan.detector[0].seed)
    net, past = face_detector.Detector(), [plan.photos, plan.rooms, plan.detector_identities, plan.heads_each, TURNED]

    def learn(kept: Path) -> face_detector.Detector:
        empty = list(rooms(plan.rooms, work, workers))
        whole = list(photos(plan.photos, work, workers))
        close = list(heads(plan.detector_identities, plan.heads_each, work, workers))
        return face_detector.learn(net, whole, empty, close, course, kept)

    for course in plan.detector:
        past += course
        net = _trained(face_detector.Detector, learn, work / f"detector-{_digest(past)}.pt")
    return net


def train_recogniser(plan: Plan, work: Path, workers: int | None = None) -> face_recogniser.Recogniser:
    """The recogniser after all its rounds, each trained or taken from ``work``."""
    torch.manual_seed(plan.recogniser[0].seed)
    net, past = face_recogniser.Recogniser(), [plan.identities, plan.heads_each, TURNED]

    def learn(kept: Path) -> face_recogniser.Recogniser:
        close = list(heads(plan.identities, plan.heads_each, work, workers))
        return face_recogniser.learn(net, close, course, course is plan.recogniser[0], kept)

    for course in plan.recogniser:
        past += course
        net = _trained(face_recogniser.Recogniser, learn, work / f"recogniser-{_digest(past)}.pt")
    return net


def config(plan: Plan) -> dict[str, Any]:
    """Everything that decides the result."""
    return {
        "world": TRAINING["face"],
        "detection_size": [DETECTION_SIDE, DETECTION_SIDE],
        "detection_threshold": 0.5,
        "heads_turned_at_most_degrees": TURNED,
        **plan._asdict(),
        "detector": [course._asdict() for course in plan.detector],
        "recogniser": [course._asdict() for course in plan.recogniser],
    }


def measure(plan: Plan, work: Path, out: Path) -> dict[str, float]:
    """Figures on unseen people, by the loader that real models use."""
    analyse = FaceAnalyser(out, det_size=(DETECTION_SIDE, DETECTION_SIDE), licence="Apache-2.0")
    pictures = unseen(plan.unseen_seed, plan.unseen_identities, plan.unseen_each, work)
    progress.say(f"measure on {len(pictures)} photos: visible is {SHOWN} or more, large is {LARGE} px or more")
    found = [analyse(picture.image()) for picture in pictures]
    return {
        "photos": len(pictures),
        **detection(pictures, found),
        "empty_rooms_with_a_face": false_in_rooms(analyse, plan.unseen_seed, plan.unseen_rooms),
        **recognition(pictures, found),
    }


def _digest(settings: Sequence[float]) -> str:
    return hashlib.sha256(json.dumps(list(settings)).encode()).hexdigest()[:12]


def _trained(make: Callable[[], N], learn: Callable[[Path], N], done: Path) -> N:
    """The network with the weights of an earlier run where it finished, else trained now."""
    if not done.exists():
        weights = learn(done.with_suffix(".part")).state_dict()
        with atomic.replacing(done) as temporary:
            torch.save(weights, temporary)
    net = make()
    net.load_state_dict(torch.load(done, weights_only=True))
    return net.eval()


def settle(detector: face_detector.Detector, pictures: Sequence[Picture], out: Path) -> None:
    """Shift the detector's scores so that 0.5 is where F2, recall counting double, is best on photos not learnt from.

    Loaders take 0.5 where nobody says otherwise; a quality as score does not put its best threshold there.
    """
    analyse = FaceAnalyser(out, det_size=(DETECTION_SIDE, DETECTION_SIDE), det_threshold=0.1, licence="Apache-2.0")
    found = [analyse(picture.image()) for picture in pictures]

    def f2(threshold: float) -> float:
        figures = detection(pictures, [[face for face in faces if face.score >= threshold] for faces in found])
        many, few = figures["faces_visible_40px"], figures["faces_visible_under_40px"]
        hits = many * figures["recall_visible_40px"] + (few * figures["recall_visible_under_40px"] if few else 0)
        return 5 * hits / (hits + 4 * (many + few) + figures["boxes_found"] * (1 - figures["precision"]))

    best = max((0.2 + 0.01 * i for i in range(50)), key=f2)
    progress.say(f"scores are shifted so that {best:.2f} becomes 0.5: F2 {f2(best):.3f}")
    detector.shift(math.log((1 - best) / best))


def export_detector(detector: face_detector.Detector, file: Path) -> None:
    """Write the detector as ONNX: one picture of any size of multiples of 32, outputs [N, 1], [N, 4] and [N, 10]."""
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in face_detector.STRIDES]
    free = {"input.1": {2: "height", 3: "width"}} | {name: {0: f"places_{name}"} for name in names}
    detector.flat = True
    _export(detector, torch.zeros(1, 3, 64, 96), file, names, free)
    detector.flat = False


def export_recogniser(recogniser: face_recogniser.Recogniser, file: Path) -> None:
    """Write the recogniser as ONNX: any number of aligned faces to embeddings [B, 512]."""
    side = face_recogniser.SIDE
    free = {"input.1": {0: "batch"}, "embedding": {0: "batch"}}
    _export(recogniser, torch.zeros(2, 3, side, side), file, ["embedding"], free)


def _export(
    net: nn.Module, example: Tensor, file: Path, outputs: Sequence[str], free: dict[str, dict[int, str]]
) -> None:
    import onnx

    temporary = file.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter wants one more package
        torch.onnx.export(
            net.to(memory_format=torch.contiguous_format).eval(),  # type: ignore[call-overload]
            (example,),
            str(temporary),
            input_names=["input.1"],
            output_names=list(outputs),
            dynamic_axes=free,
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load(str(temporary))
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""  # the exporter notes which line of which file made it
    onnx.checker.check_model(model)
    atomic.write_bytes(file, model.SerializeToString())
    temporary.unlink()

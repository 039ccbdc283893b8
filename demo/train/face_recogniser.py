"""The face recogniser: a small residual network, 112 x 112 to 512 numbers, taught with a cosine margin.

CosFace (Wang et al. 2018): the cosine between an embedding and its identity's centre must beat every other identity's
by a margin. Faces are aligned by the true landmarks, shaken as much as a detector errs, with InsightFace's five points.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ... import progress
from .face_data import Picture

SIDE, EMBEDDING = 112, 512

TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where InsightFace's alignment puts the five landmarks in its 112 x 112 picture."""


def _conv(ins: int, outs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Recogniser(nn.Module):
    """Aligned faces [B, 3, 112, 112], (RGB - 127.5) / 127.5, to embeddings [B, 512], not yet of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 48, 6, 4, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True)),
            _conv(48, 48),
            _Residual(48),
            _conv(48, 88, 2),
            _Residual(88),
            _conv(88, 136, 2),
            _Residual(136),
        )
        # One weight for each channel and place: a face's parts have places, so a mean over them would forget much.
        self.pool = nn.Sequential(nn.Conv2d(136, 136, 7, groups=136, bias=False), nn.BatchNorm2d(136))
        self.out = nn.Sequential(nn.Linear(136, EMBEDDING, bias=False), nn.BatchNorm1d(EMBEDDING))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.out(self.pool(self.body(x)).flatten(1))
        return out


def similarity(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """The least-squares similarity [2, 3] that maps landmarks [5, 2] onto `TEMPLATE` (Umeyama 1991, in the plane)."""
    points = np.asarray(landmarks, np.float64)
    middle, goal = points.mean(0), TEMPLATE.mean(0).astype(np.float64)
    a = (points - middle) @ np.array([1, 1j])
    b = (TEMPLATE - goal) @ np.array([1, 1j])
    turn = np.vdot(a, b) / np.vdot(a, a)
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([matrix, goal - matrix @ middle])


def aligned(picture: Picture, rng: np.random.Generator, shaken: float = 1.0) -> NDArray[np.uint8]:
    """One face as the network would get it: with a detector's errors, from a photo of any size and exposure."""
    image, mark = picture.image(), picture.marks[0]
    landmarks = mark.landmarks.astype(np.float64)
    size = float(np.sqrt((mark.box[2] - mark.box[0]) * (mark.box[3] - mark.box[1])))
    sigma = float(rng.choice((0.012, 0.025, 0.045), p=(0.5, 0.4, 0.1))) * size * shaken
    landmarks = landmarks + rng.normal(0, sigma, (5, 2)) + rng.normal(0, 0.5 * sigma, 2)
    if rng.random() < 0.5:
        small = float(np.clip(np.exp(rng.uniform(np.log(32), np.log(130))) / size, 0.2, 1.0))
        how = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, None, fx=small, fy=small, interpolation=how), np.uint8)
        landmarks *= small
    out = cv2.warpAffine(image, similarity(landmarks), (SIDE, SIDE))
    gain = np.exp(rng.normal(0, 0.08)) * np.exp(rng.normal(0, 0.02, 3))
    return np.asarray((out * gain).clip(0, 255), np.uint8)


def usable(picture: Picture) -> bool:
    """Whether enough of the face shows to learn who it is."""
    return bool(picture.marks) and picture.marks[0].visible >= 0.45


class Course(NamedTuple):
    """One round of learning.

    epochs, batch: how often each head is shown, on average, and how many at once.
    rate, decay: highest learning rate, weight decay.
    scale, margin: of the cosines.
    mirrored: share of heads shown in the mirror, as the same identity: what one profile tells, the other does too.
    shaken: how much the landmarks err; 1 means by 1 to 5 % of the face.
    """

    epochs: float
    rate: float
    margin: float
    mirrored: float
    shaken: float
    batch: int = 64
    decay: float = 5e-4
    scale: float = 28.0
    seed: int = 910_002


ROUNDS = (
    Course(12, 0.1, margin=0.30, mirrored=0.0, shaken=1.0),
    Course(8, 0.06, margin=0.35, mirrored=0.5, shaken=1.0, seed=910_012),
    Course(8, 0.05, margin=0.35, mirrored=0.5, shaken=1.8, seed=910_022),
)
"""Each goes on from the one before."""


def _centres(net: Recogniser, heads: Sequence[Picture], who: Sequence[int], rng: np.random.Generator) -> Tensor:
    """The mean direction [identities, 512] of each identity's embeddings, by the network as it is."""
    net.eval()
    total = torch.zeros(max(who) + 1, EMBEDDING)
    with torch.no_grad():
        for start in range(0, len(heads), 128):
            faces = np.stack([aligned(head, rng) for head in heads[start : start + 128]])
            embeddings = F.normalize(net(_as_input(faces)))
            total.index_add_(0, torch.tensor(who[start : start + 128]), embeddings)
    net.train()
    return F.normalize(total)


def _as_input(faces: NDArray[np.uint8]) -> Tensor:
    pixels = (torch.from_numpy(faces).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    return pixels.contiguous(memory_format=torch.channels_last)


def _shown(head: Picture, rng: np.random.Generator, course: Course) -> NDArray[np.uint8]:
    face = aligned(head, rng, course.shaken)
    return face[:, ::-1] if course.mirrored and rng.random() < course.mirrored else face


def learn(net: Recogniser, heads: Sequence[Picture], course: Course, first: bool, kept: Path) -> Recogniser:
    """Train a recogniser on heads, whose `identity` says who, from nothing or, unless ``first``, from what it knows;
    its weights go to ``kept``."""
    heads = [head for head in heads if usable(head)]
    names = {identity: i for i, identity in enumerate(sorted({head.identity for head in heads}))}
    rng = np.random.Generator(np.random.PCG64(course.seed))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    who_all = [names[head.identity] for head in heads]
    start = 0.05 * torch.randn(len(names), EMBEDDING) if first else _centres(net, heads, who_all, rng)
    centres = nn.Parameter(start)
    parameters = [*net.parameters(), centres]
    optimiser = torch.optim.SGD(parameters, course.rate, momentum=0.9, weight_decay=course.decay, nesterov=True)
    steps = int(course.epochs * len(heads) / course.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, course.rate, steps, pct_start=0.12)
    order, began = _order(len(heads), rng), time.monotonic()
    right = 0.0
    with progress.bar("train the face recogniser", steps) as bar:
        for step in range(steps):
            chosen = [heads[next(order)] for _ in range(course.batch)]
            faces = np.stack([_shown(head, rng, course) for head in chosen])
            who = torch.tensor([names[head.identity] for head in chosen])
            with torch.autocast("cpu", torch.bfloat16):
                embedding = net(_as_input(faces))
            cosine = F.normalize(embedding.float()) @ F.normalize(centres).T
            margin = course.margin * min(1.0, 4 * step / steps if first else 1.0)
            value = F.cross_entropy(course.scale * (cosine - margin * F.one_hot(who, len(names))), who)
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            schedule.step()
            right = 0.98 * right + 0.02 * float((cosine.detach().argmax(1) == who).float().mean())
            bar.advance(1, f"loss {float(value.detach()):.3f}")
            if step % 100 == 0 or step == steps - 1:
                torch.save(net.state_dict(), kept)
                progress.say(
                    f"step {step}/{steps} loss {float(value.detach()):.3f} right {right:.3f}"
                    f" {time.monotonic() - began:.0f} s"
                )
    return net.eval()


def _order(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()

"""The face detector: a small feature pyramid with SCRFD's outputs, and how it learns.

Two anchors a place at strides 8, 16 and 32; each gives a score, the distances to the four sides and the offsets of the
five landmarks, both in strides (Guo et al. 2021, "Sample and Computation Redistribution for Efficient Face Detection").
Unlike there, an anchor answers for a fixed range of face sizes, and places near a face's middle are its positives.

Shapes: B pictures, L levels (3), N places x anchors of one level, F faces.
"""

import math
import time
from collections.abc import Sequence
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

STRIDES = (8, 16, 32)
ANCHORS = 2
BASES = (16.0, 28.0, 48.0, 85.0, 135.0, 210.0)
"""Side in pixels of the face that each anchor answers for best; an anchor's outputs are multiples of half of it."""

FACE, NO_FACE = 0.40, 0.12
"""A face of which this share shows is one; below the second it is none; between them nothing is learnt."""


def _conv(ins: int, outs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(ins, outs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, inner, size=1), _conv(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Detector(nn.Module):
    """Pictures [B, 3, H, W], (RGB - 127.5) / 128, H and W multiples of 32, to 9 outputs.

    In SCRFD's order: scores [B, N, 1] after the sigmoid at strides 8, 16, 32, then boxes [B, N, 4], then landmarks
    [B, N, 10]. With ``flat`` (for ONNX, one picture) the batch axis is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flat = False
        self.early = nn.Sequential(_conv(3, 16, 2), _conv(16, 32, 2), _Residual(32, 16))
        self.levels = nn.ModuleList(
            (
                nn.Sequential(_conv(32, 56, 2), _Residual(56, 32), _Residual(56, 32)),
                nn.Sequential(_conv(56, 88, 2), _Residual(88, 44), _Residual(88, 44)),
                nn.Sequential(_conv(88, 104, 2), _Residual(104, 40)),
            )
        )
        self.side = nn.ModuleList(nn.Conv2d(width, 40, 1) for width in (56, 88, 104))
        self.smooth = nn.ModuleList(_conv(40, 40) for _ in STRIDES)
        self.head = nn.ModuleList(_conv(40, 40) for _ in STRIDES)
        self.out = nn.ModuleList(nn.Conv2d(40, ANCHORS * 15, 1) for _ in STRIDES)
        for i, layer in enumerate(self.out):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            layer.bias.data.view(ANCHORS, 15)[:, 0] = -4.6
            layer.bias.data.view(ANCHORS, 15)[:, 1:5] = 1.0
            # An anchor's outputs are in strides, and about 1 where multiplied by half the side that it answers for.
            bases = torch.tensor(BASES[ANCHORS * i : ANCHORS * (i + 1)]).repeat_interleave(15).view(ANCHORS, 15)
            bases = bases / 2 / STRIDES[i]
            bases[:, 0] = 1.0
            self.register_buffer(f"unit{i}", bases.view(1, -1, 1, 1))

    def shift(self, logit: float) -> None:
        """Add this to the logit of every score."""
        for layer in self.out:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.bias.data.view(ANCHORS, 15)[:, 0] += logit

    def raw(self, x: Tensor) -> list[Tensor]:
        """Maps [B, 30, h, w] of each level: for each anchor the score's logit, 4 distances and 10 offsets, strides."""
        x = self.early(x)
        rungs = []
        for level in self.levels:
            x = level(x)
            rungs.append(x)
        above, maps = None, []
        for i in (2, 1, 0):
            here = self.side[i](rungs[i])
            if above is not None:
                here = here + F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = here
            out = self.out[i](self.head[i](self.smooth[i](here)))
            maps.append(out * self.get_buffer(f"unit{i}"))
        return maps[::-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        parts: list[list[Tensor]] = [[], [], []]
        for out in self.raw(x):
            rows = out.permute(0, 2, 3, 1).reshape((-1, 15) if self.flat else (out.shape[0], -1, 15))
            for part, value in zip(parts, (rows[..., :1], rows[..., 1:5], rows[..., 5:]), strict=True):
                part.append(value)
        return [s.sigmoid() for s in parts[0]] + parts[1] + parts[2]


class Course(NamedTuple):
    """One round of learning.

    steps, batch, side: how many steps with how many square views of how many pixels.
    rate: highest learning rate.
    rooms, heads: share of views of empty rooms and of close heads; the rest are of whole photos.
    largest: side in pixels of the largest face shown.
    turned: share of views turned by a quarter, as people are who lie.
    reach: how far from a face's middle its places lie, in strides.
    floor: the least score that a place with a face should have; the rest grows with its box's IoU.
    """

    steps: int
    batch: int
    side: int
    rate: float
    largest: float
    turned: float
    reach: float
    floor: float
    rooms: float = 0.10
    heads: float = 0.25
    seed: int = 910_002


ROUNDS = (
    Course(1600, 16, 256, 2e-3, largest=210, turned=0.0, reach=0.75, floor=0.0),
    Course(1400, 12, 320, 1.5e-3, largest=270, turned=0.3, reach=1.0, floor=0.5, seed=910_012),
    Course(1000, 12, 320, 1.2e-3, largest=270, turned=0.2, reach=1.0, floor=0.5, seed=910_022),
    Course(2400, 12, 320, 1.0e-3, largest=270, turned=0.1, reach=1.0, floor=0.5, seed=910_032),
)
"""Each goes on from the one before: first small views, then larger faces, faces on their side, and scores that say
face or no face; then the same again."""


class Targets(NamedTuple):
    """What one picture's places should say, all levels in a row.

    weight: float32 [N], 0 where nothing is learnt about the score.
    owner: int64 [N], the face that a place answers for, -1 for none.
    faces: float32 [F, 14], boxes and landmarks in pixels.
    """

    weight: Tensor
    owner: Tensor
    faces: Tensor


def places(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points [N, 2] in pixels, stride [N] and base [N] of all places of a square picture, in the outputs' order."""
    points, strides, bases = [], [], []
    for level, stride in enumerate(STRIDES):
        n = side // stride
        y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        grid = (torch.stack([x, y], -1).float() * stride).reshape(-1, 1, 2).expand(-1, ANCHORS, 2)
        points.append(grid.reshape(-1, 2))
        strides.append(torch.full((n * n * ANCHORS,), float(stride)))
        bases.append(torch.tensor(BASES[ANCHORS * level : ANCHORS * (level + 1)]).repeat(n * n))
    return torch.cat(points), torch.cat(strides), torch.cat(bases)


def assign(
    faces: NDArray[np.float32], known: NDArray[np.bool_], grid: tuple[Tensor, Tensor, Tensor], reach: float
) -> Targets:
    """Who answers for which of the faces [F, 14]; those not ``known`` [F] silence the places inside them."""
    points, strides, bases = grid
    weight, owner = torch.ones(len(points)), torch.full((len(points),), -1)
    nearest = torch.full((len(points),), math.inf)
    for i, (face, sure) in enumerate(zip(torch.from_numpy(faces), known, strict=True)):
        box = face[:4]
        middle, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        away = (points - middle).abs()
        if not sure:
            weight[(away < extent / 2 + 4).all(1)] = 0
            continue
        fit = (torch.log(extent.prod().sqrt() / bases)).abs()
        suited = fit < max(float(fit.min()) + 1e-4, 0.34)
        near = (away <= torch.maximum(reach * strides[:, None], 0.187 * reach * extent)).all(1) & suited
        distance = away.norm(dim=1)
        mine = near & (distance < nearest)
        owner[mine], nearest[mine] = i, distance[mine]
    weight[owner >= 0] = 1
    return Targets(weight, owner, torch.from_numpy(faces))


def loss(
    maps: Sequence[Tensor], targets: Sequence[Targets], grid: tuple[Tensor, Tensor, Tensor], floor: float
) -> Tensor:
    """Quality focal loss (Li et al. 2020) for scores, GIoU loss for boxes, smooth L1 for landmarks in face sizes.

    A place's score should be its box's IoU, raised to ``floor`` and more: a face is one also where its box is poor.
    """
    points, strides, _ = grid
    out = torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, 15) for m in maps], 1).float()
    owner, weight = torch.stack([t.owner for t in targets]), torch.stack([t.weight for t in targets])
    which, where = torch.nonzero(owner >= 0, as_tuple=True)
    quality = torch.zeros_like(weight)
    many = max(len(which), 1)
    shape = torch.zeros(())
    if len(which):
        pairs = zip(which.tolist(), where.tolist(), strict=True)
        wanted = torch.stack([targets[b].faces[owner[b, n]] for b, n in pairs])
        said, at, unit = out[which, where], points[where], strides[where, None]
        box = torch.cat([at - said[:, 1:3] * unit, at + said[:, 3:5] * unit], 1)
        overlap, enclosed = _overlaps(box, wanted[:, :4])
        quality[which, where] = floor + (1 - floor) * overlap.detach().clamp(0.05, 1)
        size = (wanted[:, 2:4] - wanted[:, :2]).prod(1, keepdim=True).sqrt()
        marks = at.repeat(1, 5) + said[:, 5:] * unit
        off = F.smooth_l1_loss(marks / size, wanted[:, 4:] / size, beta=0.02, reduction="none").sum(1)
        shape = ((1 - enclosed) * 2 + off * 0.8).sum() / many
    logit = out[..., 0]
    gap = (quality - logit.sigmoid()).abs().detach() ** 2
    scores = F.binary_cross_entropy_with_logits(logit, quality, weight=gap * weight, reduction="sum") / many
    return scores + shape


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU [N] of boxes [N, 4]."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1).clamp(min=1e-6)
    area = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    overlap = inner / area.clamp(min=1e-6)
    return overlap, overlap - (outer - area) / outer


def view(
    picture: Picture, rng: np.random.Generator, course: Course
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """A square cut [side, side, 3] RGB of a picture at a drawn scale, its faces [F, 14] and which are surely faces."""
    side = course.side
    image = picture.image()
    shown = [m for m in picture.marks if m.visible >= NO_FACE]
    faces = np.array([[*m.box, *m.landmarks.ravel()] for m in shown], np.float32).reshape(-1, 14)
    sure = np.array([m.visible >= FACE for m in shown], bool)
    high, wide = image.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.45), np.log(1.4))))
    corner = rng.uniform(-0.15, 1.15, 2) * (np.array([wide, high]) * scale - side)
    if len(faces):
        face = faces[int(rng.integers(len(faces)))]
        size = float(np.sqrt((face[2] - face[0]) * (face[3] - face[1])))
        scale = float(np.clip(np.exp(rng.uniform(np.log(11), np.log(course.largest))) / size, 0.4, 2.2))
        half = size * scale / 2
        slack = max(side / 2 - half, 0.2 * half)
        corner = (face[:2] + face[2:4]) / 2 * scale - side / 2 + rng.uniform(-1.05, 1.05, 2) * slack
    if rng.random() < 0.8:  # mostly no more than needed of what lies outside, which the detector sees black
        spare = np.array([wide, high]) * scale - side
        corner = corner.clip(np.minimum(spare, 0), np.maximum(spare, 0))
    move = np.array([[scale, 0, -corner[0]], [0, scale, -corner[1]]])
    cut = np.asarray(cv2.warpAffine(image, move, (side, side), flags=cv2.INTER_LINEAR), np.uint8)
    faces = faces.reshape(-1, 7, 2) * np.float32(scale) - corner.astype(np.float32)
    if rng.random() < 0.5:
        cut, faces = cut[:, ::-1], mirrored(faces, side)
    if course.turned and rng.random() < course.turned:
        quarter = int(rng.choice((1, 3)))
        cut, faces = np.rot90(cut, quarter), turned(faces, side, quarter)
    faces = faces.reshape(-1, 14)
    return _develop(np.ascontiguousarray(cut), rng), *_clipped(faces, sure, side)


def mirrored(faces: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Faces [F, 7, 2], two corners and five landmarks, in the picture's mirror: left and right change places."""
    faces = faces.copy()
    faces[..., 0] = side - faces[..., 0]
    faces[:, :2, 0] = faces[:, 1::-1, 0]
    return faces[:, [0, 1, 3, 2, 4, 6, 5]]


def turned(faces: NDArray[np.float32], side: int, quarter: int) -> NDArray[np.float32]:
    """Faces [F, 7, 2] after the picture's turn by 1 or 3 quarters against the clock."""
    x, y = faces[..., 0], faces[..., 1]
    out = np.stack([y, side - x] if quarter == 1 else [side - y, x], -1)
    return np.concatenate([out[:, :2].min(1, keepdims=True), out[:, :2].max(1, keepdims=True), out[:, 2:]], 1)


def _clipped(
    faces: NDArray[np.float32], sure: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Faces cut to the picture; what is left of less than 60 % of one, or of a tiny one, is not surely a face."""
    area = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    faces = faces.copy()
    faces[:, :4] = faces[:, :4].clip(0, side)
    left = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    sure = sure & (left > 0.6 * area) & (left > 64)
    inside = left > 4
    return faces[inside], sure[inside]


def _develop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other exposures, tints, and what a camera and JPEG do to a picture."""
    if rng.random() < 0.2:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    gain = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.04, 3))
    out = np.asarray((image * gain + rng.normal(0, 8)).clip(0, 255), np.uint8)
    if rng.random() < 0.05:
        out = np.repeat(out.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    if rng.random() < 0.3:
        _, coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 95))])
        out = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return out


def learn(
    net: Detector,
    photos: Sequence[Picture],
    rooms: Sequence[Picture],
    heads: Sequence[Picture],
    course: Course,
    kept: Path,
) -> Detector:
    """Train a detector; the running mean of its weights goes to ``kept`` and is what is returned."""
    rng = np.random.Generator(np.random.PCG64(course.seed))
    mean = Detector()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean.load_state_dict(net.state_dict())
    plain = [p for p in net.parameters() if p.ndim < 2]
    heavy = [p for p in net.parameters() if p.ndim >= 2]
    optimiser = torch.optim.AdamW(
        [{"params": plain, "weight_decay": 0.0}, {"params": heavy, "weight_decay": 0.02}], course.rate
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, course.rate, course.steps, pct_start=0.08)
    grid, began = places(course.side), time.monotonic()
    with progress.bar("train the face detector", course.steps) as bar:
        for step in range(course.steps):
            chosen = [_pick(photos, rooms, heads, rng, course) for _ in range(course.batch)]
            cuts, faces, sure = zip(*(view(p, rng, course) for p in chosen), strict=True)
            x = (torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).float() - 127.5) / 128
            targets = [assign(f, s, grid, course.reach) for f, s in zip(faces, sure, strict=True)]
            with torch.autocast("cpu", torch.bfloat16):
                maps = net.raw(x.contiguous(memory_format=torch.channels_last))
            value = loss(maps, targets, grid, course.floor)
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            _follow(mean, net, min(0.995, step / (step + 10)))
            bar.advance(1, f"loss {float(value.detach()):.3f}")
            if step % 100 == 0 or step == course.steps - 1:
                torch.save(mean.state_dict(), kept)
                progress.say(f"step {step} loss {float(value.detach()):.3f} {time.monotonic() - began:.0f} s")
    return mean.eval()


def _follow(mean: nn.Module, net: nn.Module, slowness: float) -> None:
    """Move the running mean of weights and statistics a step towards the network's."""
    with torch.no_grad():
        for kept, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - slowness)
            else:
                kept.copy_(new)


def _pick(
    photos: Sequence[Picture],
    rooms: Sequence[Picture],
    heads: Sequence[Picture],
    rng: np.random.Generator,
    course: Course,
) -> Picture:
    kind = rng.random()
    pool = rooms if kind < course.rooms else heads if kind < course.rooms + course.heads else photos
    return pool[int(rng.integers(len(pool)))]

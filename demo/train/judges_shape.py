"""The shape judge: a body's measures from one or several pictures of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .. import people
from ..judges import AttributeNetwork, ShapeJudge, ShapeNetwork, as_input, save
from ..people import SHAPE_NAMES
from . import corpus, judges_data, record
from .judges_fit import Photos, Schedule, fit
from .judges_softening import softened
from .pose_data import FLIP

Array = NDArray[np.floating[Any]]

WIDTH = 32
SCHEDULE = Schedule(epochs=16, batch=24, rate=1.5e-3)
PLACES = 10.0
"""Weight of the keypoints' errors, in half picture sides."""
CENSUS = 6000
"""People whose measures alone (no photo) give mean, spread and what can be seen."""
FILL = 0.885
"""Share of a whole-body photo's height that the body takes, the middle of what `people.staging` draws."""


def census(seed: int, count: int = CENSUS) -> NDArray[np.float64]:
    """Shapes [count, 22] of a world's people, metres."""
    return np.stack([people.make_person(seed, 1_000_000 + i).shape for i in range(count)]).astype(np.float64)


def spread_in_pixels(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each measure [22] spreads among people of one stature, in pixels of a whole-body photo of 128 pixels.

    A photo has no scale, so that the part of a measure that follows from stature is not counted; a girth shows as a
    width, a pi-th of it.
    """
    stature = shapes[:, SHAPE_NAMES.index("stature")]
    ahead = np.stack([stature, np.ones_like(stature)], 1)
    rest = shapes - ahead @ np.linalg.lstsq(ahead, shapes, rcond=None)[0]
    across = np.array([1 / math.pi if name.endswith("girth") else 1.0 for name in SHAPE_NAMES])
    return np.asarray(rest.std(0) * across * judges_data.SIZE * FILL / stature.mean())


def visible(shapes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which measures [22] can be seen at 128 pixels: those that spread by a pixel or more (`spread_in_pixels`)."""
    return spread_in_pixels(shapes) >= 1.0


def whitening(shapes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [22] and basis [K, 22] so that mean + z @ basis has the shapes' covariance for z ~ N(0, I).

    K is 21: stature is the sum of four others.
    """
    values, vectors = np.linalg.eigh(np.cov(shapes.T))
    kept = values > values.max() * 1e-6
    return shapes.mean(0), (vectors[:, kept] * np.sqrt(values[kept])).T


def train(
    photos: Photos,
    held_out: Photos,
    test: Photos,
    out: Path,
    start: AttributeNetwork | None,
    schedule: Schedule = SCHEDULE,
) -> dict[str, Any]:
    """Train the shape judge, write it with its figures and its card, and return the figures.

    Args:
        photos: `judges_data.PHOTOS` of each identity, one identity after the other.
        held_out: photos of people of another world, to calibrate with.
        test: photos of people of a third world.
        out: the judge's folder.
        start: a network whose trunk training begins from; None begins from random numbers.
        schedule: its batch counts identities.
    """
    torch.manual_seed(schedule.seed)
    shapes = census(corpus.TRAINING["judges"])
    mean, basis = whitening(shapes)
    network = ShapeNetwork(WIDTH, SHAPE_NAMES, visible(shapes).tolist(), len(basis))
    network.mean.copy_(torch.from_numpy(mean))
    network.basis.copy_(torch.from_numpy(basis))
    if start is not None:
        network.trunk.load_state_dict(start.trunk.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spread = torch.from_numpy(shapes.std(0)).float()
    truth = torch.from_numpy(photos.shapes[:: judges_data.PHOTOS])
    whitened = (truth - network.mean) @ torch.linalg.pinv(network.basis)

    ids = range(len(truth))
    places = torch.from_numpy(
        judges_data.keypoints(judges_data.shots(corpus.TRAINING["judges"], ids, judges_data.PHOTOS))
    )

    def loss(batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        each = (batch[:, None] * judges_data.PHOTOS + np.arange(judges_data.PHOTOS)).ravel()
        images, moves = softened(photos.images[each], rng, zoom=0.08, strength=0.4)
        *seen, found = network.look(images.to(memory_format=torch.channels_last))
        mu, precision = (x.view(len(batch), judges_data.PHOTOS, -1) for x in seen)
        missed = _missed(found, moved(places[each], moves))
        alone = _loss(network, mu[:, :, None], precision[:, :, None], whitened[batch, None], truth[batch, None], spread)
        return alone + _loss(network, mu, precision, whitened[batch], truth[batch], spread) + PLACES * missed

    fit("shape judge", network, len(truth), loss, schedule)
    calibrate(network, held_out)
    save(network, out)
    figures = measure(ShapeJudge(out), test)
    config = {
        "seed": corpus.TRAINING["judges"],
        "photos": len(photos),
        "identities": len(truth),
        "width": WIDTH,
        "trunk from the attribute judge": start is not None,
        "calibration seed": judges_data.CALIBRATION_SEED,
        "schedule": vars(schedule),
    }
    record.write(out, "Shape judge", WHAT, config, figures)
    return figures


def _loss(
    network: ShapeNetwork, mu: Tensor, precision: Tensor, whitened: Tensor, truth: Tensor, spread: Tensor
) -> Tensor:
    """Negative log-likelihood of the whitened shape, and the squared error in units of each measure's spread."""
    with torch.autocast("cpu", enabled=False):
        mean, variance = network.combine(mu, precision)
        likelihood = F.gaussian_nll_loss(mean, whitened.expand_as(mean), variance)
        return likelihood + ((network.metres(mean) - truth) / spread).square().mean()


@torch.no_grad()
def calibrate(network: ShapeNetwork, photos: Photos) -> None:
    """Set the scales of means and precisions by people that were not trained on, seen in 1, 2, 4 and 8 photos.

    On the people that it learns from the network grows surer than it may be. The precisions' scale is searched; the
    means' follows by least squares, since the combined estimate is linear in it.
    """
    together = judges_data.TEST_PHOTOS
    inputs = torch.split(as_input(photos.images), 64)
    mu, precision = (torch.cat(parts) for parts in zip(*(network(part) for part in inputs), strict=True))
    mu, precision = (x.view(-1, together, x.shape[-1]) for x in (mu, precision))
    truth = (torch.from_numpy(photos.shapes[::together]) - network.mean) @ torch.linalg.pinv(network.basis)
    best = (float("inf"), 1.0, 1.0)
    for scale in torch.logspace(-3, 4, 71).tolist():
        made = [
            network.combine(mu[:, first : first + views], precision[:, first : first + views] * scale)[0]
            for views in (1, 2, 4, 8)
            for first in range(0, together, views)
        ]
        estimates, truths = torch.stack(made), truth.expand(len(made), *truth.shape)
        factor = float((estimates * truths).sum() / estimates.square().sum())
        best = min(best, (float((factor * estimates - truths).square().mean()), factor, scale))
    network.calibration.copy_(torch.tensor(best[1:]))


def moved(places_N17x3: Tensor, moves_N23: Tensor) -> Tensor:
    """Keypoints [N, 17, 3] of softened pictures, whose left and right change places where a picture was mirrored."""
    scale = moves_N23[:, 1, 1][:, None, None]
    mirrored = moves_N23[:, 0, 0] < 0
    xy = (places_N17x3[..., :2] - moves_N23[:, None, :, 2]) / scale
    out = torch.cat([xy, places_N17x3[..., 2:] / scale], -1)
    out[mirrored, :, 0] *= -1
    return torch.where(mirrored[:, None, None], out[:, FLIP], out)


def _missed(found: Tensor, places: Tensor) -> Tensor:
    """Mean absolute error of the keypoints that lie in the picture, or nearly."""
    near = (places[..., :2].abs() < 1.1).all(-1)
    return (found - places).abs()[near].mean()


def r2(estimate: Array, truth: Array) -> NDArray[np.float64]:
    """Coefficient of determination [S] of estimates [N, S]: 1 - residual sum of squares / total sum of squares."""
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    return np.asarray(1 - ((estimate - truth) ** 2).sum(0) / total, np.float64)


def measure(judge: ShapeJudge, test: Photos) -> dict[str, Any]:
    """R² from one whole-body photo and from eight photos, averaged over the visible measures and each by itself.

    Proportions are measures divided by stature, which need no scale; estimates are divided by the estimated stature.
    """
    who = np.unique(test.identity, return_index=True)[1]
    truth = test.shapes[who]
    single = judge(test.images)
    together = np.stack([judge.together(test.images[test.identity == test.identity[i]]) for i in who])
    whole = np.array([w["framing"] == "full" for w in test.words])
    upright = whole & np.array([w["pose"] != "lying" for w in test.words])
    results = {
        "one photo, any framing": (single, test.shapes),
        "one whole-body photo": (single[whole], test.shapes[whole]),
        "one whole-body photo, not lying": (single[upright], test.shapes[upright]),
        f"{len(test) // len(who)} photos together": (together, truth),
    }
    figures: dict[str, Any] = {"test identities": len(who), "test photos": len(test)}
    figures["visible measures"] = ", ".join(n for n, v in zip(judge.names, judge.valid, strict=True) if v)
    for name, (estimate, true) in results.items():
        figures[f"R2 of visible measures in metres, {name}"] = round(float(r2(estimate, true)[judge.valid].mean()), 4)
    for name, (estimate, true) in results.items():
        figures[f"R2 of visible proportions, {name}"] = round(
            float(r2((estimate / estimate[:, :1])[:, judge.valid], (true / true[:, :1])[:, judge.valid]).mean()), 4
        )
    for name, (estimate, true) in results.items():
        for measure_name, value in zip(judge.names, r2(estimate, true), strict=True):
            figures[f"R2 {measure_name}, {name}"] = round(float(value), 4)
    return figures


WHAT = """
A residual network that estimates the 22 measures of a body, in metres, from 128×128 pictures
(`bolid.demo.judges.ShapeJudge`); no training reads it. It is taught where the 17 keypoints are, in depth too, and reads
the shape from the lengths between them and from the picture. Each photo gives a Gaussian over the whitened measures;
photos of one person multiply, after a calibration on people not trained on. Learnt from procedural people of a world of
its own, four photos each, half of them of the whole body.

A measure counts as **visible** when, among people of one stature, it spreads by at least one pixel in a whole-body
photo of 128 pixels; that follows from the people's definition alone and was fixed before training (`valid` in
config.json). A photo has no scale: metres follow only from furniture, floor boards and bricks of known size and from
how proportions go with stature. R² of proportions (each measure over stature) is what can be seen without a scale.

**It does not reach its target**, an R² of 0.8 averaged over the visible measures (see the figures): use it on several
photos of a person, and for comparisons of many people, not for one body.
"""

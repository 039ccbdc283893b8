"""What the latent of the body tells: who it is, how they are built, and whether pose and clothes can be read from it.

Shapes: N photos, P people, d latent, S measures, 12 body keypoints.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.body_encoder import BodyEncoder
from ..shards.dataset import IdentityDataset
from ..training.posteriors import Posteriors, disjoint_views, posteriors, retrieval
from . import method_probes as probes
from .judges import CONFIG_FILE, JUDGES
from .method_data import Example, shapes
from .method_report import Measured
from .people import SHAPE_NAMES

GALLERY, VIEWS = 50, 4
"""People among whom a person is to be found, and views in each of the two sets."""
RANK1, SHAPE_R2 = 0.9, 0.6
"""What issue 7 aims at."""

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def encoded(export: Path, shards: Path, workers: int) -> Posteriors:
    """Return the posterior of every held-out photo, from a finished VAE run."""
    encoder = BodyEncoder.load(export)
    photos = IdentityDataset(shards, "val", refs=0, size=encoder.config.size, crop="person", pixels="uint8")
    return posteriors(encoder, photos, workers)


def figures(known: Posteriors, examples: Sequence[Example]) -> list[Measured]:
    """Return retrieval, and the probes of shape, pose and clothes.

    Args:
        known: posteriors of the held-out photos.
        examples: what is true of each of them, in the same order.
    """
    alone, person = known.mu.double().numpy(), known.identity.numpy()
    whole, owner = products(known)
    mixed, member = halves(known)
    rows = [*_retrieval(known), *_shape(whole, owner, alone, person, examples)]
    for name, latent, chosen in (("one view", alone, np.arange(len(examples))), ("c_body of 4 views", mixed, member)):
        rows += _pose_and_clothes(name, latent, chosen, known, examples)
    return rows


def visible() -> NDArray[np.bool_]:
    """Return which measures [S] can be told from pictures at all, as the shape judge's card has it."""
    config = json.loads((JUDGES / "shape" / CONFIG_FILE).read_text(encoding="utf-8"))
    assert tuple(config["names"]) == SHAPE_NAMES
    return np.array(config["valid"], bool)


def products(known: Posteriors) -> tuple[Array, Integers]:
    """Return c_body [P, d] from all views of each person, and a row [P] of each."""
    rows = list(known.rows_by_identity().values())
    latents = torch.cat([known.of_rows(each)[0] for each in rows])
    return latents.double().numpy(), np.array([int(each[0]) for each in rows])


def halves(known: Posteriors) -> tuple[Array, Integers]:
    """Return for each photo of the two sets of each person the c_body of its set [M, d], and its row [M]."""
    sets = [each for pair in disjoint_views(known, VIEWS) for each in pair]
    latents = torch.cat([known.of_rows(each)[0].expand(len(each), -1) for each in sets])
    return latents.double().numpy(), torch.cat(sets).numpy()


def pose_targets(known: Posteriors) -> tuple[Array, NDArray[np.bool_]]:
    """Return body keypoints from the middle of the hips [N, 24], in heights of the crop's pose, and where all are seen.

    The unit is the height that the 12 keypoints span, so that a person who is larger in the crop has the same numbers.
    """
    assert known.keypoints is not None
    points = known.keypoints[:, 5:17].double().numpy()
    offsets = points[..., :2] - points[:, 6:8, :2].mean(1, keepdims=True)
    height = np.ptp(points[..., 1], axis=1)
    seen = (points[..., 2] > 0).all(1) & (height > 1)
    return (offsets / np.where(seen, height, 1.0)[:, None, None]).reshape(len(points), -1), seen


def _retrieval(known: Posteriors) -> list[Measured]:
    numbers = torch.unique(known.identity)[:GALLERY]
    kept = torch.isin(known.identity, numbers)
    gallery = replace(
        known, identity=known.identity[kept], mu=known.mu[kept], logvar=known.logvar[kept], weight=known.weight[kept]
    )
    found = retrieval(replace(gallery, keypoints=None), VIEWS)
    people = len(numbers)
    note = (
        f"{VIEWS} + {VIEWS} disjoint views of people not trained on, by cosine of c_body, each set asking for the other"
    )
    return [
        Measured(f"rank-1 among {people}", found["rank1"], people, note, chance=1 / people, aim=RANK1),
        Measured(f"mAP among {people}", found["map"], people, "the same search"),
    ]


def _shape(
    whole: Array, owner: Integers, alone: Array, person: Integers, examples: Sequence[Example]
) -> list[Measured]:
    """Probe the visible measures: in metres, and as shares of stature, which need no scale."""
    metres, shown = shapes(examples), visible()
    shares = metres / metres[:, :1]
    views = round(len(examples) / len(owner))
    rows = []
    for unit, truth, aim in (("metres", metres, SHAPE_R2), ("shares of stature", shares, None)):
        together = probes.r2(whole, truth[owner][:, shown], person[owner])
        each = ", ".join(f"{n} {v:.2f}" for n, v in zip(np.array(SHAPE_NAMES)[shown], together, strict=True))
        name = f"R² of shape in {unit}"
        rows.append(
            Measured(f"{name}, c_body of {views} views", float(together.mean()), len(owner), each, chance=0.0, aim=aim)
        )
        one = float(probes.r2(alone, truth[:, shown], person).mean())
        rows.append(Measured(f"{name}, one view", one, len(examples), "mean over the visible measures", chance=0.0))
    return rows


def _pose_and_clothes(
    name: str, latent: Array, chosen: Integers, known: Posteriors, examples: Sequence[Example]
) -> list[Measured]:
    """Probe what must not be in the latent; row i of `latent` is about photo `chosen[i]`."""
    person = known.identity.numpy()[chosen]
    targets, seen = pose_targets(known)
    seen_here = seen[chosen]
    of = "of a photo among them" if name != "one view" else "of the photo itself"
    position = float(np.nanmean(probes.r2(latent[seen_here], targets[chosen][seen_here], person[seen_here])))
    note = f"{of}: 12 body keypoints from the middle of the hips, photos that show all 12"
    rows = [Measured(f"R² of keypoints, {name}", position, int(seen_here.sum()), note, chance=0.0)]
    said = {
        "pose": [examples[i].pose for i in chosen],
        "top's colour": [examples[i].attributes["top_colour"] for i in chosen],
    }
    for what, classes in said.items():
        shuffled = probes.permuted_accuracy(latent, classes, person)
        common = probes.commonest(classes)
        chance = f"the commonest {common:.3f}, the same probe on shuffled ones {shuffled:.3f}"
        note = f"{of}: {len(set(classes))} classes; {chance}"
        value = probes.accuracy(latent, classes, person)
        rows.append(Measured(f"accuracy of {what}, {name}", value, len(chosen), note, chance=max(common, shuffled)))
    return rows

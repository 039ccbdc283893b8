"""What is measured on held-out people: the body encoder by itself, the adapter's loss, and generated pictures.

Every figure names the network it was measured with. Legend: I people, P prompts, d body latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..models.body_encoder import BodyDecoder, BodyEncoder
from ..models.body_mask import body_mask
from ..training.losses import reconstruction
from . import metrics
from .features import Views, as_views, picture_features
from .figure import Figure, absent

BODY_ENCODER = "body encoder of this run"
BODY_DECODER = "body encoder and decoder of this run"


def retrieval_figures(people: Sequence[Views]) -> list[Figure]:
    """Return rank-1 and mAP of one half of each person's views searching the other halves, by cosine of c_body."""
    names = ("Body retrieval rank-1", "Body retrieval mAP")
    if len(people) < 2:
        return [absent(name, f"needs two held-out people, there are {len(people)}", BODY_ENCODER) for name in names]
    first, second = (np.stack([person.body(_half(person, side)).numpy() for person in people]) for side in (0, 1))
    labels = np.arange(len(people))
    found = metrics.retrieval(metrics.cosine(first[:, None], second[None]), labels, labels)
    note = f"disjoint halves of {min(len(p.rows) for p in people)}–{max(len(p.rows) for p in people)} photos a person"
    chance = f"{note}; chance {1 / len(people):.3f}"
    return [
        Figure(names[0], found.rank1, n=found.queries, network=BODY_ENCODER, note=chance),
        Figure(names[1], found.mean_average_precision, n=found.queries, network=BODY_ENCODER, note=note),
    ]


@torch.no_grad()
def reconstruction_figures(people: Sequence[Views], decoder: BodyDecoder) -> list[Figure]:
    """Return the mean absolute error of each view drawn from its person's other views, and from another person's.

    It is measured on the person, as in training; on all of the crop where no pose was measured.
    """
    own = [_left_out(person, person, decoder, j) for person in people for j in range(len(person.rows))]
    name = "Leave-one-out reconstruction L1"
    figures = [
        Figure(
            name, float(np.mean(own)), "of -1..1", len(own), BODY_DECODER, "on the person, body from the other views"
        )
    ]
    if len(people) < 2:
        return [*figures, absent(f"{name}, wrong body", "needs two held-out people", BODY_DECODER)]
    others = [*people[1:], people[0]]
    wrong = [_left_out(p, o, decoder, j) for p, o in zip(people, others, strict=True) for j in range(len(p.rows))]
    note = "body of the next person; the gap is what the body tells"
    return [*figures, Figure(f"{name}, wrong body", float(np.mean(wrong)), "of -1..1", len(wrong), BODY_DECODER, note)]


def loss_figures(losses: dict[str, float], samples: int, network: str) -> list[Figure]:
    """Return the adapter's validation loss by mode; a baseline without body branch has no mode `diff_body_off`."""
    body = "diff_body_off" in losses
    said = {
        "diff_on": ("L_diff", "face and body on" if body else "face on"),
        "diff_body_off": ("L_diff, body off", "lambda_b = 0"),
        "diff_off": ("L_diff, adapter off", "lambda_f = lambda_b = 0: the base" if body else "lambda_f = 0: the base"),
    }
    note = "held-out people, fixed noise, five fixed times"
    return [
        Figure(said[key][0], value, "MSE of the noise", samples, network, f"{said[key][1]}; {note}")
        for key, value in losses.items()
    ]


@dataclass(frozen=True)
class Generated:
    """Pictures of every held-out person for every prompt.

    Attributes:
        pixels: `[P·I, H, W, 3]`, the prompt changing slowest.
        person: `[P·I]`, number of the person in the list of people.
    """

    pixels: npt.NDArray[np.uint8]
    person: npt.NDArray[np.int64]


def picture_figures(made: Generated, people: Sequence[Views], encoder: BodyEncoder) -> list[Figure]:
    """Return the Fréchet distance of generated pictures and held-out photos, and the similarity of their bodies."""
    features = picture_features(encoder, as_views(made.pixels))
    photos = picture_features(encoder, torch.cat([person.pixels for person in people]))
    return [
        _frechet(features, photos),
        *_body_similarity(features, made.person, torch.stack([person.body() for person in people])),
    ]


def _frechet(features: npt.NDArray[np.float64], photos: npt.NDArray[np.float64]) -> Figure:
    name = "FD (body encoder)"
    if min(len(features), len(photos)) < 2:
        return absent(name, "needs two pictures and two photos", BODY_ENCODER)
    value = metrics.frechet_distance(features, photos)
    note = f"{len(features)} generated pictures, {len(photos)} photos; biased upwards at this number; not FID"
    return Figure(name, value, n=len(features), network=BODY_ENCODER, note=note)


def _body_similarity(
    features: npt.NDArray[np.float64], person: npt.NDArray[np.int64], bodies_Id: Tensor
) -> list[Figure]:
    """Return the mean cosine of generated pictures' bodies with their own person's and with the others'."""
    similarity = metrics.cosine(features[:, None], bodies_Id.double().numpy()[None])
    own = person[:, None] == np.arange(len(bodies_Id))[None]
    note = "cosine of c_body of the generated picture"
    figures = [
        Figure("Body Sim.", float(similarity[own].mean()), "cosine", len(features), BODY_ENCODER, f"{note}, own person")
    ]
    if len(bodies_Id) < 2:
        return [*figures, absent("Body Sim., other people", "needs two held-out people", BODY_ENCODER)]
    others = float(similarity[~own].mean())
    return [
        *figures,
        Figure("Body Sim., other people", others, "cosine", len(features), BODY_ENCODER, f"{note}, the other people"),
    ]


def _half(person: Views, side: int) -> list[int]:
    return list(range(side, len(person.rows), 2))


def _left_out(target: Views, source: Views, decoder: BodyDecoder, j: int) -> float:
    """Return the L1 of view j of `target` drawn with the body of `source` without its view j."""
    kept = [view for view in range(len(source.rows)) if view != j]
    drawn = decoder(source.body(kept)[None], target.keypoints[j : j + 1])
    size = (drawn.shape[-1], drawn.shape[-2])
    mask = body_mask(target.keypoints[j : j + 1], size, size)
    return float(reconstruction(drawn, target.pixels[j : j + 1], torch.ones(1), mask))

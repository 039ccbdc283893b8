"""The attribute judge: what a caption says, read from a picture."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..judges import AttributeJudge, AttributeNetwork, Pictures, save
from ..people.background import PLACES, WALL_COLOURS
from ..people.camera import FRAMINGS, VIEWS
from ..people.clothes import BOTTOMS, COLOURS, PATTERNS, SLEEVES, TOPS
from ..people.pose import POSES
from . import corpus, record
from .judges_fit import Loss, Photos, Schedule, fit
from .judges_softening import soften

WORDS: dict[str, tuple[str, ...]] = {
    "top_colour": tuple(COLOURS),
    "top": TOPS,
    "top_pattern": PATTERNS,
    "sleeves": tuple(SLEEVES),
    "bottom_colour": (*COLOURS, "none"),
    "bottom": (*BOTTOMS, "none"),
    "pose": POSES,
    "view": VIEWS,
    "background": PLACES,
    "background_colour": (*WALL_COLOURS, "none"),
    "framing": FRAMINGS,
}
"""The classes of each attribute."""
WIDTH, FEATURES = 32, 128
SCHEDULES = (Schedule(epochs=10, batch=64, rate=2e-3), Schedule(epochs=6, batch=64, rate=2e-3, seed=1))
"""First without glances, then with."""
HIDDEN = -100


def shown(words: dict[str, str], attribute: str) -> bool:
    """Whether a photo with these words shows the attribute: a bottom garment only when the legs are in the picture."""
    return not attribute.startswith("bottom") or words["framing"] in ("full", "three-quarter")


def targets(photos: Photos) -> dict[str, NDArray[np.int64]]:
    """The class [N] of each attribute, or `HIDDEN`."""
    return {
        name: np.array([classes.index(w[name]) if shown(w, name) else HIDDEN for w in photos.words])
        for name, classes in WORDS.items()
    }


def train(photos: Photos, test: Photos, out: Path, schedules: tuple[Schedule, Schedule] = SCHEDULES) -> dict[str, Any]:
    """Train the attribute judge, write it with its figures and its card, and return the figures."""
    torch.manual_seed(schedules[0].seed)
    network = AttributeNetwork(WIDTH, FEATURES, WORDS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for glance, schedule in enumerate(schedules):
        fit("attribute judge", network, len(photos), _loss(network, photos, glance=bool(glance)), schedule)
    save(network, out)
    figures = measure(AttributeJudge(out), test)
    config = {
        "seed": corpus.TRAINING["judges"],
        "photos": len(photos),
        "width": WIDTH,
        "features": FEATURES,
        "schedules": [vars(schedule) for schedule in schedules],
    }
    record.write(out, "Attribute judge", WHAT, config, figures)
    return figures


def second_colour(caption: str) -> str:
    """The second colour of the first patterned garment that a caption names, or nothing; tops come first."""
    found = re.search(rf" and ({'|'.join(COLOURS)}) (?:striped|checked|polka-dot)", caption)
    return found.group(1) if found else ""


def _loss(network: AttributeNetwork, photos: Photos, *, glance: bool) -> Loss:
    """Cross-entropies of all attributes on softened photos."""
    truth = {name: torch.from_numpy(classes) for name, classes in targets(photos).items()}

    def loss(batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        images = soften(photos.images[batch], rng).to(memory_format=torch.channels_last)
        logits = network(images, glance=glance)
        return torch.stack([F.cross_entropy(logits[k], truth[k][batch], label_smoothing=0.03) for k in WORDS]).sum()

    return loss


def measure(judge: AttributeJudge, test: Photos) -> dict[str, Any]:
    """Accuracy of each attribute on photos as they are and on soft, noisy ones, and chance."""
    rng = np.random.Generator(np.random.PCG64(1))
    soft: Pictures = (soften(test.images, rng).permute(0, 2, 3, 1) * 255).round().byte().numpy()
    figures: dict[str, Any] = {"test photos": len(test)}
    truth = targets(test)
    for how, images in (("", test.images), (" (softened)", soft)):
        guesses = judge.probabilities(images)
        for name, classes in truth.items():
            seen = classes != HIDDEN
            right = guesses[name].argmax(1)[seen] == classes[seen]
            figures[f"accuracy {name}{how}"] = round(float(right.mean()), 4)
    guessed = judge(test.images)["top_colour"]
    plain = np.array([words["top_pattern"] == "plain" for words in test.words])
    main = np.array([words["top_colour"] for words in test.words]) == guessed
    either = main | (np.array([second_colour(caption) for caption in test.captions]) == guessed)
    figures["accuracy top_colour, plain tops"] = round(float(main[plain].mean()), 4)
    figures["top_colour names one of a patterned top's two colours"] = round(float(either[~plain].mean()), 4)
    for name, classes in truth.items():
        counts = np.bincount(classes[classes != HIDDEN])
        figures[f"most frequent class of {name}"] = round(float(counts.max() / counts.sum()), 4)
    return figures


WHAT = """
A residual network of half a million numbers that names, from a 128×128 picture, the top's colour, kind, pattern and
sleeves, the bottom's colour and kind, pose, view, background and framing; its 128 features serve a Fréchet distance. It
judges pictures of a base against their prompts (`bolid.demo.judges.AttributeJudge`); no training reads it. Learnt from
procedural people of a world of its own, mirrored, shifted, blurred, compressed and given noise, hues left alone.
Attributes of the bottom are learnt and measured where the framing shows legs. A patterned top has two colours in nearly
equal shares (stripes 58 to 42 %), of which `top_colour` is the larger: at 128 pixels that is often a guess, so judge
colours by plain tops, or accept either colour.
"""

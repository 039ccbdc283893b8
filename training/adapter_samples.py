"""Sample grids: fixed prompts × fixed identities, with the adapter off, with the face, with the body, with both."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from ..models.sampling import sample
from .adapter_model import AdapterModel, scales

Pixels = npt.NDArray[np.uint8]

HEADER = 14  # pixels of a label's line
GAP = 2


def columns(model: AdapterModel) -> dict[str, dict[str, float]]:
    """Return the columns of a grid: name and lambdas."""
    if "body" not in model.bundle.conditions:
        return {"off": {"face": 0.0}, "face": {"face": 1.0}}
    return {
        "off": {"face": 0.0, "body": 0.0},
        "face": {"face": 1.0, "body": 0.0},
        "body": {"face": 0.0, "body": 1.0},
        "both": {"face": 1.0, "body": 1.0},
    }


def pictures(
    model: AdapterModel,
    embeddings: Mapping[str, Tensor],
    prompts: Sequence[str],
    size: tuple[int, int],
    steps: int,
    seed: int,
) -> Pixels:
    """Make a picture of every person for every prompt, under the adapter's present lambdas.

    The starting noise depends on the prompt alone, so that pictures of people differ by their conditions only.

    Args:
        model: base and adapter.
        embeddings: `face` `[I, 512]` and `body` `[I, d]` of I people.
        prompts: P prompts.
        size: (height, width) in pixels.
        steps: sampler steps.
        seed: of the first prompt's noise; each further prompt adds 1.

    Returns:
        `[P·I, height, width, 3]`, the prompt changing slowest.
    """
    people = len(embeddings["face"])
    made = []
    for number, prompt in enumerate(prompts):
        given = [embeddings[name] for name in model.bundle.conditions]
        made.append(sample(model.pipe, [prompt] * people, [seed + number] * people, size, given, steps))
    return np.concatenate(made)


def comparison(
    model: AdapterModel,
    embeddings: Mapping[str, Tensor],
    prompts: Sequence[str],
    size: tuple[int, int],
    steps: int,
    seed: int,
) -> Image.Image:
    """Make the pictures of `pictures` once for each column and lay them out, a row a prompt and person."""
    made = {}
    for name, lambdas in columns(model).items():
        with scales(model.bundle, lambdas):
            made[name] = pictures(model, embeddings, prompts, size, steps, seed)
    people = range(1, len(embeddings["face"]) + 1)
    return grid(made, [f"{prompt} · person {person}" for prompt in prompts for person in people])


def grid(made: dict[str, Pixels], rows: Sequence[str]) -> Image.Image:
    """Lay pictures out, a column an entry of `made` and a row a picture, with labels."""
    _, height, width, _ = next(iter(made.values())).shape
    sheet = Image.new("RGB", (len(made) * (width + GAP), len(rows) * (height + HEADER) + HEADER), "white")
    draw = ImageDraw.Draw(sheet)
    for across, (name, pixels) in enumerate(made.items()):
        left = across * (width + GAP)
        draw.text((left + GAP, 1), name, fill="black")
        for down, picture in enumerate(pixels):
            top = HEADER + down * (height + HEADER)
            sheet.paste(Image.fromarray(picture), (left, top + HEADER))
    for down, label in enumerate(rows):
        draw.text((GAP, HEADER + down * (height + HEADER) + 1), label, fill="black")
    return sheet

"""The judges: attributes, shape and a small CLIP, for evaluation only, one folder each."""

from pathlib import Path

import torch

from ... import progress
from ..judges import AttributeNetwork, load_network
from . import judges_attributes, judges_clip, judges_data, judges_shape
from .judges_fit import photos


def train(work: Path, out: Path) -> None:
    """Render the judges' world, train all three on one core and write `attributes`, `shape` and `clip` under `out`.

    Args:
        work: renders are kept there.
        out: of the three folders.
    """
    torch.set_num_threads(1)
    seen, unseen = photos(judges_data.training_views(work)), photos(judges_data.unseen_views(work))
    held_out = photos(judges_data.calibration_views(work))
    progress.say(str(judges_attributes.train(seen, unseen, out / "attributes")))
    start = load_network(out / "attributes", AttributeNetwork)
    progress.say(str(judges_clip.train(seen, unseen, out / "clip")))
    more = photos(judges_data.training_views(work, identities=range(judges_data.SHAPE_IDENTITIES)))
    progress.say(str(judges_shape.train(more, held_out, unseen, out / "shape", start)))

"""Captions of the kept photos: which captioner there is, and a second pass of the engine over those photos alone.

It comes after all decisions, so that nothing is written about photos that go. What it computes lies in the ledger like
all scores: a second run computes nothing, and a killed one goes on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import progress
from ..errors import UsageError
from . import engine, networks
from .columns import rows_of
from .config import CurateConfig
from .measured import Measured, some
from .networks import Absence, Network
from .scores import Scores
from .stage import Stage
from .stages import attributes, caption
from .stages.caption import Caption
from .stages.pose import PoseStage

ATTRIBUTES = "attributes"
"""What is given for a captioner's name where the stage of that name writes the captions."""
_NEEDS_POSE = "captions by attributes need the pose stage; give a network: --pose NAME"


@dataclass(frozen=True)
class Captions:
    """What is said of the kept photos.

    Attributes:
        model: the captioner's name; None where there is none.
        texts: by sha256.
        failed: sha256 -> error, for photos that stay without a caption this time.
        computed: photos that were described now; the others came from the ledger.
    """

    model: str | None = None
    texts: Mapping[str, Caption] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    computed: int = 0

    def remarks(self) -> list[str]:
        """Return a line on captions that failed and one on those that are flagged, where there are any."""
        lines = []
        if self.failed:
            lines.append(
                f"{len(self.failed)} kept photos have no caption (tried again next time); the first of their errors: "
                f"{next(iter(self.failed.values()))}"
            )
        flags = Counter(said.flag for said in self.texts.values() if said.flag)
        return lines + [f"{count} captions are flagged: {flag}" for flag, count in sorted(flags.items())]


def choose(asked: str | None, posed: bool) -> Network | Absence:
    """Return what writes the captions, and say so where nothing was asked for.

    Args:
        asked: a captioner's name or folder, `attributes`, `none`, or None for the usual captioner if it is here, else
            `attributes` where poses are measured.
        posed: the pose stage is run.

    Raises:
        UsageError, ModelError, MissingExtraError: as `networks.choose`; or `attributes` without poses.
    """
    measured = Network(ATTRIBUTES, "", "")
    if asked == ATTRIBUTES:
        if not posed:
            raise UsageError(_NEEDS_POSE)
        return measured
    chosen = networks.choose("caption", asked)
    if asked is not None or isinstance(chosen, Network):
        return chosen
    if not posed:
        return Absence("caption", f"{chosen.why}; and without poses there are no attributes to tell of")
    progress.say(f"captions are written from measured attributes: {chosen.why}", stage="caption")
    return measured


def describe(
    chosen: Network,
    pose: Network | None,
    kept: Sequence[engine.Item],
    photos: Mapping[str, Measured],
    config: CurateConfig,
    ledger: Path,
    device: str,
    workers: int | None = None,
    kind: str = "local",
) -> Captions:
    """Describe photos, or read from the ledger what is there.

    Args:
        chosen: what `choose` returned.
        pose: the pose network, for attributes.
        kept: the photos, unique by sha256.
        photos: what was measured of them.
        config: the thresholds of keypoints.
        ledger: folder of all stages' results.
        device: of torch.
        workers: processes for attributes; None = one a core. A captioner is loaded once a GPU, or once.
        kind: the engine.

    Raises:
        ModelError: the captioner cannot be loaded.
    """
    by_attributes = not chosen.path
    owner = None
    stages: list[Stage]
    if by_attributes:
        if pose is None:
            raise UsageError(_NEEDS_POSE)
        finder = PoseStage(pose, device)
        stages = [finder, attributes.AttributesStage(finder)]
    else:
        stages = [caption.CaptionStage(chosen, device)]
        owner = device if device.startswith("cuda") else None
        workers = None if owner else 1  # one a GPU, else one: its weights fill a machine
    scores = engine.run_stages(stages, kept, ledger, workers, kind=kind, owner=owner)
    texts = _measured(scores, photos, config) if by_attributes else _written(scores)
    return Captions(chosen.name, texts, scores.failed, scores.computed)


def _written(scores: Scores) -> dict[str, Caption]:
    texts = {}
    for table in scores.batches(("caption_first", "caption_second")):
        for row in table.to_pylist():
            texts[row["sha256"]] = caption.decide(row["caption_first"], row["caption_second"])
    return texts


def _measured(scores: Scores, photos: Mapping[str, Measured], config: CurateConfig) -> dict[str, Caption]:
    texts = {}
    for table in scores.batches(("clothes",)):
        shas = table["sha256"].to_pylist()
        known = some(photos, shas)
        for sha256, clothes in zip(shas, rows_of(table, "clothes", attributes.PER_PERSON), strict=True):
            photo = known[sha256]
            if photo.people is None or photo.person is None or clothes is None:
                continue
            person = photo.person
            text = attributes.decide(person.keypoints, person.box, clothes[photo.people.index], config.pose.keypoint)
            texts[sha256] = Caption(text)
    return texts

"""`bolid curate`: score all photos, decide, write one row a photo and the report.

Captions need a network that has no stage yet: their column does not exist until it has.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from .. import atomic, progress
from ..config import write_config
from ..errors import AccountingError
from ..workspace import Workspace
from . import engine, networks, report, table
from .config import CurateConfig
from .decisions import Decisions, Row, cosines_of, decide
from .measured import measured
from .networks import Absence, Network
from .outcome import CurationSummary
from .stage import Stage
from .stages.decode import DecodeStage
from .stages.duplicates import PerceptualHashStage
from .stages.face import FaceStage
from .stages.pose import PoseStage
from .stages.quality import QualityStage

PARTS: tuple[networks.Part, ...] = ("pose", "face")


def curate(workspace: Workspace, config: CurateConfig, workers: int | None = None) -> CurationSummary:
    """Judge every photo of `images.parquet` and write `curated.parquet` and `report.html`.

    Raises:
        WorkspaceError: nothing was crawled, or another curation is running here.
        DataError: `images.parquet` is empty or lacks columns.
        UsageError, ModelError, MissingExtraError: a network that was asked for cannot be used.
        AccountingError: photos were lost between input and output (a bug).
    """
    begun = time.monotonic()
    source = workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    with atomic.locked(workspace.root / "curation.lock", f"the curation of {workspace.root}"):
        images = table.read_images(source)
        rows = images.select(["sha256", "identity", "format"]).to_pylist()
        found, absent = _networks(config)
        cosines = cosines_of(config, found["face"].thresholds) if "face" in found else None
        scores = engine.run_stages(_stages(found, config), _items(workspace, rows), workspace.curation, workers)
        photos = {photo.sha256: photo for photo in measured(scores.table, config)}
        decisions = decide(rows, photos, scores.failed, config, cosines)
        summary = _summary(rows, decisions, scores, found, absent, time.monotonic() - begun)
        table.write(workspace.curated_table, images, photos, decisions.outcomes, found, config)
        write_config(workspace.curation / "config.toml", config)
        report.write(workspace, summary, config, cosines)
    for remark in summary.remarks:
        progress.warn(remark)
    return summary


def _networks(config: CurateConfig) -> tuple[dict[str, Network], dict[str, str]]:
    """Return the networks by stage, and why the other stages are not run."""
    asked = {"pose": config.pose_model, "face": config.face_model}
    chosen = {part: networks.choose(part, asked[part]) for part in PARTS}
    found: dict[str, Network] = {part: each for part, each in chosen.items() if isinstance(each, Network)}
    absent: dict[str, str] = {part: each.why for part, each in chosen.items() if isinstance(each, Absence)}
    face = found.get("face")
    if face is None:
        absent["identity"] = "it needs faces"
    elif cosines_of(config, face.thresholds) is None:
        absent["identity"] = (
            f"the cosine from which on two faces are one person is not known for {face.name}; "
            "give it: --set identity.same=COSINE"
        )
    for stage, why in absent.items():
        progress.say(f"the stage {stage} is not run: {why}", stage=stage)
    return found, absent


def _stages(found: Mapping[str, Network], config: CurateConfig) -> list[Stage]:
    stages: list[Stage] = [DecodeStage(), PerceptualHashStage()]
    finders: list[Stage] = []
    if "pose" in found:
        finders.append(PoseStage(found["pose"], config.device))
    if "face" in found:
        finders.append(FaceStage(found["face"], config.device))
    return stages + finders + ([QualityStage(finders)] if finders else [])


def _items(workspace: Workspace, images: Sequence[Row]) -> list[engine.Item]:
    paths = {image["sha256"]: str(workspace.photo(image["sha256"], image["format"])) for image in images}
    return [engine.Item(sha256, path) for sha256, path in paths.items()]


def _summary(
    images: Sequence[Row],
    decisions: Decisions,
    scores: engine.Scores,
    found: Mapping[str, Network],
    absent: Mapping[str, str],
    seconds: float,
) -> CurationSummary:
    outcomes = decisions.outcomes
    rejected = Counter(f"{o.verdict.stage}:{o.verdict.reason}" for o in outcomes if o.verdict)
    kept = sum(outcome.keep for outcome in outcomes)
    failed = sum(outcome.error is not None for outcome in outcomes)
    if len(images) != kept + sum(rejected.values()) + failed:
        raise AccountingError(
            f"{len(images)} photos came in, but {kept} were kept, {sum(rejected.values())} rejected and {failed} "
            "failed; this is a bug in bolid, nothing was written"
        )
    identities = {image["identity"] for image, outcome in zip(images, outcomes, strict=True) if outcome.keep}
    return CurationSummary(
        offered=len(images),
        kept=kept,
        rejected=dict(rejected.most_common()),
        failed=failed,
        computed=scores.computed,
        identities=len(identities),
        seconds=seconds,
        networks={part: network.name for part, network in found.items()},
        not_run=absent,
        remarks=decisions.remarks(),
    )

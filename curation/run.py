"""`bolid curate`: score all photos, decide, write one row a photo and the report.

Captions need a network that has no stage yet: their column does not exist until it has.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from .. import atomic, progress
from ..config import write_config
from ..errors import AccountingError
from ..workspace import Workspace
from . import engine, networks, report, table
from .config import CurateConfig
from .decisions import Decisions, Row, cosines_of, decide
from .measured import Measured, measured
from .networks import Absence, Network
from .outcome import CurationSummary
from .stage import Stage
from .stages.decode import DecodeStage
from .stages.duplicates import PerceptualHashStage
from .stages.face import FaceStage
from .stages.identity import Cosines
from .stages.pose import PoseStage
from .stages.quality import QualityStage

PARTS: tuple[networks.Part, ...] = ("pose", "face")


@dataclass(frozen=True)
class Judged:
    """Everything known of a workspace's photos under one configuration.

    Attributes:
        images: the crawl's table; `rows` are its `sha256`, `identity` and `format`, in its order.
        scores: of all stages; `photos` what they say of each photo, by its sha256.
        decisions: an outcome for each row.
        found: networks by stage; `absent` says why the other stages are not run.
        cosines: what identities were judged by; None where no face was looked for.
    """

    images: pa.Table
    rows: list[Row]
    scores: engine.Scores
    photos: dict[str, Measured]
    decisions: Decisions
    found: dict[str, Network]
    absent: dict[str, str]
    cosines: Cosines | None


def curate(workspace: Workspace, config: CurateConfig, workers: int | None = None) -> CurationSummary:
    """Judge every photo of `images.parquet` and write `curated.parquet` and `report.html`.

    Raises:
        WorkspaceError: nothing was crawled, or another curation is running here.
        DataError: `images.parquet` is empty or lacks columns.
        UsageError, ModelError, MissingExtraError: a network that was asked for cannot be used.
        AccountingError: photos were lost between input and output (a bug).
    """
    begun = time.monotonic()
    workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    with atomic.locked(workspace.root / "curation.lock", f"the curation of {workspace.root}"):
        judged = judge(workspace, config, workers)
        summary = _summary(judged, time.monotonic() - begun)
        outcomes = judged.decisions.outcomes
        table.write(workspace.curated_table, judged.images, judged.photos, outcomes, judged.found, config)
        write_config(workspace.curation / "config.toml", config)
        report.write(workspace, summary, config, judged.cosines)
    for remark in summary.remarks:
        progress.warn(remark)
    return summary


def judge(workspace: Workspace, config: CurateConfig, workers: int | None = None, *, compute: bool = True) -> Judged:
    """Score and decide, and write nothing but the ledger.

    Args:
        workspace: with `images.parquet`.
        config: thresholds and networks.
        workers: processes; None = one a core.
        compute: False reads the ledger only; photos that it does not hold count as failed.

    Raises:
        As `curate`.
    """
    source = workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    images = table.read_images(source)
    rows = images.select(["sha256", "identity", "format"]).to_pylist()
    found, absent = _networks(config)
    cosines = cosines_of(config, found["face"].thresholds) if "face" in found else None
    stages, items = _stages(found, config), _items(workspace, rows)
    if compute:
        scores = engine.run_stages(stages, items, workspace.curation, workers)
    else:
        scores = engine.read_stages(stages, items, workspace.curation)
    photos = {photo.sha256: photo for photo in measured(scores.table, config)}
    decisions = decide(rows, photos, scores.failed, config, cosines)
    return Judged(images, rows, scores, photos, decisions, found, absent, cosines)


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


def _summary(judged: Judged, seconds: float) -> CurationSummary:
    images, outcomes = judged.rows, judged.decisions.outcomes
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
        computed=judged.scores.computed,
        identities=len(identities),
        seconds=seconds,
        networks={part: network.name for part, network in judged.found.items()},
        not_run=judged.absent,
        remarks=judged.decisions.remarks(),
    )

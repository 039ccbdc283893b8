"""`bolid curate`: score all photos, decide, describe those that are kept, write one row a photo and the report."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from .. import atomic, progress
from ..config import write_config
from ..crawler.suppress import read_suppression
from ..errors import AccountingError
from ..workspace import Workspace
from . import captions, devices, networks, proposals, rejects, report, table
from .captions import Captions
from .config import CurateConfig
from .decisions import Decisions, Row, cosines_of, decide
from .engine import Item, Scores, read_stages, run_stages
from .measured import Photos
from .networks import Absence, Network
from .outcome import CurationSummary
from .stage import Stage, Verdict
from .stages import exclusions
from .stages.decode import DecodeStage
from .stages.duplicates import PerceptualHashStage
from .stages.face import FaceStage
from .stages.identity import Cosines
from .stages.pose import PoseStage
from .stages.quality import QualityStage

_ROWS = 4096
"""Rows that are Python objects at a time."""
PARTS: tuple[networks.Part, ...] = ("pose", "face")


@dataclass(frozen=True)
class Judged:
    """Everything known of a workspace's photos under one configuration.

    Attributes:
        images: the crawl's table; `rows` are its `sha256`, `identity` and `format`, in its order.
        scores: of all stages; `photos` what they say of each photo, by its sha256, for those that are asked for.
        decisions: an outcome for each row.
        found: networks by stage; `absent` says why the other stages are not run.
        cosines: what identities were judged by; None where no face was looked for.
    """

    images: pa.Table
    rows: Sequence[Row]
    scores: Scores
    photos: Photos
    decisions: Decisions
    found: dict[str, Network]
    absent: dict[str, str]
    cosines: Cosines | None


def curate(
    workspace: Workspace, config: CurateConfig, workers: int | None = None, *, engine: str = "local"
) -> CurationSummary:
    """Judge every photo of `images.parquet` and write `curated.parquet` and `report.html`.

    Args:
        workspace: with `images.parquet`.
        config: thresholds and networks.
        workers: processes; None = one a core.
        engine: what maps the stages over the photos, one of `engine.KINDS`.

    Raises:
        WorkspaceError: nothing was crawled, or another curation is running here.
        DataError: `images.parquet` is empty or lacks columns.
        ConfigError: `suppress.txt` is malformed.
        UsageError, ModelError, MissingExtraError: a network that was asked for cannot be used.
        AccountingError: photos were lost between input and output (a bug).
    """
    begun = time.monotonic()
    workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    with atomic.locked(workspace.root / "curation.lock", f"the curation of {workspace.root}"):
        judged = judge(workspace, config, workers, engine=engine)
        _check(judged)
        said = _describe(workspace, judged, config, workers, engine)
        summary = _summary(judged, said, time.monotonic() - begun)
        outcomes = judged.decisions.outcomes
        table.write(workspace.curated_table, judged.images, judged.photos, outcomes, judged.found, config, said)
        rejects.write(workspace.rejects_table, judged.rows, judged.decisions.phashes, outcomes)
        proposals.write(workspace.proposals_table, judged.decisions.proposed)
        write_config(workspace.curation / "config.toml", config)
        report.write(workspace, summary, config, judged.cosines)
    for remark in summary.remarks:
        progress.warn(remark)
    return summary


def judge(
    workspace: Workspace,
    config: CurateConfig,
    workers: int | None = None,
    *,
    compute: bool = True,
    engine: str = "local",
) -> Judged:
    """Score and decide, and write nothing but the ledger.

    Args:
        workspace: with `images.parquet`.
        config: thresholds and networks.
        workers: processes; None = one a core.
        compute: False reads the ledger only; photos that it does not hold count as failed.
        engine: what maps the stages over the photos, one of `engine.KINDS`.

    Raises:
        As `curate`.
    """
    source = workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    images = table.read_images(source)
    rows = table.Rows(images, ("sha256", "identity", "format"))
    suppressed = _suppressed(workspace, images)
    found, absent = _networks(config, tell=compute)
    cosines = cosines_of(config, found["face"].thresholds) if "face" in found else None
    device = config.device if compute else "cpu"
    stages, owner = _stages(found, config, device), _owner(found, device)
    items = _items(workspace, (row for index, row in enumerate(rows) if index not in suppressed))
    if compute:
        scores = run_stages(stages, items, workspace.curation, workers, kind=engine, owner=owner)
    else:
        scores = read_stages(stages, items, workspace.curation)
    del items
    photos = Photos(scores, config)
    decisions = decide(rows, photos, scores.failed, config, cosines, suppressed)
    return Judged(images, rows, scores, photos, decisions, found, absent, cosines)


def _suppressed(workspace: Workspace, images: pa.Table) -> dict[int, Verdict]:
    """Return the verdicts of the rows that suppress.txt names, by their place."""
    listed, columns = read_suppression(workspace.root), ["sha256", "identity", "url", "page_url"]
    found: dict[int, Verdict] = {}
    for begin in range(0, images.num_rows, _ROWS):
        some = exclusions.suppressed(images.slice(begin, _ROWS).select(columns).to_pylist(), listed)
        found |= {begin + place: verdict for place, verdict in some.items()}
    return found


def _networks(config: CurateConfig, *, tell: bool) -> tuple[dict[str, Network], dict[str, str]]:
    """Return the networks by stage, and why the other stages are not run, which is also told."""
    asked = {"pose": config.pose_model, "face": config.face_model}
    chosen: dict[networks.Part, Network | Absence] = {part: networks.choose(part, asked[part]) for part in PARTS}
    chosen["caption"] = captions.choose(config.caption, isinstance(chosen["pose"], Network))
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
    for stage, why in absent.items() if tell else ():
        progress.say(f"the stage {stage} is not run: {why}", stage=stage)
    return found, absent


def _stages(found: Mapping[str, Network], config: CurateConfig, device: str) -> list[Stage]:
    stages: list[Stage] = [DecodeStage(), PerceptualHashStage()]
    finders: list[Stage] = []
    if "pose" in found:
        finders.append(PoseStage(found["pose"], devices.of_torch(device)))
    if "face" in found:
        finders.append(FaceStage(found["face"], devices.of_onnx(device), config.exclusions.min_age))
    return stages + finders + ([QualityStage(finders)] if finders else [])


def _owner(found: Mapping[str, Network], device: str) -> str | None:
    """Return the GPU that finding people and faces has to itself; None where there is none or nothing to find."""
    name = devices.of_torch(device) if any(part in found for part in PARTS) else "cpu"
    return name if name.startswith("cuda") else None


def _items(workspace: Workspace, images: Iterable[Row]) -> list[Item]:
    formats = {image["sha256"]: image["format"] for image in images}
    return [Item(sha256, str(workspace.photo(sha256, format_))) for sha256, format_ in formats.items()]


def _describe(workspace: Workspace, judged: Judged, config: CurateConfig, workers: int | None, engine: str) -> Captions:
    """Describe what is kept; also say what is not known of the faces' ages."""
    if "face" in judged.found and not _knows_ages(judged.scores):
        name = judged.found["face"].name
        progress.say(f"{name} has no network for age: nobody is excluded for age", stage="exclusions")
    chosen = judged.found.get("caption")
    kept = [row for row, outcome in zip(judged.rows, judged.decisions.outcomes, strict=True) if outcome.keep]
    if chosen is None or not kept:
        return Captions()
    return captions.describe(
        chosen,
        judged.found.get("pose"),
        _items(workspace, kept),
        judged.photos,
        config,
        workspace.curation,
        devices.of_torch(config.device),
        workers,
        engine,
    )


def _knows_ages(scores: Scores) -> bool:
    """Say whether an age was estimated of any photo that decodes; True where none does."""
    decoded = False
    for batch in scores.batches(("defect", "minor")):
        whole = batch.filter(batch["defect"].is_null())
        decoded |= whole.num_rows > 0
        if whole["minor"].null_count < whole.num_rows:
            return True
    return not decoded


def _check(judged: Judged) -> None:
    outcomes = judged.decisions.outcomes
    kept, failed = sum(o.keep for o in outcomes), sum(o.error is not None for o in outcomes)
    rejected = sum(o.verdict is not None for o in outcomes)
    if len(judged.rows) != kept + rejected + failed:
        raise AccountingError(
            f"{len(judged.rows)} photos came in, but {kept} were kept, {rejected} rejected and {failed} failed; this "
            "is a bug in bolid, nothing was written"
        )


def _summary(judged: Judged, said: Captions, seconds: float) -> CurationSummary:
    images, outcomes = judged.rows, judged.decisions.outcomes
    rejected = Counter(f"{o.verdict.stage}:{o.verdict.reason}" for o in outcomes if o.verdict)
    identities = {image["identity"] for image, outcome in zip(images, outcomes, strict=True) if outcome.keep}
    return CurationSummary(
        offered=len(images),
        kept=sum(outcome.keep for outcome in outcomes),
        rejected=dict(rejected.most_common()),
        failed=sum(outcome.error is not None for outcome in outcomes),
        computed=judged.scores.computed,
        identities=len(identities),
        seconds=seconds,
        networks={part: network.name for part, network in judged.found.items()},
        not_run=judged.absent,
        remarks=[*judged.decisions.remarks(), *said.remarks()],
        described=said.computed,
    )

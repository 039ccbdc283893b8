"""`bolid curate`: score all photos, decide, write one row a photo and the report.

Stages of today: decode, duplicates, coverage. Pose, face, identity and captions need networks and are absent, not
faked: their columns do not exist until the stages do.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from .. import atomic
from ..config import Config, write_config
from ..errors import AccountingError, DataError
from ..workspace import Workspace
from . import engine, report
from .outcome import CurationSummary, Outcome
from .stage import Stage, Verdict
from .stages import coverage, decode, duplicates

Row = dict[str, Any]
"""A row of a table: column -> value."""

IMAGE_COLUMNS = ("sha256", "identity", "identity_name", "url", "page_url", "width", "height", "bytes", "format")
VERDICT_SCHEMA = pa.schema(
    [
        ("keep", pa.bool_()),
        ("reject_stage", pa.string()),
        ("reject_reason", pa.string()),
        ("reject_value", pa.float64()),
        ("reject_threshold", pa.float64()),
        ("nearest_kept", pa.string()),
        ("error", pa.string()),
        ("shared_with", pa.list_(pa.string())),
    ]
)


class CurateConfig(Config):
    """What `bolid curate` decides by; thresholds may change without computing anything again."""

    min_res: int = Field(1000, ge=1)
    """Smallest short side, px."""
    max_aspect: float = Field(3.0, ge=1)
    """Largest long side / short side."""
    near_duplicate: int = Field(4, ge=0, le=64)
    """Most bits in which the 64-bit perceptual hashes of near duplicates differ."""
    min_photos: int = Field(20, ge=1)
    """Fewest kept photos of an identity."""


def curate(workspace: Workspace, config: CurateConfig, workers: int | None = None) -> CurationSummary:
    """Judge every photo of `images.parquet` and write `curated.parquet` and `report.html`.

    Raises:
        WorkspaceError: nothing was crawled, or another curation is running here.
        DataError: `images.parquet` is empty or lacks columns.
        AccountingError: photos were lost between input and output (a bug).
    """
    begun = time.monotonic()
    source = workspace.required(workspace.images_table, f"bolid crawl -w {workspace.root}")
    with atomic.locked(workspace.root / "curation.lock", f"the curation of {workspace.root}"):
        table = read_images(source)
        images = table.to_pylist()
        stages: list[Stage] = [decode.DecodeStage(), duplicates.PerceptualHashStage()]
        scores = engine.run_stages(stages, _items(workspace, images), workspace.curation, workers)
        by_sha256 = {row["sha256"]: row for row in scores.table.to_pylist()}
        outcomes = decide(images, by_sha256, scores.failed, config)
        summary = _summary(images, outcomes, scores, time.monotonic() - begun)
        _write(workspace.curated_table, table, scores.table, outcomes)
        write_config(workspace.curation / "config.toml", config)
        report.write(workspace, summary, config)
    return summary


def read_images(path: Path) -> pa.Table:
    """Read `images.parquet`, one row a photo.

    Raises:
        DataError: it is empty or a column is missing.
    """
    table = pq.read_table(path)
    lacking = [name for name in IMAGE_COLUMNS if name not in table.column_names]
    if lacking:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}; make it again: bolid crawl")
    if table.num_rows == 0:
        raise DataError(f"{path} holds no photo; see what the crawl rejected, then crawl again: bolid crawl")
    return table


def decide(
    images: Sequence[Row], scores: Mapping[str, Row], failed: Mapping[str, str], config: CurateConfig
) -> list[Outcome]:
    """Take all decisions from scores alone; one outcome for each row of `images`, in order.

    Args:
        images: rows with `sha256` and `identity`.
        scores: sha256 -> columns of all stages.
        failed: sha256 -> error, for photos without scores.
        config: the thresholds.
    """
    verdicts: dict[int, Verdict] = {}
    alive: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        score = scores.get(image["sha256"])
        if score is None:
            continue
        verdict = decode.decide(
            score["defect"], score["decoded_width"], score["decoded_height"], config.min_res, config.max_aspect
        )
        if verdict:
            verdicts[index] = verdict
        else:
            alive[image["identity"]].append(index)
    for group in alive.values():
        candidates = [_candidate(index, scores[images[index]["sha256"]]) for index in group]
        verdicts |= duplicates.decide(candidates, config.near_duplicate)
        left = [index for index in group if index not in verdicts]
        thin = coverage.decide(len(left), config.min_photos)
        if thin:
            verdicts |= dict.fromkeys(left, thin)
    shared = _shared(images)
    return [
        Outcome(verdicts.get(index), failed.get(image["sha256"]), shared.get((image["sha256"], image["identity"]), []))
        for index, image in enumerate(images)
    ]


def _candidate(order: int, score: Row) -> duplicates.Candidate:
    pixels = score["decoded_width"] * score["decoded_height"]
    return duplicates.Candidate(score["sha256"], score["phash"], pixels, score["sharpness"], order)


def _shared(images: Sequence[Row]) -> dict[tuple[str, str], list[str]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for image in images:
        owners[image["sha256"]].add(image["identity"])
    return {
        (sha256, identity): sorted(group - {identity})
        for sha256, group in owners.items()
        if len(group) > 1
        for identity in group
    }


def _items(workspace: Workspace, images: Sequence[Row]) -> list[engine.Item]:
    paths = {image["sha256"]: str(workspace.photo(image["sha256"], image["format"])) for image in images}
    return [engine.Item(sha256, path) for sha256, path in paths.items()]


def _summary(
    images: Sequence[Row], outcomes: Sequence[Outcome], scores: engine.Scores, seconds: float
) -> CurationSummary:
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
        len(images), kept, dict(rejected.most_common()), failed, scores.computed, len(identities), seconds
    )


def _write(path: Path, images: pa.Table, scores: pa.Table, outcomes: Sequence[Outcome]) -> None:
    table = images
    row_of = {sha256: row for row, sha256 in enumerate(scores["sha256"].to_pylist())}
    taken = scores.take(pa.array([row_of.get(sha256) for sha256 in images["sha256"].to_pylist()], pa.int64()))
    for name in scores.column_names[1:]:
        table = table.append_column(name, taken[name])
    verdicts = pa.Table.from_pylist([_verdict_row(outcome) for outcome in outcomes], schema=VERDICT_SCHEMA)
    for name in VERDICT_SCHEMA.names:
        table = table.append_column(VERDICT_SCHEMA.field(name), verdicts[name])
    with atomic.replacing(path) as temporary:
        pq.write_table(table, temporary)


def _verdict_row(outcome: Outcome) -> dict[str, object]:
    verdict = outcome.verdict
    return {
        "keep": outcome.keep,
        "reject_stage": verdict.stage if verdict else None,
        "reject_reason": verdict.reason if verdict else None,
        "reject_value": verdict.value if verdict else None,
        "reject_threshold": verdict.threshold if verdict else None,
        "nearest_kept": verdict.nearest_kept if verdict else None,
        "error": outcome.error,
        "shared_with": list(outcome.shared_with),
    }

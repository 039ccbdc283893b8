"""`bolid curate --explain PHOTO`: what became of one photo and why, from the last run's tables."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..config import load_config
from ..errors import DataError, UsageError
from ..workspace import Workspace
from . import rejects
from .config import CurateConfig
from .decisions import ORDER
from .table import BULKY

SHOWN = 5
"""Photos named where a beginning of a sha256 fits several."""
NOT_RUN = "not run"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Story:
    """What became of a photo in one identity: lines of (what, words), and the row of `curated.parquet`."""

    sha256: str
    identity: str
    verdict: str
    lines: Sequence[tuple[str, str]]


def explain(workspace: Workspace, photo: str) -> list[Story]:
    """Tell the story of a photo, one for each row that has its bytes.

    Args:
        workspace: that was curated.
        photo: a sha256 or its beginning, a file (its bytes count, wherever it lies), or an address.

    Raises:
        WorkspaceError: nothing was curated here.
        UsageError: the photo is not known, or the beginning of a sha256 fits several.
        DataError: `curated.parquet` is damaged.
    """
    source = workspace.required(workspace.curated_table, f"bolid curate -w {workspace.root}")
    config = load_config(CurateConfig, workspace.curation / "config.toml")
    try:
        columns = [name for name in pq.read_schema(source).names if name not in BULKY]
        sha256 = _find(workspace, pq.read_table(source, columns=["sha256", "url"]), photo)
        rows = pq.read_table(source, columns=columns, filters=pc.field("sha256") == sha256).to_pylist()
        return [_story(workspace, row, config, _neighbours(source, row)) for row in rows]
    except pa.ArrowInvalid as error:
        raise DataError(f"{source} is damaged: {error}; make it again: bolid curate -w {workspace.root}") from error


def _find(workspace: Workspace, known: pa.Table, photo: str) -> str:
    """Return the sha256 of the one photo that was meant."""
    file = Path(photo)
    if "://" not in photo and file.is_file():
        with file.open("rb") as opened:
            found = _matching(known, "sha256", hashlib.file_digest(opened, "sha256").hexdigest())
        if not found:
            raise UsageError(_unknown(workspace, f"the file {photo}, by its bytes,"))
    elif "://" in photo:
        found = _matching(known, "url", photo)
    elif re.fullmatch("[0-9a-fA-F]{1,64}", photo):
        begins = pc.starts_with(known["sha256"], photo.lower())
        found = sorted(set(known.filter(begins)["sha256"].to_pylist()))
    else:
        raise UsageError(f"--explain {photo}: that is no file here, no address, and not the beginning of a sha256")
    if not found:
        raise UsageError(_unknown(workspace, photo))
    if len(found) > 1:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UsageError(f"--explain {photo} fits {len(found)} photos: {', '.join(found[:SHOWN])}{more}; give one")
    return found[0]


def _matching(known: pa.Table, column: str, value: str) -> list[str]:
    return sorted(set(known.filter(pc.equal(known[column], value))["sha256"].to_pylist()))


def _unknown(workspace: Workspace, what: str) -> str:
    return (
        f"{what} is not in {workspace.curated_table}; a photo that is new needs: bolid curate -w {workspace.root}, and "
        f"one that was never stored is in: bolid status -w {workspace.root}"
    )


def _neighbours(source: Path, row: Row) -> tuple[str, int] | None:
    """Return the kept photo of the same identity that looks most alike, itself left out, and the bits that differ."""
    wanted = (pc.field("identity") == row["identity"]) & pc.field("keep") & (pc.field("sha256") != row["sha256"])
    kept = pq.read_table(source, columns=["sha256", "phash"], filters=wanted & pc.field("phash").is_valid())
    if row["phash"] is None or not kept.num_rows:
        return None
    place, bits = rejects.closest(row["phash"], kept["phash"].to_numpy().astype(np.uint64))
    return kept["sha256"][place].as_py(), bits


def _story(workspace: Workspace, row: Row, config: CurateConfig, near: tuple[str, int] | None) -> Story:
    verdict = "kept" if row["keep"] else "failed" if row["error"] is not None else "rejected"
    lines = [
        ("photo", f"{row['sha256']}  {workspace.photo(row['sha256'], row['format'])}"),
        ("gallery", _identity(row)),
        ("source", " · ".join(str(row[name]) for name in ("url", "page_url") if row[name])),
        ("size", _size(row)),
        *(_stages(row, config) if row["error"] is None else []),
        ("caption", _caption(row)),
        ("verdict", _verdict(row, verdict)),
        ("nearest", _nearest(row, near)),
    ]
    return Story(row["sha256"], row["identity"], verdict, [line for line in lines if line[1]])


def _identity(row: Row) -> str:
    named = "" if row["identity_name"] in (None, row["identity"]) else f" ({row['identity_name']})"
    shared = f"; the same bytes are in {', '.join(row['shared_with'])}" if row["shared_with"] else ""
    return f"{row['identity']}{named}{shared}"


def _size(row: Row) -> str:
    upright = (row["decoded_width"], row["decoded_height"])
    turned = f", upright {upright[0]} × {upright[1]}" if None not in upright else ""
    return f"{row['width']} × {row['height']} px{turned}, {row['bytes'] / 1000:.0f} kB, {row['format']}"


def _stages(row: Row, config: CurateConfig) -> list[tuple[str, str]]:
    """Return a line for each stage that saw the photo, in the order of the decisions, and one for the others."""
    lines, unseen = [], []
    ended = False
    for stage in ORDER:
        if ended:
            unseen.append(stage)
            continue
        ended = row["reject_stage"] == stage
        measured = _MEASURED.get(stage, _nothing)(row, config)
        said = "rejected" if ended else "passed"
        lines.append((stage, measured if measured == NOT_RUN else "; ".join(part for part in (said, measured) if part)))
    return [*lines, ("not asked", ", ".join(unseen))]


def _nothing(row: Row, config: CurateConfig) -> str:
    return ""


def _exclusions(row: Row, config: CurateConfig) -> str:
    if row["reject_reason"] == "age_under_limit":
        return f"somebody may be younger than {config.exclusions.min_age}"
    return "named in suppress.txt" if row["reject_stage"] == rejects.EXCLUDED else ""


def _decode(row: Row, config: CurateConfig) -> str:
    if row["defect"] is not None:
        return str(row["defect"])
    short, long = sorted((row["decoded_width"], row["decoded_height"]))
    return (
        f"short side {short} px (at least {config.min_res}), aspect {long / short:.2f} "
        f"(at most {config.max_aspect:g}), sharpness {_number(row['sharpness'])}"
    )


def _duplicates(row: Row, config: CurateConfig) -> str:
    if row["reject_stage"] == "duplicates":
        return f"{row['reject_reason']} of {row['nearest_kept']}: {row['reject_value']:g} bits differ " + (
            "(the same bytes)" if row["reject_reason"] == "exact_duplicate" else f"(up to {config.near_duplicate})"
        )
    return f"no better photo of the identity within {config.near_duplicate} bits"


def _pose(row: Row, config: CurateConfig) -> str:
    if row["people"] is None:
        return NOT_RUN
    limits = config.pose
    if row["person_box"] is None:
        return f"nobody found (a person has a score of {limits.min_score:g} or more)"
    left, top, right, bottom = (round(side) for side in row["person_box"])
    return (
        f"main person at {left}, {top} to {right}, {bottom}, score {row['person_score']:.2f} (at least "
        f"{limits.min_score:g}), {row['framing']}, {row['view'] or 'view unknown'}, keypoints "
        f"{row['pose_confidence']:.2f}; others: {row['people'] - 1}, the largest with {row['second_person']:.2f} "
        f"of her area (below {limits.second_person:g})"
    )


def _quality(row: Row, config: CurateConfig) -> str:
    limits = config.quality
    whole = row["person_sharpness"] is None
    sharp = row["sharpness"] if whole else row["person_sharpness"]
    exposed = "" if row["person_exposure"] is None else f", exposure {_number(row['person_exposure'])}"
    least = "reported only" if limits.min_sharpness is None else f"at least {limits.min_sharpness:g}"
    return f"sharpness {_number(sharp)} of the {'photo' if whole else 'person'} ({least}){exposed}"


def _identity_stage(row: Row, config: CurateConfig) -> str:
    if row["faces"] is None:
        return NOT_RUN
    face = f"{row['faces']} faces, none is the main person's"
    if row["face_box"] is not None:
        left, top, right, bottom = row["face_box"]
        face = (
            f"face {row['face_score']:.2f}, {min(right - left, bottom - top):.0f} px "
            f"(usable from {config.face.min_score:g}, {config.face.min_side:g} px)"
        )
    cosine = "" if row["identity_score"] is None else f"; cosine to the gallery's centre {row['identity_score']:.3f}"
    doubt = ", in doubt" if row["identity_review"] else ""
    evidence = f"; evidence: {row['identity_evidence']}{doubt}" if row["identity_evidence"] else ""
    return face + cosine + evidence


def _coverage(row: Row, config: CurateConfig) -> str:
    return f"an identity needs {config.min_photos} photos"


_MEASURED: Mapping[str, Callable[[Row, CurateConfig], str]] = {
    "exclusions": _exclusions,
    "decode": _decode,
    "duplicates": _duplicates,
    "pose": _pose,
    "quality": _quality,
    "identity": _identity_stage,
    "coverage": _coverage,
}
"""What a stage measured, and against what; a stage that is not here is said to have passed or rejected."""


def _caption(row: Row) -> str:
    flag = f" (flagged: {row['caption_flag']})" if row.get("caption_flag") else ""
    return f"{row['caption']} [{row['caption_model']}]{flag}" if row.get("caption") else ""


def _verdict(row: Row, verdict: str) -> str:
    if verdict == "failed":
        return f"failed: {row['error']}; the next run tries again"
    if verdict == "kept":
        return "kept, to be reviewed" if row["identity_review"] else "kept"
    words = f"rejected by {row['reject_stage']}: {row['reject_reason']}"
    value, threshold = row["reject_value"], row["reject_threshold"]
    if value is None or threshold is None:
        return words
    return f"{words}, {value:g} against {threshold:g}, margin {rejects.margin(value, threshold):g}"


def _nearest(row: Row, near: tuple[str, int] | None) -> str:
    return "" if near is None else f"kept photo most alike: {near[0]}, {near[1]} of 64 bits differ"


def _number(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"{value:.3g}"

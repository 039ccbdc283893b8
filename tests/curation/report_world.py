"""A curated workspace written straight from a table whose truth is known: tiny photos, no network, no curation."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.curation.config import CurateConfig
from bolid.curation.outcome import CurationSummary
from bolid.curation.stages.identity import Cosines
from bolid.curation.table import MEASURED_SCHEMA, VERDICT_SCHEMA
from bolid.workspace import Workspace
from PIL import Image

CONFIG = CurateConfig(min_res=40, min_photos=2)
COSINES = Cosines(same=0.3, keep=0.4, reject=0.28)
IMAGES_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("sha256", "identity", "identity_name", "url", "page_url", "format")]
    + [("width", pa.int32()), ("height", pa.int32()), ("bytes", pa.int64())]
)
CAPTION_SCHEMA = pa.schema([("caption", pa.string()), ("caption_flag", pa.string())])
REASONS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("decode", "too_small"): (31, 40),
    ("decode", "corrupt"): (None, None),
    ("pose", "no_person"): (0.125, 0.3),
    ("quality", "blurred"): (3.5, 10),
    ("duplicates", "near_duplicate"): (3, 4),
    ("identity", "wrong_person"): (0.1, 0.28),
}
"""Reasons that the rows are given in turn, with value and threshold."""
VIEWS = (
    ("front", 10.0),
    ("three-quarter", 45.0),
    ("three-quarter", -45.0),
    ("side", 90.0),
    ("side", -90.0),
    ("back", 180.0),
)
FRAMINGS = ("portrait", "half", "three-quarter", "full")


@dataclass
class World:
    """A workspace with `curated.parquet`, and its rows."""

    workspace: Workspace
    rows: pd.DataFrame

    @property
    def summary(self) -> CurationSummary:
        rows = self.rows
        rejected = rows[rows.reject_stage.notna()]
        names = (rejected.reject_stage + ":" + rejected.reject_reason).value_counts().to_dict()
        kept = int(rows.keep.sum())
        people = rows[rows.keep].identity.nunique()
        return CurationSummary(len(rows), kept, names, int(rows.error.notna().sum()), 0, people, 1.0)

    def save(self) -> None:
        """Write the rows as `curated.parquet`."""
        schema = pa.unify_schemas([IMAGES_SCHEMA, MEASURED_SCHEMA, VERDICT_SCHEMA, CAPTION_SCHEMA])
        lines = self.rows.to_dict("records")
        clean = [{name: None if _missing(value) else value for name, value in line.items()} for line in lines]
        self.workspace.root.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(clean, schema=schema), self.workspace.curated_table, row_group_size=64)


def make(root: Path, identities: int = 5, photos: int = 12, seed: int = 0) -> World:
    """Write a world: two thirds of the photos are kept, the others fail or go for every reason in turn."""
    random = np.random.default_rng(seed)
    workspace = Workspace(root)
    rows = []
    turns = 0
    for identity in range(identities):
        slug = f"person-{identity:03}"
        centre = random.normal(size=512)
        kept: list[str] = []
        for number in range(photos):
            sha256 = photo(workspace, random)
            row = {"sha256": sha256, "identity": slug, "identity_name": f"Person {identity:03}", "format": "JPEG"}
            row |= _measured(random, centre, number)
            if number % 3 == 2:
                turns += 1
                row |= _rejected(turns, kept)
            else:
                kept.append(sha256)
                row |= {"keep": True, "identity_review": turns % 5 == 4, "identity_evidence": "face"}
            rows.append(row)
    names = [*IMAGES_SCHEMA.names, *MEASURED_SCHEMA.names, *VERDICT_SCHEMA.names, *CAPTION_SCHEMA.names]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys(names)), dtype=object)
    # As a crawl may deliver them: the photos of an identity do not all follow each other.
    world = World(workspace, table.iloc[random.permutation(len(table))].reset_index(drop=True))
    world.rows["keep"] = world.rows["keep"].fillna(False).astype(bool)
    world.save()
    return world


def photo(workspace: Workspace, random: np.random.Generator) -> str:
    """Store a tiny JPEG and return its sha256."""
    coarse = random.integers(0, 255, (4, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((48, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = workspace.photo(sha256, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return sha256


def _measured(random: np.random.Generator, centre: np.ndarray, number: int) -> dict[str, Any]:
    view, yaw = VIEWS[int(random.integers(len(VIEWS)))]
    embedding = centre / np.linalg.norm(centre) + 0.8 * random.normal(size=512) / np.sqrt(512)
    usable = view != "back"
    return {
        "decoded_width": 48,
        "decoded_height": 64,
        "sharpness": float(random.uniform(5, 500)),
        "pose_confidence": float(random.uniform(0.2, 1)),
        "second_person": 0.0,
        "view": view,
        "yaw": yaw,
        "framing": FRAMINGS[int(random.integers(4))],
        "identity_score": float(random.uniform(0.3, 1)) if usable else None,
        "face_embedding": (embedding / np.linalg.norm(embedding)).astype(np.float32).tolist() if usable else None,
        "caption": f"a person, photo {number}",
        "caption_flag": "no_person_noun" if number == 1 else None,
        "shared_with": [],
    }


def _rejected(turn: int, kept: list[str]) -> dict[str, Any]:
    if turn % 7 == 0:
        return {"keep": False, "error": "the worker process died", "decoded_width": None, "decoded_height": None}
    (stage, reason), (value, threshold) = list(REASONS.items())[turn % len(REASONS)]
    row: dict[str, Any] = {"keep": False, "reject_stage": stage, "reject_reason": reason}
    row |= {"reject_value": value, "reject_threshold": threshold}
    if reason == "near_duplicate":
        row["nearest_kept"] = kept[-1]
    if reason == "corrupt":
        row |= {"defect": "corrupt", "decoded_width": None, "decoded_height": None}
    return row


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))

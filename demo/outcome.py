"""The table at the end of `bolid demo`: read from the files that the commands left, held against the truth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from .. import progress
from ..crawler.photo_states import read_photos
from ..training.loop import summarise
from ..training.run_folder import RunFolder
from ..workspace import Workspace
from .against_truth import Fate, Line, compare, wrongly_rejected
from .gallery import Kind, Offer

Row = tuple[object, object, object, object, object]

COLUMNS = ("what", "result", "in truth", "precision", "recall")


def show(offers: Sequence[Offer], workspace: Workspace, seconds: float, kept: bool) -> None:
    """Print the table and, when the files stay, where they are."""
    fates = read_fates(workspace)
    stored = sum(photo.state == "done" for photo in read_photos(workspace))
    rows = [*_photos(offers, fates, stored), *_dataset(workspace), *_losses(workspace), *_figures(workspace)]
    rows.append(("minutes in all", f"{seconds / 60:.1f}", None, None, None))
    progress.table("The demo, against the truth", COLUMNS, rows, event="demo")
    if kept:
        progress.result("written", "\n".join(_places(workspace)), paths=_places(workspace))
    else:
        progress.say("the files are removed now; keep them with: bolid demo --keep DIR")


def read_fates(workspace: Workspace) -> dict[str, Fate]:
    """Return what became of each photo by the path of its address: the crawl's word, overruled by the curation's."""
    fates = {
        urlsplit(photo.url).path: Fate("kept" if photo.state == "done" else photo.state, photo.reason)
        for photo in read_photos(workspace)
    }
    for row in pq.read_table(workspace.curated_table).to_pylist():
        path = urlsplit(row["url"]).path
        if row["keep"]:
            fates[path] = Fate("kept")
        elif row["error"]:
            fates[path] = Fate("failed", row["error"])
        else:
            fates[path] = Fate("rejected", row["reject_reason"], row["nearest_kept"])
    return fates


def _photos(offers: Sequence[Offer], fates: Mapping[str, Fate], stored: int) -> list[Row]:
    states = [fates.get(offer.image_path, Fate("unseen")).state for offer in offers]
    clean = sum(offer.kind == Kind.CLEAN for offer in offers)
    rows: list[Row] = [
        ("photos offered", sum(state != "unseen" for state in states), len(offers), None, None),
        ("stored by the crawl", stored, None, None, None),
        ("kept", states.count("kept"), None, None, None),
        ("rejected", states.count("rejected"), None, None, None),
        ("failed", states.count("failed"), None, None, None),
    ]
    rows += [_line(line) for line in compare(offers, fates)]
    rows.append(("good photos lost", len(wrongly_rejected(offers, fates)), f"of {clean}", None, None))
    return rows


def _line(line: Line) -> Row:
    # A truncated photo is no verdict: it failed, and the next crawl asks for it again.
    name = f"{'failed' if line.kind == Kind.TRUNCATED else 'rejected'}: {line.kind.replace('_', ' ')}"
    if line.rejected is None:
        return name, "no stage yet", line.in_truth, None, None
    return name, line.rejected, line.in_truth, _share(line.precision), _share(line.recall)


def _dataset(workspace: Workspace) -> list[Row]:
    index = pq.read_table(workspace.shards / "index.parquet", columns=["split", "identity", "shard"]).to_pandas()
    rows: list[Row] = [("shards", index["shard"].nunique(), None, None, None)]
    for split, group in index.groupby("split"):
        rows.append(
            (f"{split}: identities / samples", f"{group['identity'].nunique()} / {len(group)}", None, None, None)
        )
    return rows


def _losses(workspace: Workspace) -> list[Row]:
    rows: list[Row] = []
    for name in ("vae", "adapter"):
        summary = summarise(RunFolder(workspace.run(name)))
        change = f"{summary.first['loss']:.4g} → {summary.last['loss']:.4g}"
        rows.append((f"loss of {name}, first → last 10 of {summary.steps} steps", change, None, None, None))
    return rows


def _figures(workspace: Workspace) -> list[Row]:
    figures = json.loads((workspace.evaluation / "figures.json").read_text("utf-8"))["figures"]
    return [
        (figure["name"], f"{figure['value']:.4g} {figure['unit']}".strip(), f"n = {figure['n']}", None, None)
        for figure in figures
        if figure["value"] is not None
    ]


def _places(workspace: Workspace) -> list[str]:
    grids = sorted(workspace.runs.glob("*/samples/*.png"))
    newest: dict[Path, Path] = {grid.parent: grid for grid in grids}
    places = [workspace.report, workspace.evaluation / "report.html", *newest.values(), workspace.shards]
    return [str(place) for place in places]


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"

"""The table at the end of `bolid demo`: read from the files that the commands left, held against the truth."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from .. import progress
from ..crawler.outcome import SUPPRESSED
from ..crawler.photo_states import read_photos
from ..training.loop import summarise
from ..training.run_folder import RunFolder
from ..workspace import Workspace
from .against_truth import REASONS, Fate, Line, compare, wrongly_rejected
from .gallery import Kind, Offer

Row = tuple[object, object, object, object, object]

COLUMNS = ("what", "result", "in truth", "precision", "recall")
FROM_BEHIND = ("seen from behind", "facing away from the camera")
"""How a true caption says that a view is from the back."""


def show(offers: Sequence[Offer], unwanted: Offer, workspace: Workspace, seconds: float, kept: bool) -> None:
    """Print the table and, when the files stay, where they are; `unwanted` is the photo that suppress.txt names."""
    fates = read_fates(workspace, unwanted)
    stored = sum(photo.state == "done" for photo in read_photos(workspace))
    rows = _totals(offers, fates, stored)
    rows.append(_opt_out(unwanted, fates))
    rows += _reasons([offer for offer in offers if offer != unwanted], fates, workspace)
    rows += [*_dataset(workspace), *_losses(workspace), *_figures(workspace)]
    rows.append(("minutes in all", f"{seconds / 60:.1f}", None, None, None))
    progress.table("The demo, against the truth", COLUMNS, rows, event="demo")
    if kept:
        progress.result("written", "\n".join(_places(workspace)), paths=_places(workspace))
    else:
        progress.say("the files are removed now; keep them with: bolid demo --keep DIR")


def read_fates(workspace: Workspace, unwanted: Offer) -> dict[str, Fate]:
    """Return what became of each photo by the path of its address: the crawl's word, overruled by the curation's."""
    fates = {
        urlsplit(photo.url).path: Fate("kept" if photo.state == "done" else photo.state, photo.reason)
        for photo in read_photos(workspace)
    }
    # What suppress.txt names is not asked for, so its picture's address is never known, only that of a page.
    for page in (unwanted.page_path, f"/photos/{unwanted.slug}/"):
        if page in fates:
            fates[unwanted.image_path] = fates.pop(page)
    columns = ["url", "keep", "error", "reject_reason", "nearest_kept"]
    for row in pq.read_table(workspace.curated_table, columns=columns).to_pylist():
        path = urlsplit(row["url"]).path
        if row["keep"]:
            fates[path] = Fate("kept")
        elif row["error"]:
            fates[path] = Fate("failed", row["error"])
        else:
            fates[path] = Fate("rejected", row["reject_reason"], row["nearest_kept"])
    return fates


def _totals(offers: Sequence[Offer], fates: Mapping[str, Fate], stored: int) -> list[Row]:
    states = [fates.get(offer.image_path, Fate("unseen")).state for offer in offers]
    return [
        ("photos offered", sum(state != "unseen" for state in states), len(offers), None, None),
        ("stored by the crawl", stored, None, None, None),
        ("kept", states.count("kept"), None, None, None),
        ("rejected", states.count("rejected"), None, None, None),
        ("failed", states.count("failed"), None, None, None),
    ]


def _opt_out(unwanted: Offer, fates: Mapping[str, Fate]) -> Row:
    suppressed = {path for path, fate in fates.items() if fate.reason == SUPPRESSED}
    right = int(unwanted.image_path in suppressed)
    return "rejected: named in suppress.txt", len(suppressed), 1, _share(right / max(len(suppressed), 1)), _share(right)


def _reasons(offers: Sequence[Offer], fates: Mapping[str, Fate], workspace: Workspace) -> list[Row]:
    judged = pq.read_table(workspace.curated_table, columns=["url", "people", "identity_evidence"]).to_pylist()
    by_face = {urlsplit(row["url"]).path for row in judged if row["identity_evidence"] == "face"}
    strangers = [fates[o.image_path] for o in offers if o.kind == Kind.WRONG_PERSON and o.image_path in by_face]
    rows = []
    for line in compare(offers, fates, _not_run(judged)):
        rows.append(_line(line))
        if line.kind == Kind.WRONG_PERSON and strangers:
            found = sum(fate.reason in REASONS[Kind.WRONG_PERSON] for fate in strangers)
            share = _share(found / len(strangers))
            rows.append(("    of those whose face was measured", found, len(strangers), None, share))
    lost = wrongly_rejected(offers, fates)
    rows += [_kept_of("good photos lost", lost, [offer for offer in offers if offer.kind == Kind.CLEAN])]
    return [*rows, _kept_of("good views from behind lost", lost, [o for o in offers if is_back_view(o)])]


def _not_run(judged: Sequence[Mapping[str, object]]) -> set[Kind]:
    kinds = set() if any(row["people"] is not None for row in judged) else {Kind.TWO_PEOPLE, Kind.EMPTY_ROOM}
    return kinds if any(row["identity_evidence"] for row in judged) else kinds | {Kind.WRONG_PERSON}


def is_back_view(offer: Offer) -> bool:
    """Say whether a good photo shows the person from behind."""
    return offer.kind == Kind.CLEAN and any(words in offer.caption for words in FROM_BEHIND)


def _kept_of(name: str, lost: Sequence[Offer], offers: Sequence[Offer]) -> Row:
    return name, sum(offer in offers for offer in lost), f"of {len(offers)}", None, None


def _line(line: Line) -> Row:
    # A truncated photo is no verdict: it failed, and the next crawl asks for it again.
    name = f"{'failed' if line.kind == Kind.TRUNCATED else 'rejected'}: {line.kind.replace('_', ' ')}"
    if line.rejected is None:
        return name, "not run", line.in_truth, None, None
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

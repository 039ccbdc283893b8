"""What a command prints when it is done: the same figures as a table for people and as JSON lines for machines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import progress
from .workspace import Workspace

if TYPE_CHECKING:
    from .crawler.account import CrawlSummary
    from .curation.run import CurationSummary
    from .evaluation.figure import Figure
    from .shards.writer import PackSummary
    from .training.loop import RunSummary

MEGABYTE = 1_000_000


def crawl(summary: "CrawlSummary", workspace: Workspace) -> None:
    """Print what became of every photo that the site offered."""
    rows: list[tuple[str, object]] = [("identities", summary.identities)]
    rows += [(f"identities rejected: {why}", n) for why, n in (summary.identities_rejected or {}).items()]
    rows += [("photos offered", summary.offered), ("stored", summary.stored)]
    rows += [("same bytes as a stored one", summary.duplicates)]
    rows += [(f"rejected: {why}", n) for why, n in summary.rejected.items()]
    rows += [(f"failed (tried again next time): {why}", n) for why, n in summary.failed.items()]
    if summary.pending:
        rows.append(("not reached yet (run the same command again)", summary.pending))
    rows += [(f"pages failed: {why}", n) for why, n in (summary.pages_failed or {}).items()]
    rows.append(("MB received", f"{summary.bytes_received / MEGABYTE:.1f}"))
    rows.append(("MB saved by reading sizes first", f"{summary.bytes_saved / MEGABYTE:.1f}"))
    progress.table("Crawl", ("", "count"), rows, event="crawl")
    _paths(workspace.images_table, seconds=summary.seconds)


def curation(summary: "CurationSummary", workspace: Workspace) -> None:
    """Print how many photos were kept, and why the others were not."""
    rows: list[tuple[str, object]] = [("offered", summary.offered), ("kept", summary.kept)]
    rows += [(f"rejected {reason}", count) for reason, count in summary.rejected.items()]
    rows += [("failed (tried again next time)", summary.failed), ("identities kept", summary.identities)]
    rows += [("scored now (the rest came from the ledger)", summary.computed)]
    progress.table("Curation", ("", "photos"), rows, event="curation")
    _paths(workspace.curated_table, workspace.report, seconds=summary.seconds)


def pack(summary: "PackSummary") -> None:
    """Print identities and samples of each split."""
    rows = [(split, summary.identities[split], summary.samples[split]) for split in summary.samples]
    progress.table("Dataset", ("split", "identities", "samples"), rows, event="split")
    if summary.stale:
        progress.warn(f"{summary.stale} packed samples have newer annotations in the curated table")
    progress.result(
        "packed",
        f"{summary.shards} shards, {summary.bytes / MEGABYTE:.1f} MB, {summary.added} samples added\n{summary.out}",
        out=str(summary.out),
        shards=summary.shards,
        bytes=summary.bytes,
        added=summary.added,
        seconds=round(summary.seconds, 2),
    )


def run(summary: "RunSummary") -> None:
    """Print the first and the last mean of each loss term, and what was measured on held-out people."""
    rows: list[tuple[str, object, object]] = [
        (term, _number(summary.first[term]), _number(summary.last[term]))
        for term in summary.last
        if term in summary.first
    ]
    rows += [(f"held-out {name}", "", _number(value)) for name, value in summary.validation.items()]
    progress.table(f"Run {summary.folder.name}, {summary.steps} steps", ("", "first 10", "last 10"), rows, event="term")
    if summary.skipped:
        progress.warn(f"{summary.skipped} updates were skipped because the loss was not finite")
    _paths(summary.export, summary.folder / "samples")


def pictures(paths: Sequence[Path]) -> None:
    """Print where the generated pictures are."""
    _paths(*paths)


def figures(measured: Sequence["Figure"], out: Path) -> None:
    """Print each figure with the network that measured it, absent ones with the reason."""
    rows = [
        (
            figure.name,
            "-" if figure.value is None else _number(figure.value),
            figure.unit,
            figure.n or "",
            figure.network,
        )
        for figure in measured
        if figure.value is not None
    ]
    progress.table("Figures", ("", "value", "unit", "n", "measured with"), rows, event="figure")
    absent = [figure for figure in measured if figure.value is None]
    if absent:
        progress.say("absent: " + "; ".join(f"{figure.name} ({figure.note})" for figure in absent))
    _paths(out / "figures.json", out / "report.html")


def _paths(*paths: Path, **fields: object) -> None:
    text = "\n".join(str(path) for path in paths)
    progress.result("written", text, paths=[str(path) for path in paths], **fields)


def _number(value: float) -> str:
    return f"{value:.4g}"

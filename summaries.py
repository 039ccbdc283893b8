"""What a command prints when it is done: the same figures as a table for people and as JSON lines for machines."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from . import progress
from .workspace import Workspace

if TYPE_CHECKING:
    from .crawler.account import CrawlSummary
    from .crawler.sites_check import SiteCheck, SiteInfo
    from .crawler.status import SourceStatus, Status
    from .curation.explain import Story
    from .curation.intake import IntakeSummary
    from .curation.outcome import CurationSummary
    from .curation.what_if import Preview
    from .evaluation.figure import Figure
    from .shards.writer import PackSummary
    from .training.loop import RunSummary

MEGABYTE = 1_000_000
HOSTS_SHOWN = 20
REFUSED_SHOWN = 20


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
    rows.append(("MB received", _megabytes(summary.bytes_received)))
    rows.append(("MB saved by reading sizes first", _megabytes(summary.bytes_saved)))
    progress.table("Crawl", ("what", "count"), rows, event="crawl")
    _paths(workspace.images_table, seconds=round(summary.seconds, 2))


def status(found: "Status") -> None:
    """Print how the crawls of a workspace stand; one JSON object for machines."""
    if progress.json_lines():
        progress.result("status", **asdict(found))
        return
    people: list[tuple[str, object]] = [(f"identities {state}", n) for state, n in found.identities.items()]
    people += [(f"identities rejected: {why}", n) for why, n in found.identities_rejected.items()]
    progress.table("Workspace", ("what", "count"), [*people, ("photo files", found.files)], event="status")
    for source in found.sources:
        progress.table(f"Photos of {source.source}", ("what", "count"), _source_rows(source), event="source")
    hosts = [
        (host.host, "-" if host.rate is None else f"{host.rate:.3g}", f"{host.rests_s:.0f}", host.robots_status)
        for host in found.hosts
    ]
    columns = ("host", "slowed to requests/s", "rests for s", "robots.txt")
    progress.table("Hosts", columns, hosts[:HOSTS_SHOWN], event="host")
    if len(hosts) > HOSTS_SHOWN:
        progress.say(f"and {len(hosts) - HOSTS_SHOWN} hosts more; --json names all")


def _source_rows(source: "SourceStatus") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("stored", source.files), ("MB stored", _megabytes(source.bytes))]
    rows += [("same bytes as a stored one", source.photos.get("done", 0) - source.files)]
    rows += [(f"rejected: {why}", n) for why, n in source.rejected.items()]
    rows += [(f"failed: {why}", n) for why, n in source.failed.items()]
    open_ = {state: source.photos.get(state, 0) for state in ("pending", "in_flight", "storing")}
    rows += [(state.replace("_", " "), n) for state, n in open_.items() if n]
    rows += [(f"pages {state.replace('_', ' ')}", n) for state, n in source.pages.items()]
    rows += [("MB received", _megabytes(source.bytes_received))]
    rows += [("MB saved by reading sizes first", _megabytes(source.bytes_saved))]
    rows += [("photos/s, last minute", f"{source.photos_per_s:.2f}")]
    rows += [("the same command again asks for", source.next_run), ("--retry-failed adds", source.retry_failed)]
    return rows


def sites(shipped: Sequence["SiteInfo"]) -> None:
    """Print the shipped site definitions."""
    rows = [(site.name, site.title, site.start) for site in shipped]
    progress.table("Site definitions", ("name", "title", "start"), rows, event="site", words=("title", "start"))


def site_check(check: "SiteCheck") -> None:
    """Print that a definition is valid, and what each selector found on the page that was looked at."""
    name = check.definition.name
    kinds = [page.kind for page in check.definition.pages]
    pages = " → ".join([*kinds, "picture"] if check.definition.picture else kinds)
    progress.result("valid", f"the definition '{name}' is valid: {pages}", name=name, kinds=kinds, page=check.url)
    if check.url is None:
        progress.say(f"add --url PAGE to see what its selectors find, for example on {check.definition.start}")
        return
    rows = [(each.kind, each.key, each.selector, each.found, each.example) for each in check.findings]
    columns = ("page", "what", "selector", "found", "first")
    progress.table(f"On {check.url}", columns, rows, event="selector", words=("what", "selector", "first"))


def intake(summary: "IntakeSummary", workspace: Workspace) -> None:
    """Print what became of everything in a folder, and what was not taken."""
    taken = [("offered", summary.offered), ("stored now", summary.stored), ("stored before", summary.known)]
    rows: list[tuple[str, object]] = [*taken, *((f"rejected: {why}", n) for why, n in summary.rejected.items())]
    rows += [(f"failed (tried again next time): {why}", n) for why, n in summary.failed.items()]
    progress.table(f"From {summary.source}", ("what", "photos"), rows, event="intake")
    shown = summary.refused if progress.json_lines() else summary.refused[:REFUSED_SHOWN]
    if shown:
        lines = [(each.address, each.reason, each.detail) for each in shown]
        columns = ("not taken", "reason", "detail")
        progress.table("Not taken", columns, lines, event="refused", words=("reason", "detail"))
    if len(summary.refused) > len(shown):
        progress.say(f"and {len(summary.refused) - len(shown)} more; --json names all")
    for slug, label in summary.names.items():
        progress.say(f"{slug} is the name of another identity here, so these photos are those of {label}")
    _paths(workspace.images_table, seconds=round(summary.seconds, 2))


def preview(found: "Preview") -> None:
    """Print how verdicts would move."""
    if progress.json_lines():
        moves = [{"before": before, "after": after, "photos": n} for (before, after), n in found.moves.items()]
        progress.result("what_if", **{**asdict(found), "moves": moves})
        return
    for key, (old, new) in found.changes.items():
        progress.result("change", f"{key}: {_given(old)} → {_given(new)}")
    counts = [("photos kept", *found.kept), ("identities kept", *found.identities)]
    progress.table("What if", ("what", "now", "then"), counts, event="what_if")
    moved = [(before, after, n) for (before, after), n in found.moves.items()]
    if moved:
        progress.table("Verdicts that move", ("now", "then", "photos"), moved, event="move", words=("then",))
    else:
        progress.say("no verdict would move")
    if found.examples:
        rows = [(e.sha256[:12], e.identity, e.before, e.after, e.value, e.threshold) for e in found.examples]
        columns = ("photo", "identity", "now", "then", "value", "threshold")
        progress.table("Examples", columns, rows, event="example", words=("identity", "now", "then"))
    if found.unscored:
        progress.warn(f"{found.unscored} photos are not scored yet and count as failed")
    progress.say(f"nothing was changed; to do it: {found.command}")


def stories(told: Sequence["Story"]) -> None:
    """Print what became of a photo, in each identity that has it."""
    for story in told:
        width = max(len(what) for what, _ in story.lines)
        text = "\n".join(f"{what:{width}}  {words}" for what, words in story.lines)
        fields = {"sha256": story.sha256, "identity": story.identity, "verdict": story.verdict}
        progress.result("story", text + ("\n" if len(told) > 1 else ""), **fields, lines=dict(story.lines))


def _given(value: object) -> str:
    return "none" if value is None else str(value)


def curation(summary: "CurationSummary", workspace: Workspace) -> None:
    """Print how many photos were kept, and why the others were not."""
    rows: list[tuple[str, object]] = [("offered", summary.offered), ("kept", summary.kept)]
    rows += [(f"rejected {reason}", count) for reason, count in summary.rejected.items()]
    rows += [("failed (tried again next time)", summary.failed), ("identities kept", summary.identities)]
    rows += [("scored now (the rest came from the ledger)", summary.computed)]
    rows += [("described now", summary.described)] if summary.described else []
    progress.table("Curation", ("what", "photos"), rows, event="curation")
    _paths(workspace.curated_table, workspace.rejects_table, workspace.report, seconds=summary.seconds)


def pack(summary: "PackSummary") -> None:
    """Print identities and samples of each split."""
    rows = [(split, summary.identities[split], summary.samples[split]) for split in summary.samples]
    progress.table("Dataset", ("split", "identities", "samples"), rows, event="split")
    progress.result(
        "packed",
        f"{summary.shards} shards, {summary.bytes / MEGABYTE:.1f} MB, {summary.added} samples added\n{summary.out}",
        out=str(summary.out),
        shards=summary.shards,
        bytes=summary.bytes,
        added=summary.added,
        retired=summary.retired,
        stale=summary.stale,
        left_out=summary.left_out,
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
    progress.table(
        f"Run {summary.folder.name}, {summary.steps} steps", ("term", "first 10", "last 10"), rows, event="term"
    )
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
    progress.table("Figures", ("figure", "value", "unit", "n", "measured with"), rows, event="figure")
    absent = [figure for figure in measured if figure.value is None]
    if absent:
        progress.say("not measured: " + "; ".join(f"{figure.name} ({figure.note})" for figure in absent))
    _paths(out / "figures.json", out / "report.html")


def _paths(*paths: Path, **fields: object) -> None:
    text = "\n".join(str(path) for path in paths)
    progress.result("written", text, paths=[str(path) for path in paths], **fields)


def _megabytes(count: int) -> float:
    return round(count / MEGABYTE, 1)


def _number(value: float) -> str:
    return f"{value:.4g}"

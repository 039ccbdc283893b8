"""What became of every photo, counted from the frontier: in = kept + rejected + failed + pending."""

import sqlite3
from dataclasses import dataclass

from ..errors import AccountingError
from .frontier import Frontier


@dataclass(frozen=True)
class CrawlSummary:
    """The state of one source after a run; bytes and seconds are those of the run.

    `offered` photos = `stored` files + `duplicates` (rows whose bytes or address were stored already)
    + `rejected` + `failed` + `pending`.
    """

    identities: int
    offered: int
    stored: int
    duplicates: int
    rejected: dict[str, int]
    failed: dict[str, int]
    bytes_received: int
    bytes_saved: int
    seconds: float
    pending: int = 0
    identities_rejected: dict[str, int] | None = None
    pages_failed: dict[str, int] | None = None


def photo_counts(database: sqlite3.Connection, source: str) -> dict[str, dict[str, int]]:
    """Return the number of photos by state and reason (the empty string where a state has none)."""
    rows = database.execute(
        "SELECT state, CASE WHEN state IN ('rejected', 'failed') THEN reason ELSE '' END AS why, count(*) AS number"
        " FROM photos WHERE source = ? GROUP BY state, why ORDER BY state, why", (source,)
    )  # fmt: skip
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["state"], {})[row["why"]] = row["number"]
    return counts


def page_failures(database: sqlite3.Connection, source: str) -> dict[str, int]:
    """Return the number of failed pages by reason."""
    rows = database.execute(
        "SELECT reason, count(*) AS number FROM pages WHERE source = ? AND state = 'failed' GROUP BY reason", (source,)
    )
    return {row["reason"]: row["number"] for row in rows}


def summarise(frontier: Frontier, received: int, saved: int, seconds: float) -> CrawlSummary:
    """Count everything.

    Raises:
        AccountingError: a photo is in no known state.
    """
    database, site, source = frontier.database, frontier.site, frontier.source
    counts = photo_counts(database, source)
    done = sum(counts.pop("done", {}).values())
    query = "SELECT count(DISTINCT sha256) FROM photos WHERE source = ? AND state = 'done'"
    stored = int(database.execute(query, (source,)).fetchone()[0])
    rejected, failed = counts.pop("rejected", {}), counts.pop("failed", {})
    pending = sum(sum(counts.pop(state, {}).values()) for state in ("pending", "in_flight", "storing"))
    if counts:
        raise AccountingError(f"photos in unknown states {sorted(counts)} in the frontier; please report this")
    offered = done + sum(rejected.values()) + sum(failed.values()) + pending
    people = dict(
        database.execute("SELECT state, count(*) FROM identities WHERE site = ? GROUP BY state", (site,)).fetchall()
    )
    refused = database.execute(
        "SELECT reason, count(*) FROM identities WHERE site = ? AND state = 'rejected' GROUP BY reason", (site,)
    )
    return CrawlSummary(
        int(people.get("accepted", 0)), offered, stored, done - stored, rejected, failed, received, saved, seconds,
        pending, dict(refused.fetchall()), page_failures(database, source),
    )  # fmt: skip

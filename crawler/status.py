"""How a crawl stands: plain figures from the frontier, also while a crawl runs."""

import sqlite3
import time
from dataclasses import dataclass

from ..workspace import Workspace
from .outcome import DECIDED_HERE
from .schema import connect

Counts = dict[str, int]
RATE_S = 60.0  # span over which the rate is taken


@dataclass(frozen=True)
class SourceStatus:
    """One crawled source: a site definition on a host, or a list of addresses.

    `photos` and `pages` count by state, `rejected` and `failed` photos by reason. `files` are the different photos
    stored and `bytes` theirs; `bytes_received` came of photos stored or rejected, `bytes_saved` were never asked
    for because the size was known first; `photos_per_s` is the rate of the last minute. `next_run` counts what
    running the same command again would ask for, `retry_failed` what `--retry-failed` would add.
    """

    source: str
    photos: Counts
    rejected: Counts
    failed: Counts
    pages: Counts
    files: int
    bytes: int
    bytes_received: int
    bytes_saved: int
    photos_per_s: float
    next_run: int
    retry_failed: int


@dataclass(frozen=True)
class HostStatus:
    """One host: its slowed rate in requests/s (None: not slowed), the seconds it still rests, status of robots.txt."""

    host: str
    rate: float | None
    rests_s: float
    robots_status: int | None


@dataclass(frozen=True)
class Status:
    """The whole workspace: identities by state and those rejected by reason, files, sources and hosts."""

    identities: Counts
    identities_rejected: Counts
    files: int
    sources: tuple[SourceStatus, ...]
    hosts: tuple[HostStatus, ...]


def status(workspace: Workspace) -> Status:
    """Return how the crawls of a workspace stand.

    Raises:
        WorkspaceError: there is no crawl in this workspace.
    """
    database = connect(workspace.required(workspace.frontier, "bolid crawl"))
    try:
        identities = _counts(database, "SELECT state, count(*) FROM identities GROUP BY state")
        refused = "SELECT reason, count(*) FROM identities WHERE state = 'rejected' GROUP BY reason"
        files = "SELECT count(DISTINCT sha256) FROM photos WHERE state = 'done'"
        sources = database.execute(
            "SELECT source FROM photos UNION SELECT source FROM pages ORDER BY source"
        ).fetchall()
        hosts = database.execute("SELECT host, rate, resume_at, robots_status FROM hosts ORDER BY host").fetchall()
        return Status(
            identities,
            _counts(database, refused),
            int(database.execute(files).fetchone()[0]),
            tuple(_source(database, row["source"]) for row in sources),
            tuple(
                HostStatus(row["host"], row["rate"], max(0.0, row["resume_at"] - time.time()), row["robots_status"])
                for row in hosts
            ),
        )
    finally:
        database.close()


def _source(database: sqlite3.Connection, source: str) -> SourceStatus:
    photos = _counts(database, "SELECT state, count(*) FROM photos WHERE source = ? GROUP BY state", source)
    pages = _counts(database, "SELECT state, count(*) FROM pages WHERE source = ? GROUP BY state", source)
    by_reason = "SELECT reason, count(*) FROM photos WHERE source = ? AND state = ? GROUP BY reason"
    rejected = _counts(database, by_reason, source, "rejected")
    sums = database.execute(
        "SELECT sum(received), sum(saved), count(CASE WHEN fetched_at > ? THEN 1 END) FROM photos WHERE source = ?",
        (time.time() - RATE_S, source),
    ).fetchone()
    stored = database.execute(
        "SELECT count(*), sum(bytes) FROM"
        " (SELECT DISTINCT sha256, bytes FROM photos WHERE source = ? AND state = 'done')",
        (source,),
    ).fetchone()
    waiting = sum(table.get(state, 0) for table in (photos, pages) for state in ("pending", "in_flight", "failed"))
    return SourceStatus(
        source, photos, rejected, _counts(database, by_reason, source, "failed"), pages,
        int(stored[0]), int(stored[1] or 0), int(sums[0] or 0), int(sums[1] or 0), int(sums[2]) / RATE_S,
        waiting + photos.get("storing", 0),
        sum(number for reason, number in rejected.items() if reason not in DECIDED_HERE),
    )  # fmt: skip


def _counts(database: sqlite3.Connection, query: str, *values: object) -> Counts:
    return {str(row[0]): int(row[1]) for row in database.execute(query, values)}

"""What the frontier remembers of hosts from run to run: pace, pauses, robots.txt, tdmrep.json."""

import sqlite3

from .rows import HostRow, ReservationRow
from .schema import transaction


class HostBook:
    """The tables `hosts` and `reservations` of crawl.sqlite.

    Args:
        database: the open file.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def row(self, host: str) -> HostRow:
        """Return what is remembered of a host."""
        row = self._db.execute("SELECT * FROM hosts WHERE host = ?", (host,)).fetchone()
        if row is None:
            return HostRow(host, None, 0.0, None, b"", 0.0)
        return HostRow(host, row["rate"], row["resume_at"], row["robots_status"], row["robots_body"] or b"",
                       row["robots_at"])  # fmt: skip

    def remember(self, host: HostRow) -> None:
        """Keep what is known of a host for the next run."""
        with transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO hosts (host, rate, resume_at, robots_status, robots_body, robots_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (host.host, host.rate, host.resume_at, host.robots_status, host.robots_body, host.robots_at),
            )

    def reservations(self, host: str) -> ReservationRow | None:
        """Return the tdmrep.json of a host as it was read last."""
        row = self._db.execute("SELECT * FROM reservations WHERE host = ?", (host,)).fetchone()
        return None if row is None else ReservationRow(**dict(row))

    def remember_reservations(self, row: ReservationRow) -> None:
        """Keep the tdmrep.json of a host for the next run."""
        with transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO reservations (host, status, body, read_at) VALUES (?, ?, ?, ?)",
                (row.host, row.status, row.body, row.read_at),
            )

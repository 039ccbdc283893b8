"""What became of every photo of a crawl, for those who look at a workspace from outside."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..workspace import Workspace
from .schema import connect


@dataclass(frozen=True)
class PhotoState:
    """One photo address: its identity, its state (see `schema`) and why."""

    identity: str
    url: str
    """Of the picture; of its page while the picture's is not known."""
    state: str
    reason: str
    value: float | None
    threshold: float | None


def read_photos(workspace: Workspace) -> Iterator[PhotoState]:
    """Yield every photo of the frontier, in the order of the site.

    Raises:
        WorkspaceError: there is no crawl in this workspace.
    """
    database = connect(workspace.required(workspace.frontier, "bolid crawl"))
    try:
        rows = database.execute(
            "SELECT label, coalesce(url, link, page_url) AS url, photos.state, coalesce(photos.reason, '') AS reason,"
            " photos.value, photos.threshold FROM photos JOIN identities ON identities.id = photos.identity"
            " ORDER BY photos.path, photos.id"
        )
        for row in rows:
            yield PhotoState(*tuple(row))
    finally:
        database.close()

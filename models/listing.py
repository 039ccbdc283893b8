"""What the commands of `bolid models` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import progress
from ..errors import ModelError
from . import registry
from .catalogue import Entry, Packaged

if TYPE_CHECKING:
    from .fetch import Pulled, Verified

MEGABYTE = 1e6


def tell_list() -> None:
    """Print every network: a table for people, an object with everything that is known for machines."""
    networks = [registry.entry(name) for name in registry.names()]
    if progress.json_lines():
        for network in networks:
            progress.result("model", "", **_described(network))
        return
    rows = [
        (
            network.name,
            network.task,
            network.licence.name,
            network.licence.commercial,
            "" if network.bytes is None else f"{network.bytes / MEGABYTE:.1f}",
            _presence(network),
        )
        for network in networks
    ]
    columns = ("name", "task", "licence", "commercial use", "MB", "here")
    progress.table("Networks", columns, rows, event="model", words=("task", "licence", "commercial use", "here"))


def tell_path(name: str) -> None:
    """Print where a network is."""
    path = registry.local(name)
    progress.result("path", str(path), name=name, path=str(path))


def tell_pulled(pulled: Sequence["Pulled"]) -> None:
    """Print where the networks are now."""
    for network in pulled:
        facts = {"name": network.name, "state": network.state, "bytes": network.bytes}
        progress.result("pulled", str(network.path), path=str(network.path), **facts)


def tell_verified(verified: Sequence["Verified"]) -> None:
    """Print what was read and whether it is whole.

    Raises:
        ModelError: a file is damaged or missing; the message names it.
    """
    rows = [(network.name, network.files, round(network.bytes / MEGABYTE, 1), network.state) for network in verified]
    progress.table("Verified", ("name", "files", "MB", "state"), rows, event="verified", words=("state",))
    problems = [problem for network in verified for problem in network.problems]
    if problems:
        names = " ".join(network.name for network in verified if network.problems)
        raise ModelError(f"{'; '.join(problems)}; run: bolid models pull {names}")


def _presence(network: Entry) -> str:
    if registry.absence(network) is not None:
        return "no"
    return "part of bolid" if isinstance(network.source, Packaged) else "yes"


def _described(network: Entry) -> dict[str, object]:
    return {
        "name": network.name,
        "task": network.task,
        "licence": network.licence.name,
        "licence_url": network.licence.url,
        "commercial": network.licence.commercial,
        "free": network.licence.free,
        "source": str(network.source),
        "bytes": network.bytes,
        "files": [{"path": file.path, "sha256": file.sha256, "bytes": file.bytes} for file in network.files],
        "hints": dict(network.hints),
        "thresholds": {name: {"value": at.value, "at": at.at} for name, at in network.thresholds.items()},
        "here": registry.absence(network) is None,
        "path": str(registry.place(network)),
    }

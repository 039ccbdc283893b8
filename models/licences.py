"""Licences are shown, and those that are not free must be allowed before anything is fetched; the decision is kept.

A decision is one file, `licences/<name>.json` in the folder of the networks: it is asked for once a licence.
"""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__, atomic, progress
from ..errors import PolicyError, UsageError
from . import registry
from .catalogue import ENTRIES, Entry, Licence


def require(network: Entry, accept: bool = False, allowed: Collection[str] | None = None) -> None:
    """Show the licence of a network; return when it may be fetched.

    Args:
        network: what is about to be fetched.
        accept: the user accepts the licences of the networks named on this command line.
        allowed: names of licences; when given, every other licence is refused, free ones too.

    Raises:
        PolicyError: the licence is not allowed; the message says how to allow it.
        UsageError: `allowed` names a licence that no network has.
    """
    licence = network.licence
    _check_names(allowed)
    progress.say(
        f"{network.name}: {licence.title} ({licence.name}). {licence.terms} {licence.url}",
        name=network.name,
        licence=licence.name,
        commercial=licence.commercial,
    )
    if allowed is not None and licence.name not in allowed:
        raise PolicyError(
            f"{network.name} is under {licence.name}, which --allowed-licenses does not list ({', '.join(allowed)})"
        )
    if licence.free or decision(licence).exists():
        return
    if allowed is None and not accept:
        raise PolicyError(
            f"the licence of {network.name}, {licence.title} ({licence.url}), is not accepted; to accept it, run: "
            f"bolid models pull {network.name} --accept-licence   (or --allowed-licenses {licence.name})"
        )
    _record(network, "--accept-licence" if allowed is None else "--allowed-licenses")


def decision(licence: Licence) -> Path:
    """Return the file that says who accepted a licence when, whether it exists or not."""
    return registry.root() / "licences" / f"{licence.name}.json"


def _record(network: Entry, how: str) -> None:
    said = {
        "licence": network.licence.name,
        "url": network.licence.url,
        "accepted_for": network.name,
        "accepted_by": how,
        "accepted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "bolid": __version__,
    }
    atomic.write_text(decision(network.licence), json.dumps(said, indent=2) + "\n")


def _check_names(allowed: Collection[str] | None) -> None:
    known = {entry.licence.name for entry in ENTRIES}
    unknown = [name for name in allowed or () if name not in known]
    if unknown:
        raise UsageError(f"no network is under '{unknown[0]}'; licences are {', '.join(sorted(known))}")

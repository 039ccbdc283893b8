"""Stage `exclusions`: who must not be in the data, decided before everything else.

Photos that suppress.txt names are not scored at all, and what an earlier run measured of them is not read. Photos of
people who may be under age are found by the face stage, which then records nothing else of the face.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...crawler.address import canonical
from ...crawler.suppress import Suppression
from ..stage import Verdict

SUPPRESSED = "suppressed"


def suppressed(images: Sequence[Mapping[str, Any]], listed: Suppression) -> dict[int, Verdict]:
    """Return the verdicts of the rows that suppress.txt names, by their place.

    As in a crawl, an entry names a photo by its sha256, by its address or that of its page, or all photos of an
    identity by its slug. Each row stands for itself: the same bytes in another identity's gallery are not touched,
    unless it is the sha256 that is listed.

    Args:
        images: rows with `sha256`, `identity`, `url`, `page_url`.
        listed: entries of suppress.txt.
    """
    if not listed.entries and not listed.hashes:
        return {}
    named = Verdict("exclusions", SUPPRESSED)
    return {index: named for index, image in enumerate(images) if _is_listed(image, listed)}


def _is_listed(image: Mapping[str, Any], listed: Suppression) -> bool:
    if image["sha256"] in listed.hashes:
        return True
    addresses = (canonical("", address) for address in (image["url"], image["page_url"]) if address)
    return listed.entry(*addresses, slug=image["identity"]) is not None


def decide(minor: bool | None, min_age: int) -> Verdict | None:
    """Reject a photo of somebody whose estimated age is under `min_age` years; the estimate itself is not kept."""
    return Verdict("exclusions", "age_under_limit", None, min_age) if minor else None

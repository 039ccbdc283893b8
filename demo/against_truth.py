"""Verdicts of the crawl and the curation, held against what the gallery site knows is true.

Precision: of the photos rejected for a reason, the share for which it is true. Recall: of the photos for which the
reason is true, the share that was rejected for it (or for an earlier reason that is true as well).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .gallery import Kind, Offer, group_of


@dataclass(frozen=True)
class Fate:
    """What became of an offered photo: state `kept`, `rejected`, `failed` or `unseen`, and why."""

    state: str
    reason: str = ""
    nearest_kept: str | None = None
    """The sha256 of the photo that it was said to repeat."""


@dataclass(frozen=True)
class Line:
    """One reason against the truth; None where there is nothing to divide by, or the stage that tells was not run."""

    kind: Kind
    in_truth: int
    found: int | None
    rejected: int | None
    """Photos rejected for this reason, rightly or wrongly."""
    right: int | None
    """Of these, the ones for which it is true."""

    @property
    def precision(self) -> float | None:
        """Right rejections / rejections."""
        return None if not self.rejected or self.right is None else self.right / self.rejected

    @property
    def recall(self) -> float | None:
        """Found / in truth."""
        return None if not self.in_truth or self.found is None else self.found / self.in_truth


REASONS: dict[Kind, frozenset[str]] = {
    Kind.UNDERSIZED: frozenset({"too_small"}),
    Kind.TRUNCATED: frozenset({"truncated", "corrupt"}),
    Kind.NOT_AN_IMAGE: frozenset({"not_an_image"}),
    Kind.EXACT_COPY: frozenset({"exact_duplicate"}),
    Kind.NEAR_COPY: frozenset({"near_duplicate"}),
    Kind.WRONG_PERSON: frozenset({"wrong_person"}),
    Kind.TWO_PEOPLE: frozenset({"two_people"}),
    Kind.EMPTY_ROOM: frozenset({"no_person"}),
    Kind.BLURRED: frozenset({"blurred"}),
}
"""The reasons with which a photo of each kind may be refused."""

COPIES = (Kind.EXACT_COPY, Kind.NEAR_COPY)
DUPLICATE = REASONS[Kind.EXACT_COPY] | REASONS[Kind.NEAR_COPY]


def compare(offers: Sequence[Offer], fates: Mapping[str, Fate], not_run: Collection[Kind] = ()) -> list[Line]:
    """Return a line for each kind of dirt, in the order of `Kind`.

    Args:
        offers: the truth.
        fates: what became of each offer, by its `image_path`; a missing one is `unseen`.
        not_run: kinds that only a stage can tell that was not run.
    """
    fate = {offer: fates.get(offer.image_path, Fate("unseen")) for offer in offers}
    missed = _missed_copies(offers, fate)
    lines = []
    for kind in Kind:
        if kind == Kind.CLEAN:
            continue
        truly = [offer for offer in offers if offer.kind == kind]
        if kind in not_run:
            lines.append(Line(kind, len(truly), None, None, None))
            continue
        reasons = REASONS[kind]
        blamed = [offer for offer in offers if fate[offer].reason in reasons]
        if kind in COPIES:
            seen = sum(fate[offer].state == "kept" or fate[offer].reason in DUPLICATE for offer in truly)
            found, right = seen - missed[kind], sum(_repeats(offer, fate[offer], offers) for offer in blamed)
        else:
            found = sum(fate[offer].reason in reasons for offer in truly)
            right = sum(offer.kind == kind for offer in blamed)
        lines.append(Line(kind, len(truly), found, len(blamed), right))
    return lines


def wrongly_rejected(offers: Sequence[Offer], fates: Mapping[str, Fate]) -> list[Offer]:
    """Return the clean photos that were lost: rejected or failed, and not because a copy of them was kept instead."""
    survivors = {group_of(offer) for offer in offers if fates.get(offer.image_path, Fate("unseen")).state == "kept"}
    return [
        offer
        for offer in offers
        if offer.kind == Kind.CLEAN
        and fates.get(offer.image_path, Fate("unseen")).state != "kept"
        and group_of(offer) not in survivors
    ]


def _missed_copies(offers: Sequence[Offer], fate: Mapping[Offer, Fate]) -> Counter[Kind]:
    """Count the copies that survived beside another photo of the same shot; originals are blamed last."""
    kept: dict[tuple[str, int], list[Offer]] = defaultdict(list)
    for offer in offers:
        if fate[offer].state == "kept":
            kept[group_of(offer)].append(offer)
    missed: Counter[Kind] = Counter()
    for group in kept.values():
        group.sort(key=lambda offer: offer.copy_of is not None)
        missed.update(offer.kind for offer in group[1:])
    return missed


def _repeats(offer: Offer, fate: Fate, offers: Sequence[Offer]) -> bool:
    """True when the photo that it was said to repeat shows the same shot."""
    return any(other.sha256 == fate.nearest_kept and group_of(other) == group_of(offer) for other in offers)

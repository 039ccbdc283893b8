"""All verdicts, taken from scores alone: changing a threshold computes nothing again.

The order: exclusions, decode, pose, quality, duplicates, identity, coverage. A photo that one rejected is not seen by
the next.

What judges a photo by itself comes before duplicates, so that no photo goes because its larger copy is blurred or shows
a second person. Duplicates come before identity, so that no face speaks twice for a gallery; quality does too, so that,
where blurred photos are not wanted, their faces do not speak for anybody.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import proposals, views
from .config import CurateConfig
from .measured import Measured, some
from .outcome import Outcome
from .proposals import Proposal
from .stage import Verdict
from .stages import coverage, decode, duplicates, exclusions, identity, pose, quality

Row = dict[str, Any]
"""A row of a table: column -> value."""

AT_A_TIME = 1024
"""Photos that are known at a time, unless one identity has more."""

MOST_REMARKS = 20
"""Galleries of several people that are named."""
MOST_SHARED = 100
"""Other identities with the same bytes that are named."""
ORDER = ("exclusions", "decode", "pose", "quality", "duplicates", "identity", "coverage")
"""The stages that reject, in the order in which they decide."""


@dataclass
class Decisions:
    """An outcome for each row of the images, in order, and what the galleries as a whole showed."""

    outcomes: list[Outcome]
    galleries: dict[str, identity.Gallery] = field(default_factory=dict)
    alike: list[tuple[str, str, float]] = field(default_factory=list)
    """Pairs of identities whose faces are those of one person, and the cosine of their centres: proposed, not done."""
    proposed: list[Proposal] = field(default_factory=list)
    """Pairs of identities that may be one person, and why: `alike` among them."""
    phashes: list[int | None] = field(default_factory=list)
    """The perceptual hash of each row's photo; None where nothing is known of it or nothing may be told."""

    def remarks(self) -> list[str]:
        """Return a line for each gallery of several people, and for each pair of galleries of one person, bounded."""
        lines = [
            f"{name} holds several people: groups of {', '.join(map(str, gallery.groups))} faces; the largest is kept"
            for name, gallery in sorted(self.galleries.items())
            if len(gallery.groups) > 1
        ]
        more = len(lines) - MOST_REMARKS
        if more > 0:
            lines[MOST_REMARKS:] = [f"{more} more galleries hold several people"]
        return lines + proposals.remarks(self.proposed)


def decide(
    images: Sequence[Row],
    photos: Mapping[str, Measured],
    failed: Mapping[str, str],
    config: CurateConfig,
    cosines: identity.Cosines | None,
    suppressed: Mapping[int, Verdict] | None = None,
) -> Decisions:
    """Take all decisions.

    Args:
        images: rows with `sha256` and `identity`.
        photos: what is known of each photo, by its sha256.
        failed: sha256 -> error, for photos without scores.
        config: the thresholds.
        cosines: those of the face model; None where no face was looked for.
        suppressed: verdicts of the rows that suppress.txt names, by their place; nothing else is asked of them.
    """
    suppressed = suppressed or {}
    verdicts: dict[int, Verdict] = dict(suppressed)
    findings: dict[int, identity.Finding] = {}
    galleries: dict[str, identity.Gallery] = {}
    phashes: list[int | None] = [None] * len(images)
    for name, members in _members(images, photos, suppressed):
        for index, photo in members.items():
            phashes[index] = photo.phash
        verdicts |= _alone(members, config)
        if cosines is not None:
            left = {index: photo for index, photo in members.items() if index not in verdicts}
            galleries[name] = _identity(left, config, cosines)
            findings |= galleries[name].findings
            verdicts |= galleries[name].verdicts
        rest = [index for index in members if index not in verdicts]
        thin = coverage.decide(len(rest), config.min_photos)
        if thin:
            verdicts |= dict.fromkeys(rest, thin)
    shared = _shared(images, suppressed)
    outcomes = [
        Outcome(
            verdicts.get(index),
            None if index in suppressed else failed.get(image["sha256"]),
            shared.get((image["sha256"], image["identity"]), ()),
            findings.get(index),
        )
        for index, image in enumerate(images)
    ]
    centres = {name: gallery.centre for name, gallery in galleries.items() if gallery.centre is not None}
    alike = identity.alike(centres, cosines) if cosines else []
    proposed = proposals.find(images, phashes, outcomes, galleries, alike, config.near_duplicate)
    return Decisions(outcomes, galleries, alike, proposed, phashes)


def _members(
    images: Sequence[Row], photos: Mapping[str, Measured], suppressed: Collection[int]
) -> Iterator[tuple[str, dict[int, Measured]]]:
    """Yield what is known of each identity's photos by their place; of no more than `AT_A_TIME` photos at once."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        if image["sha256"] in photos and index not in suppressed:
            groups[image["identity"]].append(index)
    for portion in _portions(groups):
        shas = {index: images[index]["sha256"] for _, group in portion for index in group}
        known = some(photos, list(shas.values()))
        for name, group in portion:
            yield name, {index: known[shas[index]] for index in group}


def _portions(groups: Mapping[str, list[int]]) -> Iterator[list[tuple[str, list[int]]]]:
    portion: list[tuple[str, list[int]]] = []
    count = 0
    for name, group in groups.items():
        if portion and count + len(group) > AT_A_TIME:
            yield portion
            portion, count = [], 0
        portion.append((name, group))
        count += len(group)
    if portion:
        yield portion


def _alone(photos: Mapping[int, Measured], config: CurateConfig) -> dict[int, Verdict]:
    """Return the verdicts of one identity's photos that need no comparison of faces."""
    verdicts: dict[int, Verdict] = {}
    for index, photo in photos.items():
        verdict = exclusions.decide(photo.minor, config.exclusions.min_age)
        verdict = verdict or decode.decide(photo.defect, photo.width, photo.height, config.min_res, config.max_aspect)
        verdict = verdict or _person(photo, config) or _quality(photo, config)
        if verdict:
            verdicts[index] = verdict
    candidates = [_candidate(index, photo) for index, photo in photos.items() if index not in verdicts]
    return verdicts | duplicates.decide(candidates, config.near_duplicate)


def _candidate(order: int, photo: Measured) -> duplicates.Candidate:
    if photo.phash is None or photo.sharpness is None:
        raise ValueError("a photo that decodes has a hash and a sharpness")
    return duplicates.Candidate(
        photo.sha256, photo.phash, (photo.width or 0) * (photo.height or 0), photo.sharpness, order
    )


def _person(photo: Measured, config: CurateConfig) -> Verdict | None:
    if photo.people is None:
        return None
    return pose.decide(photo.people, config.pose.min_score, config.pose.second_person)


def _quality(photo: Measured, config: CurateConfig) -> Verdict | None:
    limits = config.quality
    light = None if photo.person is None else photo.person.exposure
    return quality.decide(photo.person_sharpness, light, limits.min_sharpness, limits.min_exposure, limits.max_exposure)


def _identity(photos: Mapping[int, Measured], config: CurateConfig, cosines: identity.Cosines) -> identity.Gallery:
    seen = {
        index: identity.View(
            photo.face.embedding if photo.face is not None and photo.face.found.usable else None,
            1 if photo.people is None else photo.people.count,
            None if photo.person is None else views.body_keypoints(photo.person.keypoints, config.pose.keypoint),
        )
        for index, photo in photos.items()
    }
    limits = config.identity
    return identity.decide(seen, cosines, limits.min_faces, limits.outlier_mad, config.pose.min_keypoints)


def cosines_of(config: CurateConfig, known: Mapping[str, float]) -> identity.Cosines | None:
    """Return the cosines that identities are judged by: those of the configuration, else the face model's own.

    Args:
        config: with `identity.same`, `keep`, `reject`, `merge`.
        known: thresholds of the face model: `same_person`, `identity_keep`, `identity_reject`, `identity_merge`.

    Returns:
        None where the least cosine of two faces of one person is not known.
    """
    given = config.identity
    found = identity.Cosines(
        known.get("same_person", -1.0),
        known.get("identity_keep"),
        known.get("identity_reject"),
        known.get("identity_merge"),
    )
    asked = {name: value for name in ("same", "keep", "reject", "merge") if (value := getattr(given, name)) is not None}
    if "same" not in asked and "same_person" not in known:
        return None
    return replace(found, **asked)


def _shared(images: Sequence[Row], suppressed: Collection[int]) -> dict[tuple[str, str], list[str]]:
    seen: set[str] = set()
    repeated: set[str] = set()
    for index, image in enumerate(images):
        if index not in suppressed:
            (repeated if image["sha256"] in seen else seen).add(image["sha256"])
    del seen
    owners: dict[str, set[str]] = defaultdict(set)
    for index, image in enumerate(images):
        if index not in suppressed and image["sha256"] in repeated:
            owners[image["sha256"]].add(image["identity"])
    shared: dict[tuple[str, str], list[str]] = {}
    for sha256, group in owners.items():
        if len(group) > 1:
            some = sorted(group)[: MOST_SHARED + 1]
            shared |= {(sha256, name): [other for other in some if other != name][:MOST_SHARED] for name in group}
    return shared

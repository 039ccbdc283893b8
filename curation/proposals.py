"""`proposals.parquet`: pairs of galleries that may be of one person, for a human to merge; nothing is merged here.

Compared are photos that are kept, and those that went only because their gallery is too thin: these are what a merge
would save. A picture that many galleries hold is an advertisement or a placeholder and proposes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import atomic
from . import hamming
from .outcome import Outcome
from .stages.identity import Gallery

Kind = Literal["same_photo", "near_photo", "same_face"]

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("identity_a", pa.string()),
        ("identity_b", pa.string()),
        ("value", pa.float64()),
        ("count", pa.int64()),
        ("sha_a", pa.string()),
        ("sha_b", pa.string()),
    ]
)
CROWD = 20
"""A picture that so many galleries hold, near copies included, may still propose; more is no portrait."""
MOST_REMARKS = 20
"""Pairs that are printed; the table has all."""


@dataclass(frozen=True)
class Proposal:
    """Two galleries that may be of one person, and why.

    Attributes:
        kind: the same bytes, hashes that differ in few bits, or faces of one person.
        identity_a, identity_b: slugs, in alphabetical order.
        value: least differing bits of two photos, 0..64; for faces the cosine of the galleries' centres.
        count: pairs of such photos; for faces, how many the smaller of the two galleries' persons has.
        sha_a, sha_b: an example from each: the nearest photos; for faces the ones nearest to their centres.
    """

    kind: Kind
    identity_a: str
    identity_b: str
    value: float
    count: int
    sha_a: str
    sha_b: str


def find(
    rows: Sequence[Mapping[str, Any]],
    phashes: Sequence[int | None],
    outcomes: Sequence[Outcome],
    galleries: Mapping[str, Gallery],
    alike: Iterable[tuple[str, str, float]],
    near: int,
) -> list[Proposal]:
    """Return what speaks for merging, sorted by kind and names.

    Args:
        rows: of the images, with `sha256` and `identity`.
        phashes: of each row's photo; None where it is not known.
        outcomes: one for each row.
        galleries: the faces of each identity, judged.
        alike: pairs of identities whose faces are those of one person, with the cosine of their centres.
        near: most differing bits of near copies.
    """
    speaking: list[int] = []
    for place, outcome in enumerate(outcomes):
        thin = outcome.verdict is not None and outcome.verdict.stage == "coverage"
        if phashes[place] is not None and (outcome.keep or thin):
            speaking.append(place)
    found = [*_photos(rows, speaking, phashes, near), *_faces(rows, galleries, alike)]
    return sorted(found, key=lambda each: (each.kind, each.identity_a, each.identity_b))


def _photos(
    rows: Sequence[Mapping[str, Any]], speaking: Sequence[int], phashes: Sequence[int | None], near: int
) -> Iterator[Proposal]:
    """Yield a proposal for each pair of galleries with photos that are the same or nearly so."""
    counts: Counter[tuple[Kind, str, str]] = Counter()
    best: dict[tuple[Kind, str, str], tuple[int, str, str]] = {}
    for (sha_a, a), (sha_b, b), bits in _close(_Holders(rows, speaking, phashes), near):
        if a > b:
            sha_a, a, sha_b, b = sha_b, b, sha_a, a
        kind: Kind = "same_photo" if sha_a == sha_b else "near_photo"
        counts[kind, a, b] += 1
        best[kind, a, b] = min(best.get((kind, a, b), (hamming.BITS + 1, "", "")), (bits, sha_a, sha_b))
    for (kind, a, b), count in counts.items():
        bits, sha_a, sha_b = best[kind, a, b]
        yield Proposal(kind, a, b, float(bits), count, sha_a, sha_b)


_Photo = tuple[str, str]
"""A sha256 and the identity that has it."""


class _Holders:
    """Hashes `[n]`, each once, and the photos that have each of them, made when they are asked for."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], speaking: Sequence[int], phashes: Sequence[int | None]
    ) -> None:
        hashes = np.array([phashes[place] for place in speaking], np.uint64)
        self._rows, self._speaking, self._order = rows, speaking, np.argsort(hashes, kind="stable")
        self.values, self._starts, sizes = np.unique(hashes[self._order], return_index=True, return_counts=True)
        self.sizes = sizes.astype(np.int64)
        for at in np.flatnonzero(self.sizes > 1):
            self.sizes[at] = len(self.of(int(at)))

    def of(self, at: int) -> list[_Photo]:
        """Return the photos with a hash, each once."""
        end = self._starts[at + 1] if at + 1 < len(self._starts) else len(self._order)
        rows = (self._rows[self._speaking[place]] for place in self._order[self._starts[at] : end].tolist())
        return list(dict.fromkeys((row["sha256"], row["identity"]) for row in rows))


def _close(holders: _Holders, near: int) -> Iterator[tuple[_Photo, _Photo, int]]:
    """Yield the pairs of photos of different galleries whose hashes differ in at most `near` bits, crowds left out."""
    values, sizes = holders.values, holders.sizes
    crowd = sizes.copy()
    # Twice over the pairs, so that those of a crowd, very many, are counted but never held.
    for left, right, _ in hamming.pairs(values, near):
        np.add.at(crowd, left, sizes[right])
        np.add.at(crowd, right, sizes[left])
    few = crowd <= CROWD
    for at in np.flatnonzero(few & (sizes > 1)):
        yield from ((one, other, 0) for one, other in combinations(holders.of(int(at)), 2) if one[1] != other[1])
    original = np.flatnonzero(few)
    for left, right, bits in hamming.pairs(values[few], near):
        for one, other, differing in zip(original[left].tolist(), original[right].tolist(), bits.tolist(), strict=True):
            for first, second in product(holders.of(one), holders.of(other)):
                if first[1] != second[1]:
                    yield first, second, differing


def _faces(
    rows: Sequence[Mapping[str, Any]], galleries: Mapping[str, Gallery], alike: Iterable[tuple[str, str, float]]
) -> Iterator[Proposal]:
    for a, b, cosine in alike:
        examples = [_best_face(rows, galleries[name]) for name in (a, b)]
        count = min(galleries[name].groups[0] for name in (a, b))
        yield Proposal("same_face", a, b, cosine, count, *examples)


def _best_face(rows: Sequence[Mapping[str, Any]], gallery: Gallery) -> str:
    scores = {index: finding.score for index, finding in gallery.findings.items() if finding.score is not None}
    best: str = rows[max(scores, key=lambda index: scores[index])]["sha256"]
    return best


def remarks(proposals: Iterable[Proposal]) -> list[str]:
    """Return a line for each pair of galleries, the first `MOST_REMARKS` of them, and how many more there are."""
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in proposals:
        pairs[each.identity_a, each.identity_b].append(_reason(each))
    lines = [f"{a} and {b} seem to be one person: {', '.join(why)}" for (a, b), why in sorted(pairs.items())]
    more = len(lines) - MOST_REMARKS
    return lines if more <= 0 else [*lines[:MOST_REMARKS], f"{more} more pairs of galleries: see proposals.parquet"]


def _reason(proposal: Proposal) -> str:
    if proposal.kind == "same_face":
        return f"cosine {proposal.value:.2f}"
    photos = "1 photo is" if proposal.count == 1 else f"{proposal.count} photos are"
    return f"{photos} {'the same' if proposal.kind == 'same_photo' else 'nearly the same'}"


def write(path: Path, proposals: Sequence[Proposal]) -> None:
    """Write the table, whole or not at all; without proposals it has no rows."""
    table = pa.Table.from_pylist([vars(each) for each in proposals], schema=SCHEMA)
    with atomic.replacing(path) as temporary:
        pq.write_table(table, temporary)

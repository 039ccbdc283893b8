"""Which identity goes to which split and shard; pure functions of names and sizes.

**Splits.** The keyed hash of an identity's name is a number u in [0, 1): u < val is val, u >= 1 - test is test, the
middle is train. It depends on nothing but the name and the key, so identities that are added move nobody. A small
dataset would often have an empty split by this rule alone; so, from three identities on, a split that was asked for
and is empty takes the identity whose u lies nearest to its interval, from a split that keeps at least one other.
With fewer than three identities all are train. An identity that a dataset already holds stays in its split.
Identities whose galleries share a photo are dealt as one, so that no photo is in two splits.

**Shards.** Identities stay whole. The number of shards of a split is the smallest with which largest-first,
emptiest-shard filling keeps every shard of several identities within `shard_size`; so shards are balanced.
"""

import hashlib
import heapq
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .schema import SPLITS

LEAST_FOR_SPLIT = 3
"""Number of identities from which every split that is asked for gets at least one."""


def position(identity: str, split_key: str) -> float:
    """Return the keyed hash of an identity's name as a number in [0, 1)."""
    digest = hashlib.blake2b(identity.encode(), key=split_key.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def leaders(owners: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group identities that share a photo, also over third ones; return each identity's group by its first name.

    Args:
        owners: (sha256, identity) of every photo.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first_owner: dict[str, str] = {}
    for sha256, identity in owners:
        parent.setdefault(identity, identity)
        one, other = root(identity), root(first_owner.setdefault(sha256, identity))
        parent[max(one, other)] = min(one, other)
    return {identity: root(identity) for identity in parent}


def assign_splits(
    identities: Collection[str],
    fractions: tuple[float, float, float],
    split_key: str,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the split of every identity, see the module's text.

    Args:
        identities: names.
        fractions: of train, val and test.
        split_key: key of the hash.
        known: splits of identities that the dataset already holds; they stay.
    """
    known = known or {}
    positions = {identity: position(identity, split_key) for identity in sorted(identities)}
    if len(known.keys() | positions.keys()) < LEAST_FOR_SPLIT:
        return {identity: known.get(identity, "train") for identity in positions}
    splits = {identity: known.get(identity) or _split_at(u, fractions) for identity, u in positions.items()}
    for split in _asked_for(fractions):
        if split not in splits.values() and split not in known.values():
            _fill(split, splits, positions, fractions, known)
    return splits


def assign_numbers(identities: Collection[str], known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the number of every identity: known ones keep theirs, new ones follow in the order of names."""
    numbers = dict(known or {})
    first = max(numbers.values(), default=-1) + 1
    new = sorted(set(identities) - numbers.keys())
    return {**numbers, **{identity: first + index for index, identity in enumerate(new)}}


def fill_shards(sizes: Mapping[int, int], shard_size: int) -> list[list[int]]:
    """Deal identities to shards.

    Args:
        sizes: bytes by identity number.
        shard_size: bytes that a shard of several identities should not exceed.

    Returns:
        the identities of every shard, ascending; shards in the order of their first identity.
    """
    if not sizes:
        return []
    count = max(1, math.ceil(sum(sizes.values()) / shard_size))
    while True:
        shards = _balanced(sizes, count)
        if all(len(shard) == 1 or sum(sizes[one] for one in shard) <= shard_size for shard in shards):
            return sorted(sorted(shard) for shard in shards)
        count += max(1, count // 50)


@dataclass(frozen=True)
class Interval:
    """Where on [0, 1) a split's identities lie."""

    start: float
    end: float

    def distance(self, u: float) -> float:
        """Return how far `u` is outside the interval, 0 inside."""
        return max(self.start - u, u - self.end, 0.0)


def interval(split: str, fractions: tuple[float, float, float]) -> Interval:
    """Return the interval of a split: val at the beginning, test at the end, train between them."""
    _, val, test = fractions
    return {"val": Interval(0.0, val), "train": Interval(val, 1 - test), "test": Interval(1 - test, 1.0)}[split]


def _split_at(u: float, fractions: tuple[float, float, float]) -> str:
    _, val, test = fractions
    if u < val:
        return "val"
    return "test" if u >= 1 - test else "train"


def _asked_for(fractions: tuple[float, float, float]) -> list[str]:
    return [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]


def _fill(
    split: str,
    splits: dict[str, str],
    positions: Mapping[str, float],
    fractions: tuple[float, float, float],
    known: Mapping[str, str],
) -> None:
    wanted = interval(split, fractions)
    members = {**known, **splits}
    sizes = {name: list(members.values()).count(name) for name in SPLITS}
    movable = [identity for identity, now in splits.items() if identity not in known and sizes[now] > 1]
    if movable:
        splits[min(movable, key=lambda identity: (wanted.distance(positions[identity]), identity))] = split


def _balanced(sizes: Mapping[int, int], count: int) -> list[list[int]]:
    shards: list[tuple[int, int, list[int]]] = [(0, number, []) for number in range(min(count, len(sizes)))]
    for identity in sorted(sizes, key=lambda identity: (-sizes[identity], identity)):
        filled, number, members = heapq.heappop(shards)
        members.append(identity)
        heapq.heappush(shards, (filled + sizes[identity], number, members))
    return [members for _, _, members in shards]

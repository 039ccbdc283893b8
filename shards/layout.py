"""From the photo table to the plan of every shard; a pure function of the table, the options and the ground."""

from dataclasses import dataclass

import pyarrow as pa

from . import plan
from .base import Base
from .options import PackConfig
from .schema import SPLITS, shard_name

OTHER_PARTS = 8192
"""Bytes of a sample beside its picture, roughly: JSON, embedding, caption and tar headers."""


@dataclass(frozen=True)
class Place:
    """Where a photo goes: row of the photo table, number of the identity, number of the photo."""

    row: int
    identity: int
    number: int


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be written, its photos in order."""

    name: str
    split: str
    places: list[Place]


def plan_shards(photos: pa.Table, config: PackConfig, base: Base) -> list[ShardPlan]:
    """Deal photos (sorted by identity) to shards whose numbers follow those of the ground.

    A photo that hangs in galleries of two splits goes to one of them: where the ground has it, else where the person
    whose name sorts first is. Its other rows are in no plan.
    """
    slugs: list[str] = photos["identity"].to_pylist()
    shas: list[str] = photos["sha256"].to_pylist()
    sizes = estimated_sizes(photos, config)
    packed = base.rows_of_photos(shas)
    splits = _splits([*packed, *zip(shas, slugs, strict=True)], set(slugs), config, base)
    home = {sha256: base.identity_splits[slug] for sha256, slug in packed}
    numbers = plan.assign_numbers(set(slugs), base.identity_numbers)
    rows_of: dict[str, list[int]] = {}
    for row, (slug, sha256) in enumerate(zip(slugs, shas, strict=True)):
        if home.setdefault(sha256, splits[slug]) == splits[slug]:
            rows_of.setdefault(slug, []).append(row)
    shards = []
    for split in SPLITS:
        members = {numbers[slug]: slug for slug in rows_of if splits[slug] == split}
        loads = {number: sum(sizes[row] for row in rows_of[slug]) for number, slug in members.items()}
        for index, identities in enumerate(plan.fill_shards(loads, config.shard_size)):
            places = [
                Place(row, one, base.next_numbers.get(members[one], 0) + count)
                for one in identities
                for count, row in enumerate(rows_of[members[one]])
            ]
            shards.append(ShardPlan(shard_name(split, base.next_shard(split) + index), split, places))
    return shards


def _splits(owners: list[tuple[str, str]], wanted: set[str], config: PackConfig, base: Base) -> dict[str, str]:
    """Deal the wanted identities to splits; those whose galleries hold a photo in common go together.

    The same bytes in train and in val would make every held-out figure a lie. Each group is dealt by the name that
    sorts first, or follows a member that the dataset already holds.

    Args:
        owners: (sha256, identity) of every photo to come, and of those in the dataset that are the same.
        wanted: identities of the photos to come.
        config: options.
        base: the dataset.
    """
    leader = plan.leaders(owners)
    known = {leader.get(slug, slug): split for slug, split in sorted(base.identity_splits.items(), reverse=True)}
    dealt = plan.assign_splits({leader[slug] for slug in wanted}, config.split, config.split_key, known)
    return {slug: base.identity_splits.get(slug, dealt[leader[slug]]) for slug in wanted}


def estimated_sizes(photos: pa.Table, config: PackConfig) -> list[int]:
    """Return the bytes that each photo will take in a shard, as far as they are known before encoding."""
    sizes = [max(int(size or 0), 1) for size in photos["bytes"].to_pylist()]
    if config.max_side is not None and {"width", "height"} <= set(photos.column_names):
        sides = zip(photos["width"].to_pylist(), photos["height"].to_pylist(), strict=True)
        scales = (min(1.0, config.max_side / max(width or 1, height or 1)) for width, height in sides)
        sizes = [round(size * scale**2) for size, scale in zip(sizes, scales, strict=True)]
    return [size + OTHER_PARTS for size in sizes]

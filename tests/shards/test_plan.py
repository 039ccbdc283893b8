import hashlib

from bolid.shards.plan import assign_numbers, assign_splits, fill_shards, leaders, position
from hypothesis import given
from hypothesis import strategies as st

FRACTIONS = (0.9, 0.05, 0.05)
names = st.sets(st.text("abcdef_", min_size=1, max_size=8), max_size=60)


def test_the_hash_is_keyed_blake2b() -> None:
    digest = hashlib.blake2b(b"ada", key=b"bolid", digest_size=8).hexdigest()
    assert position("ada", "bolid") == int(digest, 16) / 2**64
    assert position("ada", "other") != position("ada", "bolid")


@given(names, names)
def test_added_identities_move_nobody(old: set[str], new: set[str]) -> None:
    """Given the dataset that holds the old ones."""
    before = assign_splits(old, FRACTIONS, "k")
    after = assign_splits(old | new, FRACTIONS, "k", known=before)
    assert {identity: after[identity] for identity in old} == before


def test_large_sets_are_stable_even_without_a_dataset() -> None:
    people = {f"person {number}" for number in range(500)}
    before = assign_splits(people, FRACTIONS, "k")
    after = assign_splits(people | {f"new {number}" for number in range(100)}, FRACTIONS, "k")
    assert {identity: after[identity] for identity in people} == before
    shares = [list(before.values()).count(split) / 500 for split in ("train", "val", "test")]
    assert all(abs(share - wanted) < 0.03 for share, wanted in zip(shares, FRACTIONS, strict=True))


@given(names)
def test_from_three_identities_on_no_split_that_was_asked_for_is_empty(people: set[str]) -> None:
    splits = set(assign_splits(people, FRACTIONS, "k").values())
    assert splits == ({"train", "val", "test"} if len(people) >= 3 else {"train"} if people else set())


@given(names)
def test_splits_that_were_not_asked_for_stay_empty(people: set[str]) -> None:
    assert set(assign_splits(people, (1.0, 0.0, 0.0), "k").values()) <= {"train"}
    assert "test" not in assign_splits(people, (0.5, 0.5, 0.0), "k").values()


def test_numbers_follow_names_and_stay() -> None:
    assert assign_numbers({"b", "a"}) == {"a": 0, "b": 1}
    assert assign_numbers({"aa", "b"}, {"a": 0, "b": 1}) == {"a": 0, "b": 1, "aa": 2}


@given(st.dictionaries(st.integers(0, 1000), st.integers(1, 100), min_size=1), st.integers(1, 300))
def test_shards_hold_everyone_once_and_keep_their_size(sizes: dict[int, int], limit: int) -> None:
    shards = fill_shards(sizes, limit)
    assert sorted(identity for shard in shards for identity in shard) == sorted(sizes)
    assert all(shard for shard in shards)
    assert all(len(shard) == 1 or sum(sizes[one] for one in shard) <= limit for shard in shards)


def test_shards_are_balanced() -> None:
    sizes = {number: 10 + number % 7 for number in range(200)}
    loads = [sum(sizes[one] for one in shard) for shard in fill_shards(sizes, 300)]
    assert max(loads) - min(loads) <= 16


def test_identities_that_share_a_photo_form_one_group() -> None:
    owners = [("p1", "dan"), ("p1", "bob"), ("p2", "bob"), ("p2", "cleo"), ("p3", "ann"), ("p4", "eve"), ("p4", "eve")]
    assert leaders(owners) == {"dan": "bob", "bob": "bob", "cleo": "bob", "ann": "ann", "eve": "eve"}


@given(st.lists(st.tuples(st.sampled_from("pqrstuv"), st.sampled_from("abcdefgh")), max_size=30))
def test_groups_are_the_connected_components(owners: list[tuple[str, str]]) -> None:
    """Against a plain flood fill."""
    groups: dict[str, str] = {}
    for _, start in sorted(owners, key=lambda owner: owner[1]):
        reached = {start}
        while True:
            photos = {sha256 for sha256, identity in owners if identity in reached}
            wider = {identity for sha256, identity in owners if sha256 in photos}
            if wider == reached:
                break
            reached = wider
        groups[start] = min(reached)
    assert leaders(owners) == groups

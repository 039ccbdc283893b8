"""The comparison with the truth, on cases counted by hand."""

import dataclasses

from bolid.demo import people
from bolid.demo.against_truth import REASONS, Fate, compare, wrongly_rejected
from bolid.demo.gallery import Kind, Offer
from bolid.demo.outcome import is_back_view


def offer(number: int, kind: Kind, copy_of: int | None = None, sha256: str | None = None) -> Offer:
    return Offer(0, "ann", "Ann", number, kind, f"ann/{number}.jpg", copy_of, sha256 or f"sha{number}")


def lines(offers: list[Offer], fates: dict[int, Fate], not_run: tuple[Kind, ...] = ()) -> dict[Kind, tuple]:
    by_path = {o.image_path: fates[o.number] for o in offers if o.number in fates}
    return {li.kind: (li.in_truth, li.found, li.rejected, li.right) for li in compare(offers, by_path, not_run)}


KEPT = Fate("kept")


def test_plain_reasons_are_counted_photo_by_photo():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.UNDERSIZED), offer(3, Kind.UNDERSIZED), offer(4, Kind.TRUNCATED)]
    small = Fate("rejected", "too_small")
    found = lines(offers, {1: small, 2: small, 3: KEPT, 4: Fate("failed", "truncated")})
    assert found[Kind.UNDERSIZED] == (2, 1, 2, 1)
    assert found[Kind.TRUNCATED] == (1, 1, 1, 1)
    assert found[Kind.NOT_AN_IMAGE] == (0, 0, 0, 0)


def test_precision_and_recall_are_shares_or_nothing():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.UNDERSIZED), offer(3, Kind.UNDERSIZED)]
    fates = {o.image_path: Fate("rejected", "too_small") for o in offers[:2]} | {offers[2].image_path: KEPT}
    line = next(li for li in compare(offers, fates) if li.kind == Kind.UNDERSIZED)
    assert (line.precision, line.recall) == (0.5, 0.5)
    line = next(li for li in compare(offers, fates) if li.kind == Kind.TRUNCATED)
    assert (line.precision, line.recall) == (None, None)


def test_kinds_whose_stage_was_not_run_have_no_figures():
    found = lines([offer(1, Kind.WRONG_PERSON)], {1: KEPT}, (Kind.WRONG_PERSON,))
    assert found[Kind.WRONG_PERSON] == (1, None, None, None)


def test_people_are_counted_photo_by_photo():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.WRONG_PERSON), offer(3, Kind.TWO_PEOPLE), offer(4, Kind.EMPTY_ROOM)]
    stranger = Fate("rejected", "wrong_person")
    found = lines(offers, {1: stranger, 2: stranger, 3: KEPT, 4: Fate("rejected", "no_person")})
    assert found[Kind.WRONG_PERSON] == (1, 1, 2, 1)
    assert found[Kind.TWO_PEOPLE] == (1, 0, 0, 0)
    assert found[Kind.EMPTY_ROOM] == (1, 1, 1, 1)


def test_every_kind_of_dirt_has_a_reason():
    assert set(REASONS) == set(Kind) - {Kind.CLEAN}
    assert len(frozenset.union(*REASONS.values())) == sum(map(len, REASONS.values()))


def test_it_does_not_matter_which_photo_of_a_shot_survives():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.NEAR_COPY, 1), offer(3, Kind.CLEAN)]
    original_lost = {1: Fate("rejected", "near_duplicate", "sha2"), 2: KEPT, 3: KEPT}
    copy_lost = {1: KEPT, 2: Fate("rejected", "near_duplicate", "sha1"), 3: KEPT}
    assert lines(offers, original_lost)[Kind.NEAR_COPY] == lines(offers, copy_lost)[Kind.NEAR_COPY] == (1, 1, 1, 1)
    assert wrongly_rejected(offers, {o.image_path: original_lost[o.number] for o in offers}) == []


def test_a_copy_that_survives_beside_its_original_is_missed():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.NEAR_COPY, 1), offer(3, Kind.EXACT_COPY, 1, "sha1")]
    found = lines(offers, {1: KEPT, 2: KEPT, 3: Fate("rejected", "exact_duplicate", "sha1")})
    assert found[Kind.NEAR_COPY] == (1, 0, 0, 0)
    assert found[Kind.EXACT_COPY] == (1, 1, 1, 1)


def test_a_photo_blamed_for_repeating_another_shot_is_wrong_and_lost():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.CLEAN)]
    fates = {1: KEPT, 2: Fate("rejected", "near_duplicate", "sha1")}
    assert lines(offers, fates)[Kind.NEAR_COPY] == (0, 0, 1, 0)
    assert wrongly_rejected(offers, {o.image_path: fates[o.number] for o in offers}) == [offers[1]]


def test_a_photo_that_was_never_seen_is_lost():
    assert len(wrongly_rejected([offer(1, Kind.CLEAN)], {})) == 1


def test_copies_that_nobody_saw_were_not_found():
    offers = [offer(1, Kind.CLEAN), offer(2, Kind.NEAR_COPY, 1), offer(3, Kind.EXACT_COPY, 1, "sha1")]
    assert lines(offers, {})[Kind.NEAR_COPY] == (1, 0, 0, 0)
    thin = Fate("rejected", "too_few_photos")
    assert lines(offers, {1: thin, 2: thin, 3: thin})[Kind.EXACT_COPY] == (1, 0, 0, 0)


def test_captions_say_which_views_are_from_behind():
    truths = [people.take_photo(77, n, 0, size=(60, 80)).truth for n in range(40)]
    for number, truth in enumerate(truths):
        good = dataclasses.replace(offer(number, Kind.CLEAN), caption=truth.caption)
        assert is_back_view(good) == (truth.view == "back")
        assert not is_back_view(dataclasses.replace(good, kind=Kind.BLURRED))
    assert 0 < sum(truth.view == "back" for truth in truths) < 40

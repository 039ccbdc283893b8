import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bolid.demo import gallery
from bolid.demo.gallery import DIRT_OF_24, Kind, Offer
from bolid.errors import UsageError
from PIL import Image


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Offer]]:
    folder = tmp_path_factory.mktemp("site")
    return folder, gallery.build(folder, identities=1, photos=24, seed=5, workers=2)


def picture(folder: Path, offer: Offer) -> Image.Image:
    return Image.open(io.BytesIO((folder / offer.file).read_bytes()))


def test_a_gallery_of_24_holds_the_shares_that_are_stated(built: tuple[Path, list[Offer]]):
    counts = Counter(offer.kind for offer in built[1])
    assert {kind: counts[kind] for kind in DIRT_OF_24} == DIRT_OF_24
    assert counts[Kind.CLEAN] == 24 - sum(DIRT_OF_24.values())


def test_the_truth_is_true_of_the_bytes(built: tuple[Path, list[Offer]]):
    folder, offers = built
    by_number = {offer.number: offer for offer in offers}
    for offer in offers:
        data = (folder / offer.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == offer.sha256
        if offer.kind == Kind.NOT_AN_IMAGE:
            with pytest.raises(OSError, match="cannot identify"):
                picture(folder, offer)
            continue
        short = min(picture(folder, offer).size)
        assert (short < 1000) == (offer.kind == Kind.UNDERSIZED)
        if offer.kind == Kind.TRUNCATED:
            with pytest.raises(OSError, match="truncated"):
                picture(folder, offer).load()
        elif offer.kind == Kind.EXACT_COPY:
            assert offer.sha256 == by_number[offer.copy_of].sha256
        elif offer.kind == Kind.NEAR_COPY:
            assert offer.sha256 != by_number[offer.copy_of].sha256
    unique = [o.sha256 for o in offers if o.kind not in (Kind.EXACT_COPY,)]
    assert len(set(unique)) == len(unique)


def test_near_copies_look_alike(built: tuple[Path, list[Offer]]):
    folder, offers = built
    by_number = {offer.number: offer for offer in offers}
    for offer in (o for o in offers if o.kind == Kind.NEAR_COPY):
        small = [
            np.asarray(picture(folder, o).convert("L").resize((32, 32))) for o in (offer, by_number[offer.copy_of])
        ]
        assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.97


def test_a_second_build_changes_nothing(built: tuple[Path, list[Offer]]):
    folder, offers = built
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert gallery.build(folder, 1, 24, 5) == offers
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before


def test_other_options_in_the_same_folder_are_refused(built: tuple[Path, list[Offer]]):
    with pytest.raises(UsageError, match="made with other options"):
        gallery.build(built[0], 2, 24, 5)


@pytest.mark.parametrize(("identities", "photos"), [(0, 24), (1, 5)])
def test_a_gallery_too_small_is_refused(identities: int, photos: int, tmp_path: Path):
    with pytest.raises(UsageError, match="a demo needs at least"):
        gallery.build(tmp_path, identities, photos, 0)


def test_the_plan_does_not_depend_on_other_galleries():
    assert gallery.plan(3, 12, seed=1) == gallery.plan(3, 12, seed=1)
    assert [o.kind for o in gallery.plan(3, 12, seed=1)] != [o.kind for o in gallery.plan(4, 12, seed=1)]
    assert json.dumps([str(o.kind) for o in gallery.plan(3, 12, seed=1)]).count("clean") == 6


def test_small_galleries_share_the_kinds_among_them():
    kinds = {offer.kind for identity in range(3) for offer in gallery.plan(identity, 12, seed=1)}
    assert kinds == set(Kind)


def test_copies_repeat_clean_photos():
    offers = {o.number: o for o in gallery.plan(0, 48, seed=9)}
    copies = [o for o in offers.values() if o.copy_of is not None]
    assert copies
    assert all(offers[o.copy_of].kind == Kind.CLEAN for o in copies)


def test_near_copies_stay_large_enough():
    buffer = io.BytesIO()
    Image.new("RGB", (1060, 1325)).save(buffer, "JPEG")
    for seed in range(20):
        copy = Image.open(io.BytesIO(gallery.near_copy(buffer.getvalue(), np.random.default_rng(seed))))
        assert min(copy.size) >= 1000

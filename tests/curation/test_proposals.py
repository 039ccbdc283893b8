"""Galleries that may be of one person are proposed for merging, each pair once, and nothing is merged."""

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bolid.curation import proposals
from bolid.curation.config import CurateConfig
from bolid.curation.decisions import Decisions, decide
from bolid.curation.measured import MainFace, Measured
from bolid.curation.proposals import Proposal
from bolid.curation.stages import identity
from bolid.curation.stages.face import Face
from bolid.curation.stages.identity import Cosines
from bolid.curation.stages.pose import People

CONFIG = CurateConfig(min_res=10, min_photos=1)
FAR = [0x0, 0xFFFF_FFFF, 0xFFFF_FFFF_0000_0000, 0xF0F0_F0F0_F0F0_F0F0, 0x0F0F_0F0F_F0F0_F0F0, 0xAAAA_AAAA_5555_5555]
"""Hashes that differ in 32 bits or more."""


def photo(sha256: str, phash: int, side: int = 100, defect: str | None = None) -> Measured:
    return Measured(sha256, defect, side, side, 1.0, phash)


def decided(rows: list[tuple[str, Measured]], config: CurateConfig = CONFIG) -> Decisions:
    images = [{"sha256": known.sha256, "identity": identity} for identity, known in rows]
    return decide(images, {known.sha256: known for _, known in rows}, {}, config, None)


def test_the_same_bytes_and_near_copies_in_two_galleries_are_proposed_once_a_pair():
    both, other, near, copy = photo("b", FAR[0]), photo("o", FAR[1]), photo("n", FAR[2]), photo("c", FAR[2] ^ 0b101)
    further = photo("f", FAR[1] ^ 0b1)
    rows = [("eve", both), ("ann", both), ("ann", near), ("eve", copy), ("ann", other), ("eve", further)]
    decisions = decided([*rows, ("bob", photo("x", FAR[3]))])
    assert decisions.proposed == [
        Proposal("near_photo", "ann", "eve", 1.0, 2, "o", "f"),
        Proposal("same_photo", "ann", "eve", 0.0, 1, "b", "b"),
    ]
    assert all(outcome.keep for outcome in decisions.outcomes)
    line = "ann and eve seem to be one person: 2 photos are nearly the same, 1 photo is the same"
    assert decisions.remarks() == [line]


@pytest.mark.parametrize(("bits", "found"), [(4, 1), (5, 0)])
def test_near_is_the_threshold_of_near_duplicates(bits: int, found: int):
    rows = [("ann", photo("a", FAR[0])), ("bob", photo("b", FAR[0] ^ (2**bits - 1)))]
    assert len(decided(rows).proposed) == found


def test_only_photos_that_stay_or_whose_gallery_is_thin_speak():
    small, broken = photo("s", FAR[0], side=9), Measured("d", "corrupt", None, None, None, None)
    rows = [(name, each) for name in ("ann", "bob") for each in (small, broken)]
    assert decided([*rows, ("ann", photo("a", FAR[1])), ("bob", photo("b", FAR[2]))]).proposed == []
    thin = decided([("ann", photo("t", FAR[3])), ("bob", photo("t", FAR[3]))], CurateConfig(min_res=10, min_photos=2))
    assert [outcome.verdict and outcome.verdict.reason for outcome in thin.outcomes] == ["too_few_photos"] * 2
    assert [each.kind for each in thin.proposed] == ["same_photo"]


@pytest.mark.parametrize("apart", [0, 1])
@pytest.mark.parametrize("galleries", [proposals.CROWD, proposals.CROWD + 1])
def test_a_picture_in_very_many_galleries_is_an_advertisement(galleries: int, apart: int):
    many = [(f"p{n:02d}", photo(f"ad{n * apart}", FAR[0] ^ (n % 2 * apart))) for n in range(galleries)]
    own = [("p00", photo("own", FAR[1])), ("p01", photo("copy", FAR[1] ^ 2))]
    found = decided(many + own).proposed
    expected = galleries * (galleries - 1) // 2 if galleries <= proposals.CROWD else 0
    assert sum(each.count for each in found) == expected + 1
    assert ("p00", "p01") in [(each.identity_a, each.identity_b) for each in found]


def test_galleries_with_one_face_reach_the_table_through_the_decisions(tmp_path: Path):
    direction = np.eye(512, dtype=np.float32)
    rows = []
    for n, (name, axis) in enumerate([("ann", 0)] * 3 + [("bob", 0)] * 4 + [("eve", 1)] * 3):
        box, points = np.zeros(4, np.float32), np.zeros((5, 2), np.float32)
        face = MainFace(Face(0, 0.9, 80.0, True), box, points, direction[axis], 1.0, 0.5)
        known = Measured(f"s{n}", None, 100, 100, 1.0, int(np.random.default_rng(n).integers(2**63)), face=face)
        rows.append((name, known))
    images = [{"sha256": known.sha256, "identity": name} for name, known in rows]
    photos = {known.sha256: known for _, known in rows}
    decisions = decide(images, photos, {}, CONFIG, Cosines(0.3, 0.4, 0.28, 0.6))
    proposals.write(tmp_path / "proposals.parquet", decisions.proposed)
    [row] = pq.read_table(tmp_path / "proposals.parquet").to_pylist()
    assert (row["kind"], row["identity_a"], row["identity_b"], row["count"]) == ("same_face", "ann", "bob", 3)
    assert row["value"] == pytest.approx(1.0)
    assert (row["sha_a"], row["sha_b"]) == ("s0", "s3")
    assert decisions.remarks() == ["ann and bob seem to be one person: cosine 1.00"]


def test_remarks_are_bounded_and_an_empty_table_has_its_columns(tmp_path: Path):
    many = [Proposal("near_photo", "a", f"b{n:03d}", 2.0, 1, "x", "y") for n in range(proposals.MOST_REMARKS + 7)]
    lines = proposals.remarks(many)
    assert len(lines) == proposals.MOST_REMARKS + 1
    assert lines[-1] == "7 more pairs of galleries: see proposals.parquet"
    proposals.write(tmp_path / "p.parquet", [])
    assert pq.read_table(tmp_path / "p.parquet").schema == proposals.SCHEMA


def test_a_large_copy_that_is_rejected_takes_no_smaller_one_with_it():
    large = replace(photo("large", FAR[0], side=200), people=People(0, 2, 0.9, 0.8))
    small = replace(photo("small", FAR[0] ^ 1, side=100), people=People(0, 1, 0.9, 0.0))
    outcomes = decided([("ann", large), ("ann", small)]).outcomes
    assert [outcome.verdict and outcome.verdict.reason for outcome in outcomes] == ["two_people", None]
    blurred = replace(photo("blurred", FAR[0], side=200), sharpness=0.5)
    config = CONFIG.model_copy(update={"quality": CONFIG.quality.model_copy(update={"min_sharpness": 0.8})})
    outcomes = decided([("ann", blurred), ("ann", photo("sharp", FAR[0] ^ 1))], config).outcomes
    assert [outcome.verdict and outcome.verdict.reason for outcome in outcomes] == ["blurred", None]


@pytest.mark.parametrize("pairs", [1, 30, 640])
def test_centres_are_compared_in_portions_each_pair_once(pairs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identity, "_PAIRS", pairs)
    chance = np.random.default_rng(4)
    centres = {f"p{n}": chance.normal(size=3).astype(np.float32) for n in range(10)}
    expected = {}
    for a, b in combinations(centres, 2):
        one, other = centres[a].astype(float), centres[b].astype(float)
        cosine = one @ other / math.sqrt((one @ one) * (other @ other))
        expected |= {(a, b): cosine} if cosine >= 0.5 else {}
    found = identity.alike(centres, Cosines(0.3, merge=0.5))
    assert len(expected) > 3
    assert {(a, b): pytest.approx(cosine) for a, b, cosine in found} == expected
    assert len(found) == len(expected)

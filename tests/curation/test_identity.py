"""Who is in a gallery, decided from embeddings whose cosines are known."""

import itertools

import numpy as np
import pytest
from bolid.curation.stages.identity import Cosines, View, alike, centre_cosines, decide, linked
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BUFFALO = Cosines(same=0.28, keep=0.40, reject=0.28, merge=0.60)


def person(which: int, photos: int, cosine: float, seed: int = 0) -> Floats:
    """Unit vectors `[photos, 512]` whose pairwise cosines are exactly `cosine`; other persons' are orthogonal."""
    vectors = np.zeros((photos, 512))
    vectors[:, which] = np.sqrt(cosine)
    for photo in range(photos):
        vectors[photo, 40 + 50 * which + photo] = np.sqrt(1 - cosine)
    return vectors.astype(np.float32)


def judged(faces: Floats, cosines: Cosines = BUFFALO, **others: View):
    views = {index: View(face) for index, face in enumerate(faces)}
    views |= {1000 + index: view for index, view in enumerate(others.values())}
    return decide(views, cosines, min_faces=3, outlier_mad=3.5, min_keypoints=2)


def test_the_cosine_to_the_centre_of_the_others_has_its_closed_form():
    faces, count, cosine = person(0, 10, 0.46), 10, 0.46
    others = count - 1 - int(0.1 * count)  # the trimmed one is none of them
    expected = cosine / np.sqrt((1 + (others - 1) * cosine) / others)
    scores = centre_cosines(faces, np.arange(count))
    assert sorted(scores)[:-1] == pytest.approx([expected] * 9, abs=1e-5)


def test_a_face_is_never_held_against_itself():
    alone = np.eye(512, dtype=np.float32)[:1]
    gallery = person(1, 5, 0.5)
    gallery[0] = alone[0]
    assert centre_cosines(gallery, np.arange(5))[0] == pytest.approx(0.0, abs=1e-6)


def test_somebody_else_is_rejected_and_the_gallery_is_kept():
    gallery = judged(np.concatenate([person(0, 12, 0.46), person(1, 2, 0.46)]))
    assert set(gallery.verdicts) == {12, 13}
    verdict = gallery.verdicts[12]
    assert (verdict.stage, verdict.reason, verdict.value, verdict.threshold) == (
        "identity",
        "wrong_person",
        0.0,
        0.4,  # an outlier far below the median: the limit is that of beyond doubt
    )
    assert all(gallery.findings[index].evidence == "face" for index in range(14))
    assert gallery.groups == [12]


def test_a_doubtful_face_is_kept_for_review_unless_it_is_an_outlier():
    rng = np.random.default_rng(0)
    base = np.zeros(512)
    base[0] = 1.0
    near = [base + 0.045 * rng.normal(size=512) for _ in range(12)]
    near = [vector / np.linalg.norm(vector) for vector in near]
    doubtful = np.zeros(512)
    doubtful[0], doubtful[511] = 0.33, np.sqrt(1 - 0.33**2)
    faces = np.stack([*near, doubtful]).astype(np.float32)
    outlier = judged(faces)
    assert set(outlier.verdicts) == {12}
    assert 0.28 < outlier.findings[12].score < 0.40
    views = {index: View(face) for index, face in enumerate(faces)}
    kept = decide(views, BUFFALO, min_faces=3, outlier_mad=1e6, min_keypoints=2)
    assert kept.verdicts == {}
    assert kept.findings[12].review
    assert not kept.findings[0].review


def test_two_people_are_told_apart_and_reported_not_averaged():
    gallery = judged(np.concatenate([person(0, 8, 0.46), person(1, 6, 0.46)]))
    assert gallery.groups == [8, 6]
    assert set(gallery.verdicts) == set(range(8, 14))


def test_without_thresholds_of_its_own_a_model_is_judged_by_the_cosine_of_a_pair():
    # A face whose mean cosine with the gallery is just above or below `same`.
    for mean, kept in ((0.32, True), (0.15, False)):
        gallery = person(0, 12, 0.64)
        face = np.zeros((1, 512), np.float32)
        face[0, 0] = mean / 0.8
        face[0, 511] = np.sqrt(1 - face[0, 0] ** 2)
        found = judged(np.concatenate([gallery, face]), Cosines(same=0.30))
        assert (12 not in found.verdicts) is kept
        assert not {*range(12)} & set(found.verdicts)


def test_views_without_a_face_stay_on_the_word_of_the_gallery():
    back, unclear, crowd = View(None, 1, 12), View(None, 1, 1), View(None, 2, 12)
    gallery = judged(person(0, 6, 0.5), back=back, unclear=unclear, crowd=crowd)
    assert gallery.findings[1000].evidence == "gallery"
    assert set(gallery.verdicts) == {1001, 1002}
    said = [(verdict.reason, verdict.value, verdict.threshold) for verdict in gallery.verdicts.values()]
    assert said == [("no_evidence", 1, 2), ("no_evidence", 2, 1)]


def test_a_gallery_with_too_few_faces_stays_as_it_is():
    gallery = judged(np.concatenate([person(0, 1, 0.5), person(1, 1, 0.5)]), back=View(None, 1, 0))
    assert gallery.verdicts == {}
    assert {finding.evidence for finding in gallery.findings.values()} == {"gallery"}
    assert gallery.centre is None


def test_faces_that_are_all_of_different_people_speak_against_nobody():
    everyone = np.concatenate([person(which, 1, 0.5) for which in range(5)] + [person(5, 2, 0.5)])
    gallery = judged(everyone, back=View(None, 1, 0))
    assert gallery.verdicts == {}
    assert {finding.evidence for finding in gallery.findings.values()} == {"gallery"}


def test_galleries_of_one_person_are_proposed():
    def centre(which: int) -> Floats:
        return person(which, 20, 0.46).mean(axis=0)

    for cosines in (BUFFALO, Cosines(same=0.28)):
        again = np.concatenate([person(0, 10, 0.46), person(0, 30, 0.46)[10:]])
        found = alike({"ann": centre(0), "bob": centre(1), "anna": again.mean(axis=0)}, cosines)
        assert [pair[:2] for pair in found] == [("ann", "anna")]
        assert found[0][2] > 0.9
    assert alike({"ann": centre(0)}, BUFFALO) == []


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_average_linkage(seed: int):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 32))
    faces = centres[rng.integers(0, 4, 30)] + rng.normal(size=(30, 32)) * 0.8
    faces = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    same = 0.35
    expected = {frozenset([index]) for index in range(len(faces))}

    def closeness(pair: tuple[frozenset[int], frozenset[int]]) -> float:
        return float(np.mean([faces[a].astype(float) @ faces[b].astype(float) for a in pair[0] for b in pair[1]]))

    while closeness(best := max(itertools.combinations(expected, 2), key=closeness)) >= same:
        expected = expected - set(best) | {best[0] | best[1]}
    assert {frozenset(group.tolist()) for group in linked(faces, same)} == expected
    assert len(expected) > 1

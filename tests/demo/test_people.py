"""Procedural people: the same in every process, true to their own ground truth, and mute about who wears what."""

import hashlib
import io
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bolid.demo import people
from bolid.demo.people import albums, staging
from bolid.demo.people import photo as photo_module
from bolid.demo.people.background import PLACES
from bolid.demo.people.camera import FRAMINGS, VIEWS
from bolid.demo.people.clothes import COLOURS
from bolid.demo.people.pose import COCO_KEYPOINTS, POSES
from bolid.errors import UsageError
from PIL import Image

SIZE = (160, 224)
K = {name: i for i, name in enumerate(COCO_KEYPOINTS)}


def digest(photo: people.Photo) -> str:
    parts = (photo.image, photo.mask, photo.truth.keypoints, photo.truth.shape)
    text = photo.truth.caption + repr(sorted(photo.truth.attributes.items())) + repr(photo.truth.person_box)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts) + text.encode()).hexdigest()


@pytest.fixture(scope="module")
def album() -> list[people.Photo]:
    """Two photos of each pose, all over the yaws and framings."""
    return [
        people.take_photo(5, i, 3 * i, size=SIZE, pose=POSES[i % 6], yaw=-170 + 28.0 * i, framing=FRAMINGS[i // 3 % 4])
        for i in range(12)
    ]


# Determinism and independence


def test_a_fresh_process_draws_the_same_photo_bit_for_bit() -> None:
    code = (
        "import hashlib, numpy as np; from bolid.demo import people\n"
        "people.take_photo(1, 8, 0, size=(64, 64))\n"  # something else before, as in a worker's life
        "p = people.take_photo(11, 4, 2, size=(160, 224), companions=[9])\n"
        "parts = (p.image, p.mask, p.truth.keypoints, p.truth.shape)\n"
        "t = p.truth.caption + repr(sorted(p.truth.attributes.items())) + repr(p.truth.person_box)\n"
        "d = b''.join(np.ascontiguousarray(a).tobytes() for a in parts)\n"
        "print(hashlib.sha256(d + t.encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(people.take_photo(11, 4, 2, size=(160, 224), companions=[9]))


def test_seed_identity_and_number_each_change_the_photo() -> None:
    digests = {digest(people.take_photo(*key, size=(64, 64))) for key in ((0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 1, 2))}
    assert len(digests) == 4


def test_the_body_and_face_are_the_identitys_in_every_photo(album: list[people.Photo]) -> None:
    for photo in album:
        person = people.make_person(5, photo.truth.identity)
        np.testing.assert_array_equal(photo.truth.shape, person.shape)
    assert people.make_person(5, 3) == people.make_person(5, 3)


def test_clothes_and_place_ignore_the_body_and_face(monkeypatch: pytest.MonkeyPatch) -> None:
    before = people.take_photo(2, 6, 1, size=SIZE)
    other = people.make_person(2, 77)
    monkeypatch.setattr(photo_module, "make_person", lambda seed, identity: other)
    after = people.take_photo(2, 6, 1, size=SIZE)
    assert not np.array_equal(before.image, after.image)
    assert before.truth.attributes == after.truth.attributes
    assert before.truth.caption == after.truth.caption
    assert before.truth.yaw == after.truth.yaw


def test_clothes_place_pose_and_view_do_not_correlate_with_the_shape() -> None:
    count = 600
    shapes = np.array([people.make_person(3, i).shape for i in range(count)], float)
    drawn = []
    for i in range(count):
        plan = staging.draw_plan(photo_module._stream(3, photo_module._PHOTO, i, 0), SIZE, {}, together=False)
        drawn.append(
            (
                list(COLOURS).index(plan.outfit.top.colour),
                list(COLOURS).index(plan.outfit.bottom.colour),
                plan.outfit.top.length,
                plan.outfit.skirted,
                PLACES.index(plan.place.kind),
                POSES.index(plan.pose),
                abs(plan.yaw),
            )
        )
    both = np.concatenate([shapes, np.array(drawn, float)], 1)
    cross = np.corrcoef(both.T)[: shapes.shape[1], shapes.shape[1] :]
    # The standard error of a correlation of independent numbers is 1 / sqrt(count); 154 of them are looked at.
    assert np.abs(cross).max() < 4.5 / math.sqrt(count)


def test_the_clothes_of_one_identity_vary_as_much_as_those_of_all() -> None:
    def tops(pairs: list[tuple[int, int]]) -> int:
        plans = [
            staging.draw_plan(photo_module._stream(0, photo_module._PHOTO, *p), SIZE, {}, together=False) for p in pairs
        ]
        return len({(p.outfit.top.name, p.outfit.top.colour) for p in plans})

    one = tops([(4, n) for n in range(150)])
    all_ = tops([(i, 0) for i in range(150)])
    assert abs(one - all_) < 20
    assert one > 50


def test_fixing_one_factor_leaves_the_others() -> None:
    free = people.take_photo(0, 3, 5, size=SIZE)
    fixed = people.take_photo(0, 3, 5, size=SIZE, yaw=77.0)
    assert fixed.truth.yaw == 77.0
    assert fixed.truth.attributes == free.truth.attributes
    assert fixed.truth.framing == free.truth.framing


# The distribution


def test_all_poses_framings_and_views_occur_and_front_is_most_frequent() -> None:
    plans = [
        staging.draw_plan(photo_module._stream(0, photo_module._PHOTO, 0, n), None, {}, together=False)
        for n in range(400)
    ]
    assert {p.pose for p in plans} == set(POSES)
    assert {p.framing for p in plans} == set(FRAMINGS)
    views = [p.view for p in plans]
    assert set(views) == set(VIEWS)
    assert max(set(views), key=views.count) == "front"
    yaw = np.array([p.yaw for p in plans])
    assert np.histogram(yaw, 12, (-180, 180))[0].min() > 0
    assert all(1000 <= min(p.size) <= 1200 for p in plans)


def test_shapes_stay_in_their_ranges_and_use_them() -> None:
    assert len(people.SHAPE_NAMES) >= 12
    shapes = np.array([people.make_person(0, i).shape for i in range(400)], float)
    assert shapes.shape == (400, len(people.SHAPE_NAMES))
    for i, name in enumerate(people.SHAPE_NAMES):
        low, high = people.SHAPE_RANGES[name]
        assert low <= shapes[:, i].min() < shapes[:, i].max() <= high, name
        assert np.ptp(shapes[:, i]) > 0.4 * (high - low), name
    by = {name: shapes[:, i] for i, name in enumerate(people.SHAPE_NAMES)}
    parts = by["leg_length"] + by["torso_length"] + by["neck_length"] + by["head_height"]
    np.testing.assert_allclose(parts, by["stature"], atol=1e-5)


def test_faces_differ_between_identities() -> None:
    faces = [vars(people.make_person(0, i).face) for i in range(30)]
    for a, b in pairwise(faces):
        assert sum(a[key] != b[key] for key in a) >= 15


def test_names_and_slugs_are_unique() -> None:
    everyone = [people.make_person(0, i) for i in range(2000)]
    assert len({p.name for p in everyone}) == len({p.slug for p in everyone}) == 2000
    assert all(re.fullmatch(r"[a-z0-9_-]+", p.slug) for p in everyone)


# Geometry of the truth


def pinhole(photo: people.Photo) -> np.ndarray:
    """Project the photo's joints with a 3 x 4 matrix K [R | t], x right, y down, z ahead."""
    right, up, ahead = photo.camera.axes
    rotation = np.stack([right, -up, ahead])
    inner = np.array(
        [[photo.camera.focal, 0, photo.camera.centre[0]], [0, photo.camera.focal, photo.camera.centre[1]], [0, 0, 1]]
    )
    matrix = inner @ np.concatenate([rotation, (-rotation @ photo.camera.eye)[:, None]], 1)
    homogeneous = np.concatenate([photo.keypoints_3d, np.ones((17, 1))], 1) @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_keypoints_are_the_pinhole_projection_of_the_joints(album: list[people.Photo]) -> None:
    for photo in album:
        expected, got = pinhole(photo), photo.truth.keypoints
        inside = ((expected >= 0) & (expected < np.array(SIZE))).all(1)
        np.testing.assert_array_equal(got[:, 2] > 0, inside)
        np.testing.assert_allclose(got[inside, :2], expected[inside], atol=0.01)
        np.testing.assert_array_equal(got[~inside], 0)


def test_the_camera_is_level_orthonormal_and_in_front(album: list[people.Photo]) -> None:
    for photo in album:
        axes = photo.camera.axes
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert abs(axes[0, 1]) < 1e-9
        assert photo.camera.eye[2] > photo.keypoints_3d[:, 2].max()


def test_bones_have_the_shapes_lengths_in_every_pose(album: list[people.Photo]) -> None:
    for photo in album:
        shape = dict(zip(people.SHAPE_NAMES, photo.truth.shape.tolist(), strict=True))
        joint = {name: photo.keypoints_3d[i] for name, i in K.items()}

        def length(a: str, b: str, joint: dict[str, np.ndarray] = joint) -> float:
            return float(np.linalg.norm(joint[a] - joint[b]))

        for side in ("left", "right"):
            arm = length(f"{side}_shoulder", f"{side}_elbow") + length(f"{side}_elbow", f"{side}_wrist")
            leg = length(f"{side}_hip", f"{side}_knee") + length(f"{side}_knee", f"{side}_ankle")
            assert arm == pytest.approx(shape["arm_length"], rel=1e-5)
            assert leg == pytest.approx(shape["leg_length"] - 0.046 * shape["stature"], rel=1e-5)
        assert length("left_hip", "right_hip") == pytest.approx(0.52 * shape["hip_width"], rel=1e-5)


def test_yaw_is_the_heading_of_the_hips() -> None:
    for yaw in (-150.0, -60.0, 0.0, 35.0, 90.0, 170.0):
        photo = people.take_photo(0, 1, 1, size=(64, 96), pose="walking", yaw=yaw)
        left = photo.keypoints_3d[K["left_hip"]] - photo.keypoints_3d[K["right_hip"]]
        # Facing the camera (+z) with y up, the left hand points to +x; the heading is that vector turned by 90.
        assert math.degrees(math.atan2(-left[2], left[0])) == pytest.approx(yaw, abs=0.01)


def test_standing_feet_are_on_the_floor_and_the_crown_at_the_stature() -> None:
    photo = people.take_photo(0, 4, 0, size=(500, 700), pose="walking", framing="full", yaw=0.0)
    rows = np.flatnonzero(photo.mask.any(1))
    stature = float(photo.truth.shape[0])
    ankle, eye = photo.keypoints_3d[K["left_ankle"]], photo.keypoints_3d[K["left_eye"]]
    assert 0 < ankle[1] < 0.35
    assert 0.85 * stature < eye[1] < 0.95 * stature
    assert 0.6 * 700 < rows[-1] - rows[0] < 700


def test_visible_keypoints_lie_on_the_silhouette(album: list[people.Photo]) -> None:
    for photo in album:
        rows, columns = np.nonzero(photo.mask)
        for x, y, seen in photo.truth.keypoints:
            if seen == 2:
                assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).min() < 2.5


def test_the_box_is_that_of_the_mask(album: list[people.Photo]) -> None:
    for photo in album:
        rows, columns = np.nonzero(photo.mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert photo.truth.person_box == pytest.approx(box)
        assert photo.mask.mean() > 0.03


@pytest.mark.parametrize("identity", range(4))
def test_from_behind_the_face_is_hidden(identity: int) -> None:
    truth = people.take_photo(0, identity, 1, size=SIZE, pose="standing", framing="full", yaw=180.0).truth
    assert truth.view == "back"
    assert truth.face_visible < 0.05
    assert truth.face_box is None
    assert truth.face_landmarks is None
    assert [truth.keypoints[K[name], 2] for name in ("nose", "left_eye", "right_eye")] == [1, 1, 1]


@pytest.mark.parametrize("identity", range(4))
def test_from_the_front_the_face_is_seen(identity: int) -> None:
    truth = people.take_photo(0, identity, 1, size=(250, 350), pose="standing", framing="portrait", yaw=0.0).truth
    assert truth.view == "front"
    assert truth.face_visible > 0.7
    assert [truth.keypoints[K[name], 2] for name in ("nose", "left_eye", "right_eye")] == [2, 2, 2]
    assert truth.face_box is not None
    assert truth.face_landmarks is not None
    x0, y0, x1, y1 = truth.face_box
    marks = truth.face_landmarks
    assert ((marks > (x0, y0)) & (marks < (x1, y1))).all()
    assert marks[0, 0] < marks[2, 0] < marks[1, 0]  # the eye at the image's left, the nose, the other eye
    assert marks[3, 0] < marks[4, 0]
    assert marks[:2, 1].max() < marks[2, 1] < marks[3:, 1].min()
    assert truth.keypoints[K["left_eye"], 0] > truth.keypoints[K["right_eye"], 0]  # the person's left
    np.testing.assert_allclose(marks[0], truth.keypoints[K["right_eye"], :2], atol=1e-3)


def test_in_profile_the_far_side_is_hidden_by_the_body() -> None:
    truth = people.take_photo(0, 5, 1, size=SIZE, pose="standing", framing="full", yaw=90.0).truth
    assert truth.view == "side"
    # Facing the image's right, the right side is towards the camera.
    assert truth.keypoints[K["right_hip"], 2] == 2
    assert truth.keypoints[K["left_hip"], 2] == 1
    assert truth.keypoints[K["left_shoulder"], 2] == 1
    assert truth.keypoints[K["right_shoulder"], 2] == 2
    assert truth.keypoints[K["nose"], 0] > truth.keypoints[K["right_ear"], 0]


def test_a_portrait_leaves_the_legs_outside() -> None:
    truth = people.take_photo(0, 5, 1, size=SIZE, pose="standing", framing="portrait", yaw=10.0).truth
    for name in ("left_knee", "right_knee", "left_ankle", "right_ankle"):
        assert truth.keypoints[K[name]].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("yaw", "view"),
    [(0, "front"), (24, "front"), (-40, "three-quarter"), (90, "side"), (-100, "side"), (140, "back"), (540, "back")],
)
def test_views_by_yaw(yaw: float, view: str) -> None:
    assert people.take_photo(0, 0, 0, size=(48, 48), pose="standing", yaw=yaw).truth.view == view


# Captions


SHAPE_WORDS = (
    r"\b(tall|short|slim|thin|fat|heavy|broad|wide|narrow|slender|curvy|muscular|big|small|large|stout|petite|chubby"
    r"|shoulders|waistline|hips|belly|bust|legs|body shape|skin|face|hair|eyes|beard|man|woman|old|young)\b"
)


def test_captions_name_clothes_pose_view_and_place_but_nobody() -> None:
    captions = set()
    for n in range(60):
        identity = n % 7
        truth = people.take_photo(1, identity, n, size=(40, 56)).truth
        text, words = truth.caption, truth.attributes
        captions.add(text)
        person = people.make_person(1, identity)
        assert not any(part in text.lower() for part in (person.name.lower(), person.slug))
        cleaned = re.sub(r"head-and-shoulders|short-sleeved", "", text)
        assert not re.search(SHAPE_WORDS, cleaned, re.IGNORECASE), text
        assert words["top"] in text
        assert words["top_colour"] in text
        assert (words["background"] if words["background"] != "room" else "wall") in text
        assert re.search({"side": "side|profile", "back": "behind|away"}.get(truth.view, truth.view[:5]), text) or (
            truth.view in ("front", "three-quarter") and re.search("facing the camera|turned partly", text)
        )
    assert len(captions) == 60


# Companions, empty rooms, sizes, errors


def test_two_people_stand_side_by_side() -> None:
    photo = people.take_photo(0, 2, 1, size=(280, 280), companions=[5], framing="full", pose="standing", yaw=0.0)
    (other,) = photo.truth.companions
    assert other.identity == 5
    np.testing.assert_array_equal(other.shape, people.make_person(0, 5).shape)
    mine, theirs = photo.truth.person_box, other.person_box
    ratio = (theirs[3] - theirs[1]) / (mine[3] - mine[1])
    assert 0.7 < ratio < 1.4
    assert abs((mine[0] + mine[2]) - (theirs[0] + theirs[2])) / 2 > 0.3 * (mine[2] - mine[0])
    assert (other.keypoints[:, 2] == 2).sum() >= 10
    seen = other.keypoints[other.keypoints[:, 2] == 2]
    assert not photo.mask[seen[:, 1].astype(int), seen[:, 0].astype(int)].any()
    alone = people.take_photo(0, 2, 1, size=(280, 280), framing="full", pose="standing", yaw=0.0)
    assert alone.truth.attributes["top"] == photo.truth.attributes["top"]


def test_an_empty_room_is_a_picture_of_its_own() -> None:
    first = people.empty_room(0, 1, size=(200, 150))
    assert first.shape == (150, 200, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, people.empty_room(0, 1, size=(200, 150)))
    assert not np.array_equal(first, people.empty_room(0, 2, size=(200, 150)))


def test_a_photo_has_the_size_that_was_asked_for() -> None:
    for size in ((32, 48), (101, 77), (641, 523)):
        photo = people.take_photo(0, 0, 0, size=size)
        assert photo.image.shape == (size[1], size[0], 3)
        assert photo.mask.shape == (size[1], size[0])
        assert (photo.truth.width, photo.truth.height) == size
        assert 5 < photo.image.std() < 120


def test_jpeg_keeps_the_picture() -> None:
    photo = people.take_photo(0, 0, 0, size=SIZE)
    with Image.open(io.BytesIO(people.encode_jpeg(photo.image, 95))) as opened:
        assert opened.size == SIZE
        assert np.abs(np.asarray(opened).astype(int) - photo.image).mean() < 4


def test_wrong_values_are_named() -> None:
    with pytest.raises(UsageError, match="unknown pose 'flying'"):
        people.take_photo(0, 0, 0, size=SIZE, pose="flying")
    with pytest.raises(UsageError, match="unknown framing"):
        people.take_photo(0, 0, 0, size=SIZE, framing="macro")
    with pytest.raises(UsageError, match="unknown override 'hat'"):
        people.take_photo(0, 0, 0, size=SIZE, hat="red")
    with pytest.raises(UsageError, match="at least 32"):
        people.take_photo(0, 0, 0, size=(10, 400))
    with pytest.raises(UsageError, match="0 or more"):
        people.make_person(0, -1)
    with pytest.raises(UsageError, match="0 or more"):
        people.take_photo(0, 0, -1)


# The command


def test_the_command_writes_photos_and_their_truth_the_same_for_any_workers(tmp_path: Path) -> None:
    common = ["--identities", "2", "--photos", "2", "--size", "72x96", "--seed", "3"]
    assert albums.main([*common, "--out", str(tmp_path / "one")]) == 0
    assert albums.main([*common, "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    one = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}
    two = {p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("*") if p.is_file()}
    assert one == two
    assert len(one) == 5
    table = pd.read_parquet(tmp_path / "one" / "truth.parquet")
    assert list(table.columns) == albums.SCHEMA.names
    assert len(table) == 4
    for row in table.itertuples():
        with Image.open(tmp_path / "one" / row.path) as image:
            assert image.size == (row.width, row.height) == (72, 96)
        with Image.open(io.BytesIO(row.mask_png)) as mask:
            inside = np.nonzero(np.asarray(mask))
        assert list(row.person_box) == [inside[1].min(), inside[0].min(), inside[1].max() + 1, inside[0].max() + 1]
        assert len(row.keypoints) == 51
        assert len(row.shape) == len(people.SHAPE_NAMES)
        assert row.slug == people.make_person(3, row.identity).slug
        assert "top_colour" in dict(row.attributes)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--identities", "0", "--photos", "1"],
        ["--identities", "many", "--photos", "1"],
        ["--identities", "1", "--photos", "1", "--size", "10x10"],
        ["--identities", "1", "--photos", "1", "--size", "wide"],
        ["--identities", "1", "--photos", "1", "--workers", "0"],
        ["--identities", "1", "--photos", "1", "--seed", "-1"],
        ["--identities", "1"],
    ],
)
def test_a_wrong_argument_gives_one_line_and_exit_code_2(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert albums.main([*wrong, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "bolid.demo.people", "--identities", "x", "--photos", "1", "--out", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1

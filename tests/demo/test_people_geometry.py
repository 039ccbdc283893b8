"""The renderer's parts against closed forms: spheres, capsules, planes and angles."""

import math

import numpy as np
import pytest
from bolid.demo.people.body import body_mesh
from bolid.demo.people.camera import frame_points, look, wrap
from bolid.demo.people.clothes import draw_outfit
from bolid.demo.people.face import draw_face, head_mesh
from bolid.demo.people.field import Cone, Ellipsoid, Grid, smooth_min, spline
from bolid.demo.people.hair import hair_mesh
from bolid.demo.people.light import ShadowMap, blur
from bolid.demo.people.pose import Angles, Frame, pose_skeleton
from bolid.demo.people.raster import rasterize
from bolid.demo.people.shape import draw_shape
from bolid.demo.people.surface import Mesh, box, lattice, normals, surface_nets


def ball(radius: float, centre: tuple[float, float, float], step: float = 0.02) -> Mesh:
    middle = np.array(centre)
    grid = Grid.around(middle - radius, middle + radius, step)
    Ellipsoid(Frame(middle, np.eye(3)), (0, 0, 0), (radius, radius, radius)).add(grid, 0)
    vertices, faces = surface_nets(grid.values, grid.origin, step)
    return Mesh(vertices, faces, np.zeros(len(faces), np.int32))


def volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem: positive when all faces look outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def closed(mesh: Mesh) -> bool:
    """Whether each edge is used once in each direction."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    there = {tuple(e) for e in edges.tolist()}
    return len(there) == len(edges) and all((b, a) in there for a, b in there)


def test_surface_nets_of_a_sphere() -> None:
    mesh = ball(0.5, (0.1, -0.2, 0.3))
    offset = mesh.vertices - np.array([0.1, -0.2, 0.3])
    radius = np.linalg.norm(offset, axis=1)
    assert np.abs(radius - 0.5).max() < 0.003
    assert closed(mesh)
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.125, rel=0.01)
    unit = normals(mesh.vertices, mesh.faces)
    assert ((unit * offset).sum(1) / radius).min() > 0.99


def test_a_cone_of_equal_radii_is_a_capsule() -> None:
    a, b, r = np.array([0.0, 0.0, 0.0]), np.array([0.3, 0.4, 0.0]), 0.1
    rng = np.random.default_rng(0)
    p = rng.uniform(-0.5, 0.8, (200, 3)).astype(np.float32)
    t = np.clip(p @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    expected = np.linalg.norm(p - t[:, None] * (b - a), axis=1) - r
    got = Cone(a, b, r, r).distance(p[:, 0], p[:, 1], p[:, 2])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_smooth_min_is_min_away_from_the_seam_and_lower_by_k_over_4_on_it() -> None:
    a, b = np.array([0.0, 1.0, 0.2], np.float32), np.array([1.0, 0.0, 0.2], np.float32)
    np.testing.assert_allclose(smooth_min(a, b, 0.4), [0.0, 0.0, 0.1], atol=1e-6)


def test_the_spline_passes_its_knots_and_repeats_a_line() -> None:
    knots = (0.0, 0.2, 0.7, 1.0)
    np.testing.assert_allclose(spline(np.array(knots), knots, (1, 5, -2, 3)), (1, 5, -2, 3), atol=1e-12)
    x = np.linspace(0, 1, 17)
    np.testing.assert_allclose(spline(x, knots, [3 * k + 1 for k in knots]), 3 * x + 1, atol=1e-12)


def test_a_box_is_closed_outward_and_has_its_volume() -> None:
    assert volume(box((0, 0, 0), (1, 2, 3), 0)) == pytest.approx(6)


def test_a_rasterised_sphere_is_where_rays_meet_it() -> None:
    size, centre, radius = (90, 70), np.array([0.1, 0.05, 0.0]), 0.4
    camera = look(np.array([0.3, 0.6, 3.0]), np.array([0.0, 0.0, 0.0]), 120.0, size)
    mesh = ball(radius, tuple(centre), 0.01)
    screen, depth = camera.project(mesh.vertices.astype(float))
    seen = rasterize(screen, 1 / depth, mesh.faces, size)
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    ray = np.stack([(x - size[0] / 2) / 120, -(y - size[1] / 2) / 120, np.ones_like(x)], -1) @ camera.axes
    to = centre - camera.eye
    # |t * ray - to|^2 = radius^2
    a, b, c = (ray**2).sum(-1), ray @ to, to @ to - radius**2
    root = b * b - a * c
    hit = root > 0
    first = np.where(hit, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)  # ray has 1 along the axis: t is depth
    got = seen.nearness.reshape(size[1], size[0])
    assert (hit != (got > 0)).mean() < 0.01
    both = hit & (got > 0)
    inner = both & (root > 0.02)
    np.testing.assert_allclose(1 / got[inner], first[inner], atol=0.004)
    np.testing.assert_allclose(seen.weights.sum(1), 1, atol=1e-5)


def test_neighbouring_triangles_leave_no_gap_and_the_nearer_wins() -> None:
    points = np.array([[2.0, 2, 0], [2.0, 30, 0], [40.0, 2, 0], [40.0, 30, 0]])
    faces = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    one = rasterize(points[:, :2], np.full(4, 0.5), faces, (50, 40))
    assert len(one.pixel) == 38 * 28  # every pixel centre inside, none twice
    both = rasterize(
        np.concatenate([points[:, :2]] * 2),
        np.array([0.5] * 4 + [0.7] * 4),
        np.concatenate([faces, faces + 4]),
        (50, 40),
    )
    assert (both.triangle >= 2).all()
    behind = rasterize(points[:, :2], np.full(4, 0.5), faces[:, ::-1].copy(), (50, 40))
    assert len(behind.pixel) == 0


def test_the_framing_holds_the_spheres_and_fills_the_picture() -> None:
    points, radii = np.array([[0.0, 0.1, 0.0], [0.2, 1.7, 0.3], [-0.5, 1.0, 0.1]]), np.array([0.1, 0.15, 0.05])
    camera = frame_points(points, radii, (300, 400), pitch=8, field_of_view=40, fill=0.9)
    xy, depth = camera.project(points)
    reach = camera.focal * radii / depth
    low, high = (xy - reach[:, None]).min(0), (xy + reach[:, None]).max(0)
    assert (low > 0).all()
    assert (high < (300, 400)).all()
    assert max((high - low) / (300, 400)) == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose((low + high) / 2, (150, 200), atol=2)


def test_angles_wrap_into_a_half_open_circle() -> None:
    assert [wrap(v) for v in (0, 180, -180, 190, -190, 540)] == [0, 180, 180, -170, 170, 180]


def test_a_shadow_falls_where_the_lamp_is_blocked() -> None:
    mesh = ball(0.3, (0.0, 1.0, 0.0))
    lamp = ShadowMap(mesh.vertices, mesh.faces, np.array([0.0, 1.0, 0.0]), 128)
    floor = np.array([[0.0, 0.0, 0.0], [0.15, 0.0, 0.1], [0.6, 0.0, 0.0], [0.0, 0.0, -0.7]], np.float32)
    depth = lamp.cast(floor, lamp.veil())
    assert depth[0] > 0.9
    assert depth[1] > 0.7
    np.testing.assert_allclose(depth[2:], 0, atol=1e-3)
    lit = lamp.lit(np.array([[0.0, 1.31, 0.0], [0.0, 0.6, 0.0]], np.float32), 0.02, 0.02)
    np.testing.assert_allclose(lit, [1, 0])


def test_a_box_blur_keeps_a_constant_and_spreads_a_point() -> None:
    flat = np.full((9, 7), 3.0, np.float32)
    np.testing.assert_allclose(blur(flat, 2), 3, rtol=1e-6)
    point = np.zeros((9, 9), np.float32)
    point[4, 4] = 1
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = 1 / 9
    np.testing.assert_allclose(blur(point, 1), expected, atol=1e-6)


def test_the_straight_skeleton_stands_as_the_shape_says() -> None:
    shape = draw_shape(np.random.default_rng(4))
    none = Angles(arm_out=[0, 0], elbow=[0, 0], leg_out=[0, 0], toe_out=[0, 0], knee=[0, 0])
    bones = pose_skeleton(shape, none)
    assert bones["foot_l"].origin[1] == pytest.approx(0.046 * shape.stature)
    assert bones["thigh_l"].origin[1] == pytest.approx(shape.leg_length)
    assert bones["neck"].origin[1] == pytest.approx(shape.leg_length + shape.torso_length)
    below = bones["upper_arm_r"].origin - bones["hand_r"].origin
    np.testing.assert_allclose(below, [0, shape.arm_length, 0], atol=1e-9)
    crown = bones["head"].at(0, shape.head_height, 0)
    # The neck bends 6 degrees forward, which lowers the head by (1 - cos 6) of the neck: less than a millimetre.
    assert crown[1] == pytest.approx(shape.stature, abs=0.002)


def test_limbs_bend_the_way_people_do() -> None:
    shape = draw_shape(np.random.default_rng(4))
    bones = pose_skeleton(shape, Angles(elbow=[90, 90], arm_out=[0, 0], knee=[60, 60], leg_flex=[60, 60]))
    assert bones["hand_l"].origin[2] - bones["forearm_l"].origin[2] == pytest.approx(0.465 * shape.arm_length)
    assert bones["shin_l"].origin[2] > bones["thigh_l"].origin[2]
    np.testing.assert_allclose(bones["shin_r"].axes[1, 1], math.cos(0), atol=0.01)
    assert bones["upper_arm_l"].origin[0] > 0 > bones["upper_arm_r"].origin[0]


def test_body_head_and_hair_are_proper_surfaces() -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        shape, face, outfit = draw_shape(rng), draw_face(rng), draw_outfit(rng)
        mesh = body_mesh(shape, pose_skeleton(shape, Angles()), outfit, 0.02)
        assert 0.03 < volume(mesh) < 0.25  # cubic metres
        head = head_mesh(face, 48, 1)
        assert np.isfinite(head.vertices).all()
        height = np.ptp(head.vertices[:, 1])
        assert height == pytest.approx(1, abs=0.03)
        hair = hair_mesh(face, 40, 2)
        assert (hair is None) == (face.hair_style == "bald")
        assert hair is None or np.isfinite(hair.vertices).all()


def test_a_lattice_that_goes_up_and_round_looks_outward() -> None:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rings = [
        np.stack([r * np.sin(angle), np.full(24, y), r * np.cos(angle)], -1)
        for y, r in ((0, 1e-6), (0, 1), (2, 1), (2, 1e-6))
    ]
    mesh = lattice(np.stack(rings), 0)
    polygon = 24 / 2 * math.sin(2 * math.pi / 24)
    assert volume(mesh) == pytest.approx(2 * polygon, rel=1e-4)


def test_headroom_moves_the_spheres_up_in_a_tall_picture() -> None:
    points, radii = np.array([[-0.5, 1.5, 0.0], [0.5, 1.5, 0.0]]), np.array([0.1, 0.1])
    camera = frame_points(points, radii, (300, 600), pitch=0, field_of_view=40, fill=0.9, headroom=0.1)
    xy, depth = camera.project(points)
    assert (xy[:, 1] - camera.focal * radii / depth).min() == pytest.approx(60, abs=0.5)

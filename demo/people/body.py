"""The body's surface: trunk, limbs and clothes as one smooth mesh, labelled by part."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .clothes import Outfit
from .field import Cone, Ellipsoid, Grid, Loft, smooth_min
from .pose import Frame, Skeleton, shoulder_offset
from .shape import Shape
from .surface import Mesh, surface_nets

Array = NDArray[np.float64]

PARTS: tuple[str, ...] = (
    "pelvis",
    "chest",
    "neck",
    "upper_arm_l",
    "upper_arm_r",
    "forearm_l",
    "forearm_r",
    "thigh_l",
    "thigh_r",
    "shin_l",
    "shin_r",
    "hand_l",
    "hand_r",
    "foot_l",
    "foot_r",
    "head",
    "hair",
)
HEM = 0.03  # height of a top's hem above the hip joints, metres
PART: dict[str, int] = {name: i for i, name in enumerate(PARTS)}
FURNITURE = len(PARTS)
PEOPLE_STRIDE = 32  # part codes of the second person start here, of the third at twice this


def _radius(girth: float) -> float:
    return girth / (2 * math.pi)


def limbs(shape: Shape, skeleton: Skeleton) -> dict[str, Cone]:
    """The bare arms and legs, joint to joint."""
    out = {}
    arm, fore = _radius(shape.upper_arm_girth), _radius(shape.forearm_girth)
    thigh, calf = _radius(shape.thigh_girth), _radius(shape.calf_girth)
    knee = 0.5 * (0.62 * thigh + 0.9 * calf)
    for s in "lr":
        shoulder, elbow, wrist = (skeleton[f"{b}_{s}"].origin for b in ("upper_arm", "forearm", "hand"))
        hip, knee_at, ankle = (skeleton[f"{b}_{s}"].origin for b in ("thigh", "shin", "foot"))
        out[f"upper_arm_{s}"] = Cone(shoulder, elbow, arm * 1.02, fore * 0.90, swell=0.08 * arm, at=0.45)
        out[f"forearm_{s}"] = Cone(elbow, wrist, fore * 0.92, fore * 0.60, swell=0.17 * fore, at=0.3)
        out[f"thigh_{s}"] = Cone(hip, knee_at, thigh * 1.02, knee, swell=0.06 * thigh, at=0.35)
        out[f"shin_{s}"] = Cone(knee_at, ankle, knee * 0.97, calf * 0.60, swell=0.24 * calf, at=0.32)
    return out


def trunk(shape: Shape, skeleton: Skeleton) -> tuple[Loft, Loft]:
    """Lofts of the pelvis (crotch to waist) and the chest (waist to shoulders)."""
    t, s = shape.torso_length, shape
    waist_w, waist_d, hip_w, hip_d = s.waist_width / 2, s.waist_depth / 2, s.hip_width / 2, s.hip_depth / 2
    chest_w, chest_d = s.chest_width / 2, s.chest_depth / 2
    pelvis = Loft(
        skeleton["pelvis"],
        (-0.10, -0.03, 0.05, 0.13, 0.26 * t, 0.40 * t),
        (0.74 * hip_w, 0.97 * hip_w, 0.985 * hip_w, 0.93 * hip_w, 0.5 * hip_w + 0.5 * waist_w, waist_w),
        (0.55 * hip_d, 0.86 * hip_d, 0.96 * hip_d, 0.97 * hip_d, 0.5 * hip_d + 0.5 * waist_d, waist_d),
        (0.0, -0.006, -0.012, -0.006, 0.004, 0.006),
    )
    low = -0.06 * t
    top = 0.65 * t
    sw = shoulder_offset(s)
    chest = Loft(
        skeleton["chest"],
        (low, 0.1 * t, 0.26 * t, 0.42 * t, 0.54 * t, top - 0.028, top + 0.012),
        (waist_w, 0.55 * waist_w + 0.45 * chest_w, chest_w, 1.05 * chest_w, 0.94 * sw + 0.01, 0.74 * sw, 0.42 * sw),
        (waist_d, 0.5 * waist_d + 0.5 * chest_d, 0.97 * chest_d, 0.96 * chest_d, 0.78 * chest_d, 0.50 * chest_d, 0.06),
        (0.006, 0.004, 0.004, 0.0, -0.008, -0.018, -0.024),
    )
    return pelvis, chest


def _torso_grid(grid: Grid, shape: Shape, skeleton: Skeleton, outfit: Outfit) -> None:
    pelvis, chest = trunk(shape, skeleton)
    t, ease = shape.torso_length, outfit.ease
    frame = skeleton["chest"]
    replace(pelvis, ease=0.005).add(grid, 0)
    replace(chest, ease=0.4 * ease).add(grid, 0.06)
    if shape.bust > 0.004:
        for sign in (1, -1):
            half = 0.42 * shape.chest_width * 0.52
            Ellipsoid(
                frame,
                (sign * 0.225 * shape.chest_width, 0.36 * t, 0.26 * shape.chest_depth + 0.45 * shape.bust),
                (half, half * 1.05, 0.22 * shape.chest_depth + 0.62 * shape.bust),
            ).add(grid, 0.04)
    if shape.belly > 0.008:
        Ellipsoid(
            frame,
            (0, -0.04 * t, 0.18 * shape.waist_depth + 0.3 * shape.belly),
            (0.42 * shape.waist_width, 0.23 * t, 0.33 * shape.waist_depth + 0.72 * shape.belly),
        ).add(grid, 0.06)
    neck = _radius(shape.neck_girth)
    base, top = skeleton["neck"].at(0, -0.05, -0.012), skeleton["head"].at(0, 0.22 * shape.head_height, -0.012)
    Cone(base, top, neck * 0.98, neck * 0.88).add(grid, 0.04)
    if outfit.top.name == "hoodie":
        Ellipsoid(frame, (0, 0.65 * t - 0.005, -0.085), (0.105, 0.062, 0.048)).add(grid, 0.03)
    for sign, s in ((1, "l"), (-1, "r")):  # the slope from neck to shoulder
        shoulder = skeleton[f"upper_arm_{s}"]
        tip = shoulder.origin + frame.axes @ np.array([-sign * 0.012, 0.012, -0.004])
        Cone(skeleton["neck"].at(sign * 0.02, -0.012, -0.022), tip, neck * 0.55, 0.034).add(grid, 0.045)
    if not outfit.skirted and outfit.top.name != "tank top":  # the top's hem over the waistband
        replace(pelvis, ease=0.011 + 0.6 * ease).add(grid, 0, below=HEM)


def _sleeve(cone: Cone, ease: float, end: float, flare: float = 0.0) -> Cone:
    """Cloth round a bone up to the share ``end`` of it, cut flat."""
    tip = cone.a + (cone.b - cone.a) * end
    radius = cone.ra + (cone.rb - cone.ra) * end
    return Cone(cone.a, tip, cone.ra + ease, radius + ease + flare, swell=cone.swell * end, at=cone.at, flat=end < 1)


def _limb_grid(grid: Grid, upper: Cone, lower: Cone, cloth: float, length: float, flare: float) -> tuple[Grid, Grid]:
    """Upper and lower limb with their sleeves, on grids of their own."""
    high, low = grid.like(), grid.like()
    upper.add(high, 0)
    lower.add(low, 0)
    if length > 0:
        _sleeve(upper, cloth, min(length, 1.0), flare if length <= 1 else 0.0).add(high, 0)
    if length > 1:
        _sleeve(lower, cloth, min(length - 1.0, 1.0), flare).add(low, 0)
    return high, low


def hem_plane(skeleton: Skeleton, length: float) -> tuple[Array, Array]:
    """A point on a skirt's hem and the direction down past it; ``length`` 0 hips, 1 knees, 2 ankles."""
    hip, knee, ankle = ((skeleton[f"{b}_l"].origin + skeleton[f"{b}_r"].origin) / 2 for b in ("thigh", "shin", "foot"))
    start, end, share = (hip, knee, length) if length <= 1 else (knee, ankle, length - 1)
    down = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    return start + (end - start) * share, down


def _skirt(grid: Grid, shape: Shape, skeleton: Skeleton, length: float) -> None:
    """A tube round both thighs and on towards the hem, cut square to the mean direction of the legs."""
    tube = grid.like()
    thigh = _radius(shape.thigh_girth)
    for s in "lr":
        hip, knee, ankle = (skeleton[f"{b}_{s}"].origin for b in ("thigh", "shin", "foot"))
        Cone(hip, knee, thigh * 1.06 + 0.012, 0.74 * thigh + 0.045).add(tube, 0.14)
        if length > 1:
            Cone(knee, ankle, 0.74 * thigh + 0.045, 0.74 * thigh + 0.065).add(tube, 0.14)
    at, down = hem_plane(skeleton, length)
    nx, ny, nz = tube.values.shape
    x, y, z = tube.local((slice(0, nx), slice(0, ny), slice(0, nz)), Frame(at, np.eye(3)))
    past = x * np.float32(down[0]) + y * np.float32(down[1]) + z * np.float32(down[2])
    np.minimum(grid.values, np.maximum(tube.values, past), out=grid.values)


def body_mesh(shape: Shape, skeleton: Skeleton, outfit: Outfit, step: float, *, legs: bool = True) -> Mesh:
    """The clothed body without head, hands and feet, in the skeleton's frame.

    ``step`` is the grid's in metres; without ``legs`` the body ends at the hips (for photos that do not show them).
    """
    bare = limbs(shape, skeleton)
    names = [n for n in bare if legs or "arm" in n]
    ends = [p for n in names for p in (bare[n].a, bare[n].b)]
    ends += [skeleton["chest"].origin, skeleton["head"].at(0, 0.25 * shape.head_height, 0)]
    reach = max(shape.hip_width, shape.chest_depth, shape.waist_depth + 2 * shape.belly) * 0.5 + 0.03
    low = np.minimum(np.min(ends, 0) - 0.12, skeleton["pelvis"].origin - reach)
    high = np.maximum(np.max(ends, 0) + 0.12, skeleton["pelvis"].origin + reach)
    torso = Grid.around(low, high, step)
    _torso_grid(torso, shape, skeleton, outfit)
    whole = Grid(torso.origin, torso.step, torso.values.copy())
    long_sleeve = outfit.top.length
    for s in "lr":
        cloth = 0.006 + 0.7 * outfit.ease
        pair = _limb_grid(torso, bare[f"upper_arm_{s}"], bare[f"forearm_{s}"], cloth, long_sleeve, 0.004)
        _join_limb(whole, torso, *pair, 0.032, 0.02)
        if not legs:
            continue
        length = 0.0 if outfit.skirted else outfit.bottom.length
        loose = {"leggings": 0.001, "jeans": 0.009, "shorts": 0.014}.get(outfit.bottom.name, 0.016)
        flare = {"leggings": 0.0, "jeans": 0.012, "shorts": 0.012}.get(outfit.bottom.name, 0.02)
        pair = _limb_grid(torso, bare[f"thigh_{s}"], bare[f"shin_{s}"], loose, length, flare)
        _join_limb(whole, torso, *pair, 0.05, 0.025)
    if legs and outfit.skirted:
        _skirt(whole, shape, skeleton, outfit.bottom.length)
    vertices, faces = surface_nets(whole.values, whole.origin, step)
    return Mesh(vertices, faces, label(vertices, bare, shape, skeleton)[faces[:, 0]])


def _join_limb(whole: Grid, torso: Grid, upper: Grid, lower: Grid, root: float, joint: float) -> None:
    """Blend the upper limb into the trunk and the lower limb into the upper one, and nothing else."""
    limb = np.minimum(smooth_min(torso.values, upper.values, root), smooth_min(upper.values, lower.values, joint))
    np.minimum(whole.values, limb, out=whole.values)


def label(points: NDArray[np.float32], bare: dict[str, Cone], shape: Shape, skeleton: Skeleton) -> NDArray[np.int32]:
    """The part [N] that each point of the surface belongs to: the bone whose flesh is nearest."""
    neck = _radius(shape.neck_girth)
    t, deep = shape.torso_length, 0.5 * shape.chest_depth
    half = max(0.0, 0.5 * shape.chest_width - deep)
    chest, pelvis = skeleton["chest"], skeleton["pelvis"]
    flesh: dict[str, Cone] = dict(bare)
    flesh["neck"] = Cone(
        skeleton["neck"].at(0, 0.02, 0), skeleton["head"].at(0, 0.2 * shape.head_height, 0), neck, neck
    )
    best = np.full(len(points), np.inf, np.float32)
    out = np.zeros(len(points), np.int32)
    for name, cone in flesh.items():
        d = cone.distance(*(points[:, i] - np.float32(cone.a[i]) for i in range(3)))
        closer = d < best
        best[closer], out[closer] = d[closer], PART[name]
    for name, frame, heights in (("chest", chest, (0.0, 0.62 * t)), ("pelvis", pelvis, (-0.05, 0.34 * t))):
        rel = points - frame.origin.astype(np.float32)
        m = frame.axes.astype(np.float32)
        x, y, z = (rel[:, 0] * m[0, i] + rel[:, 1] * m[1, i] + rel[:, 2] * m[2, i] for i in range(3))
        y = y - np.clip(y, *heights)
        d = np.sqrt(np.maximum(np.abs(x) - np.float32(half), 0) ** 2 + y * y + z * z) - np.float32(deep)
        closer = d < best
        best[closer], out[closer] = d[closer], PART[name]
    return out

"""One photo's plan: pose, clothes, place, framing and camera, drawn from the photo's own stream."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from .background import Place, draw_place
from .body import FURNITURE, PEOPLE_STRIDE
from .camera import FRAMINGS, Camera, frame_points, view_of, wrap
from .clothes import Outfit, draw_outfit
from .face import FaceTraits
from .face_paint import Expression
from .figure import Figure, stand
from .furniture import SEATS, Piece, bed, cabinet, mat, pillar, place_mesh, seat
from .light import Light, draw_light
from .paint import Look
from .pose import MAT_HEIGHT, POSES, SEAT_HEIGHT, draw_angles
from .render import Scene
from .shape import Shape
from .surface import Mesh

OVERRIDES: tuple[str, ...] = ("pose", "yaw", "framing", "outfit", "place", "light")


@dataclass(frozen=True)
class Plan:
    """What a photo shows, apart from who; ``noise`` seeds what is drawn later with the body known."""

    size: tuple[int, int]
    pose: str
    yaw: float
    framing: str
    outfit: Outfit
    place: Place
    light: Light
    seat: str
    tint: float
    pitch: float
    field_of_view: float
    fill: float
    mood: Expression
    noise: int

    @property
    def view(self) -> str:
        """The view's name."""
        return view_of(self.yaw)

    @property
    def support(self) -> str:
        """What carries the person: the name of a seat, pillar, bed, mat or floor."""
        if self.pose == "lying":
            return "bed" if self.place.kind in ("room", "studio") else "mat"
        return {"sitting": self.seat, "leaning": "pillar"}.get(self.pose, "floor")


def draw_yaw(rng: np.random.Generator) -> float:
    """Half of the photos within 40 degrees of the front, the others anywhere."""
    if rng.random() < 0.45:
        return float(np.clip(rng.normal(0, 20), -40, 40))
    return wrap(float(rng.uniform(-180, 180)))


def draw_size(rng: np.random.Generator, *, wide: bool) -> tuple[int, int]:
    """A format with a short side of 1000 to 1200 pixels, mostly upright or, when ``wide``, mostly in landscape."""
    short = int(rng.integers(1000, 1201))
    long = round(short * float(rng.choice((5 / 4, 4 / 3, 1.4, 3 / 2))))
    landscape = rng.random() < (0.85 if wide else 0.15)
    return (long, short) if landscape else (short, long)


def draw_plan(
    rng: np.random.Generator, size: tuple[int, int] | None, overrides: Mapping[str, Any], *, together: bool
) -> Plan:
    """Everything that a photo's stream decides.

    Every number is drawn even where an override replaces it, so that fixing one factor leaves the others.

    Raises:
        UsageError: an unknown override or value.
    """
    pose = str(rng.choice(POSES, p=[0.30, 0.16, 0.18, 0.12, 0.12, 0.12]))
    framing = str(rng.choice(FRAMINGS, p=[0.42, 0.2, 0.18, 0.2]))
    if together and pose in ("lying", "leaning"):
        pose = "standing"
    pose, framing = str(overrides.get("pose", pose)), str(overrides.get("framing", framing))
    _check(overrides, pose, framing)
    tight = framing in ("portrait", "half")
    yaw, drawn_size = draw_yaw(rng), draw_size(rng, wide=pose == "lying" or (together and tight))
    outfit, place = draw_outfit(rng), draw_place(rng)
    light = draw_light(rng, outdoors=place.outdoors)
    kind, tint = str(rng.choice(SEATS, p=[0.3, 0.25, 0.25, 0.2])), float(rng.random())
    pitch = float(rng.uniform(20, 30)) if pose == "lying" else float(rng.uniform(-2, 5) if tight else rng.uniform(2, 9))
    view = float(rng.uniform(20, 32) if tight else rng.uniform(30, 48))
    fill = float(rng.uniform(0.84, 0.93))
    mood = Expression(
        smile=float(np.clip(rng.normal(0.25, 0.45), -0.6, 1)),
        gaze=(float(rng.normal(0, 0.10)), float(rng.normal(0, 0.12))),
        lids=float(np.clip(rng.normal(0.93, 0.12), 0.45, 1)),
    )
    return Plan(
        size=size or drawn_size,
        pose=pose,
        yaw=wrap(float(overrides.get("yaw", yaw))),
        framing=framing,
        outfit=overrides.get("outfit", outfit),
        place=overrides.get("place", place),
        light=overrides.get("light", light),
        seat=kind,
        tint=tint,
        pitch=pitch,
        field_of_view=view,
        fill=fill,
        mood=mood,
        noise=int(rng.integers(0, 2**62)),
    )


def _check(overrides: Mapping[str, Any], pose: str, framing: str) -> None:
    for name in overrides:
        if name not in OVERRIDES:
            raise UsageError(f"unknown override {name!r}; choose from {', '.join(OVERRIDES)}")
    if pose not in POSES:
        raise UsageError(f"unknown pose {pose!r}; choose from {', '.join(POSES)}")
    if framing not in FRAMINGS:
        raise UsageError(f"unknown framing {framing!r}; choose from {', '.join(FRAMINGS)}")


def place_figure(plan: Plan, shape: Shape, face: FaceTraits, at: tuple[float, float]) -> Figure:
    """The person of a plan, posed and standing at (x, z)."""
    rng = np.random.Generator(np.random.PCG64(plan.noise))
    on_side = plan.view in ("front", "back")
    # Lean towards the side that is farther from the camera, so that what one leans on hides nobody.
    lean = int(rng.choice((-1, 1))) if abs(math.sin(math.radians(plan.yaw))) < 0.3 else int(np.sign(plan.yaw))
    angles = draw_angles(rng, plan.pose, shape, on_side=on_side, lean=lean)
    if plan.support == "mat":
        angles.bed_height = MAT_HEIGHT
    return stand(Look(shape, face, plan.outfit, plan.mood), angles, plan.yaw, at)


def _furnish(plan: Plan, figure: Figure, at: tuple[float, float], part: int) -> Piece | None:
    if plan.pose == "sitting":
        piece = seat(plan.seat, plan.tint, part)
        return Piece(piece.name, place_mesh(piece.mesh, plan.yaw, *at), piece.colour, piece.wooden)
    if plan.pose == "leaning":
        return _lean_on(plan, figure, part)
    if plan.pose == "lying":
        ahead = figure.bones["head"].origin - figure.bones["pelvis"].origin
        turned = math.degrees(math.atan2(-ahead[0], -ahead[2]))
        piece = mat(plan.tint, part) if plan.support == "mat" else bed(plan.tint, part)
        return Piece(piece.name, place_mesh(piece.mesh, turned, *at), piece.colour, piece.wooden)
    return None


def _lean_on(plan: Plan, figure: Figure, part: int) -> Piece:
    """A post whose face touches the shoulder that leans."""
    left, right = (figure.bones[f"upper_arm_{s}"].origin for s in "lr")
    pelvis = figure.bones["pelvis"].origin
    side = left if np.linalg.norm((left - pelvis)[[0, 2]]) > np.linalg.norm((right - pelvis)[[0, 2]]) else right
    outward = (side - pelvis) * np.array([1, 0, 1])
    outward /= np.linalg.norm(outward)
    touch = side + outward * 0.055
    piece = pillar(part, plan.tint)
    yaw = math.degrees(math.atan2(-outward[2], outward[0]))
    return Piece(piece.name, place_mesh(piece.mesh, yaw, touch[0], touch[2]), piece.colour, piece.wooden)


_SHOWN: dict[str, tuple[str, ...]] = {
    "portrait": ("head", "collar_l", "collar_r"),
    "half": ("head", "shoulder_l", "shoulder_r", "elbow_l", "elbow_r", "hip_l", "hip_r"),
    "three-quarter": ("head", "shoulder_l", "shoulder_r", "hip_l", "hip_r", "mid_thigh_l", "mid_thigh_r"),
}
_ARMS = ("elbow_l", "elbow_r", "hand_l", "hand_r")


def aim(plans: Sequence[Plan], figures: Sequence[Figure]) -> Camera:
    """The camera that frames all figures as the first plan says."""
    plan = plans[0]
    spheres = []
    for figure in figures:
        extent = figure.extent()
        names: tuple[str, ...] = _SHOWN.get(plan.framing, tuple(extent))
        if plan.pose == "arms_raised" and plan.framing in ("three-quarter", "half"):
            names = tuple(dict.fromkeys(names + _ARMS))
        spheres += [extent[name] for name in names]
    points, radii = np.array([c for c, _ in spheres]), np.array([r for _, r in spheres])
    return frame_points(
        points,
        radii,
        plan.size,
        pitch=plan.pitch,
        field_of_view=plan.field_of_view,
        fill=plan.fill,
        headroom=1.0 if plan.framing == "full" or plan.pose == "lying" else 0.13,
    )


def build_scene(plans: Sequence[Plan], people: Sequence[tuple[Shape, FaceTraits]]) -> Scene:
    """Figures side by side with what they sit, lie or lean on, before the first plan's place and camera."""
    spots = _spots(plans, people)
    figures = [place_figure(p, *who, at) for p, who, at in zip(plans, people, spots, strict=True)]
    pieces: list[Piece] = []
    for plan, figure, at in zip(plans, figures, spots, strict=True):
        part = len(figures) * PEOPLE_STRIDE + FURNITURE + len(pieces)
        piece = _furnish(plan, figure, at, part)
        if piece is not None:
            pieces.append(piece)
    first = plans[0]
    camera = aim(plans, figures)
    behind = min((float(p.mesh.vertices[:, 2].min()) for p in pieces), default=0.0)
    behind = min(behind, *(float(c[2] - r) for f in figures for c, r in f.extent().values()))
    wall = max(first.place.wall, 0.25 - behind)
    defocus = {"portrait": 0.008, "half": 0.005}.get(first.framing, 0.0) * max(camera.size)
    return Scene(
        tuple(figures), tuple(pieces), first.place, first.light, camera, wall, _shows_legs(camera, figures), defocus
    )


def _shows_legs(camera: Camera, figures: Sequence[Figure]) -> bool:
    """Whether any part of a leg, with a hand's breadth to spare, falls into the picture."""
    width, height = camera.size
    for figure in figures:
        extent = figure.extent()
        bones = [extent[f"{name}_{s}"][0] for name in ("hip", "mid_thigh", "knee", "foot") for s in "lr"]
        xy, depth = camera.project(np.array(bones))
        spare = (camera.focal * 0.16 / np.maximum(depth, 0.1))[:, None]
        if ((xy > -spare) & (xy < np.array([width, height]) + spare)).all(1).any():
            return True
    return False


def _spots(plans: Sequence[Plan], people: Sequence[tuple[Shape, FaceTraits]]) -> list[tuple[float, float]]:
    """Places (x, z) from the middle outwards, alternately right and left."""
    apart = {"lying": 1.2, "arms_raised": 1.05, "sitting": 0.95}.get(plans[0].pose, 0.74)
    rng = np.random.Generator(np.random.PCG64(plans[0].noise ^ 0x5A5A))
    flip = float(rng.choice((-1, 1)))
    out = []
    for i in range(len(people)):
        step = (i + 1) // 2 * (1 if i % 2 else -1)
        out.append((flip * apart * step, 0.0 if i == 0 else float(rng.uniform(-0.12, 0.08))))
    return out


def empty_scene(rng: np.random.Generator, size: tuple[int, int] | None) -> Scene:
    """A place with perhaps some furniture and nobody in it."""
    frame = size or draw_size(rng, wide=False)
    place = draw_place(rng)
    light = draw_light(rng, outdoors=place.outdoors)
    pieces: list[Piece] = []
    if rng.random() < 0.7:
        kind = str(rng.choice((*SEATS, "cabinet", "bed")))
        tint, yaw = float(rng.random()), float(rng.uniform(-60, 60))
        made = {"cabinet": cabinet(FURNITURE, tint), "bed": bed(tint, FURNITURE)}.get(kind)
        piece = made if made is not None else seat(kind, tint, FURNITURE)
        at = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.3, 0.3)))
        mesh = place_mesh(piece.mesh, yaw, *at)
        pieces.append(
            Piece(piece.name, Mesh(mesh.vertices, mesh.faces, mesh.part * 0 + FURNITURE), piece.colour, piece.wooden)
        )
    pitch, view = float(rng.uniform(3, 12)), float(rng.uniform(34, 48))
    stage = np.array([[-0.5, SEAT_HEIGHT, 0.0], [0.5, 1.5, 0.0], [0.0, 0.1, 0.3]])
    camera = frame_points(
        stage, np.full(3, 0.3), frame, pitch=pitch, field_of_view=view, fill=float(rng.uniform(0.6, 0.9))
    )
    behind = min((float(p.mesh.vertices[:, 2].min()) for p in pieces), default=0.0)
    return Scene((), tuple(pieces), place, light, camera, max(place.wall, 0.25 - behind), True, 0.0)

"""A person and a photo of them: from (seed, identity, n) to picture and truth."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import UsageError
from .body import FURNITURE, PEOPLE_STRIDE
from .camera import Camera
from .caption import write_caption
from .face import FaceTraits, draw_face
from .names import made_up_name
from .render import Rendering, Scene, develop, halve, render
from .shape import Shape, draw_shape
from .staging import Plan, build_scene, draw_plan, empty_scene
from .truth import PhotoTruth, face_truth, keypoint_truth, mask_box

_SHAPE, _FACE, _PHOTO, _ROOM, _COMPANION = 1, 2, 3, 4, 5
_SUPERSAMPLED_BELOW = 520  # pixels of the longer side


@dataclass(frozen=True)
class Person:
    """One identity: a made-up name, a body and a face.

    shape: float32 [S], metres, in the order of `SHAPE_NAMES`; `measures` is the same by name.
    """

    seed: int
    identity: int
    slug: str
    name: str
    shape: NDArray[np.float32]
    face: FaceTraits
    measures: Shape


@dataclass(frozen=True)
class Photo:
    """A photo: image uint8 [H, W, 3] sRGB, mask bool [H, W] of the main person's visible pixels, and its truth.

    camera and keypoints_3d (float64 [17, 3], metres in the world: y up, z towards the camera's side) are what the
    truth's keypoints were projected with and from.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    truth: PhotoTruth
    camera: Camera
    keypoints_3d: NDArray[np.float64]


def _stream(seed: int, *path: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *path))))


@lru_cache(maxsize=1024)
def make_person(seed: int, identity: int) -> Person:
    """The person with this number in the world of this seed.

    Raises:
        UsageError: a negative seed or identity.
    """
    if seed < 0 or identity < 0:
        raise UsageError(f"seed {seed} and identity {identity} must be 0 or more")
    shape = draw_shape(_stream(seed, _SHAPE, identity))
    vector = shape.vector()
    vector.setflags(write=False)
    name = made_up_name(seed, identity)
    slug = f"{name.lower().replace(' ', '-')}-{identity:06d}"
    return Person(seed, identity, slug, name, vector, draw_face(_stream(seed, _FACE, identity)), shape)


def take_photo(
    seed: int,
    identity: int,
    n: int,
    *,
    size: tuple[int, int] | None = None,
    companions: Sequence[int] = (),
    **overrides: Any,  # noqa: ANN401 - each has a type of its own
) -> Photo:
    """Photo number ``n`` of a person.

    Args:
        seed: the world.
        identity: who.
        n: which photo of them.
        size: (width, height); None draws a format with a short side of 1000 to 1200.
        companions: identities that stand beside the person, nearly as large.
        overrides: pose, yaw (degrees), framing, outfit, place or light instead of the drawn ones.

    Raises:
        UsageError: a negative number, a size below 32 pixels, an unknown override or value.
    """
    plans, people, scene = _staged(seed, identity, n, size, companions, overrides)
    main = plans[0]
    image, drawn, scale = _expose(scene, _stream(seed, _PHOTO, identity, n, 1), main.size)
    truths = []
    for i, (plan, person) in enumerate(zip(plans, people, strict=True)):
        caption_rng = _stream(seed, _PHOTO, identity, n, 2, i)
        truths.append(_truth(scene, drawn, scale, i, plan, person, n, caption_rng, len(people)))
    mask = _mask(drawn, 0, main.size)
    truth = replace(truths[0], companions=tuple(truths[1:]))
    return Photo(image, mask, truth, scene.camera, scene.figures[0].keypoints())


def keypoints_in_space(
    seed: int,
    identity: int,
    n: int,
    *,
    size: tuple[int, int] | None = None,
    **overrides: Any,  # noqa: ANN401 - as for take_photo
) -> tuple[Camera, NDArray[np.float64]]:
    """Camera and `keypoints_3d` of the photo that `take_photo` takes with these arguments, without painting it."""
    _, _, scene = _staged(seed, identity, n, size, (), overrides)
    return scene.camera, scene.figures[0].keypoints()


def _staged(
    seed: int,
    identity: int,
    n: int,
    size: tuple[int, int] | None,
    companions: Sequence[int],
    overrides: dict[str, Any],
) -> tuple[list[Plan], list[Person], Scene]:
    _check_size(size)
    if n < 0:
        raise UsageError(f"photo number {n} must be 0 or more")
    main = draw_plan(_stream(seed, _PHOTO, identity, n), size, overrides, together=bool(companions))
    plans, people = [main], [make_person(seed, identity)]
    for other in companions:
        rng = _stream(seed, _COMPANION, identity, n, other)
        beside = draw_plan(rng, main.size, {"framing": main.framing}, together=True)
        turn = float(np.clip(beside.yaw, -35, 35)) if abs(main.yaw) < 60 else main.yaw
        plans.append(replace(beside, pose=main.pose, yaw=turn))
        people.append(make_person(seed, other))
    return plans, people, build_scene(plans, [(p.measures, p.face) for p in people])


def empty_room(seed: int, n: int, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A background with perhaps some furniture and nobody in it: uint8 [H, W, 3] sRGB; ``size`` is (width, height)."""
    _check_size(size)
    rng = _stream(seed, _ROOM, n)
    scene = empty_scene(rng, size)
    return _expose(scene, rng, scene.camera.size)[0]


def encode_jpeg(image: NDArray[np.uint8], quality: int = 92) -> bytes:
    """An image [H, W, 3] as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and min(size) < 32:
        raise UsageError(f"size {size[0]}x{size[1]} is too small; both sides need at least 32 pixels")


def _expose(
    scene: Scene, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], Rendering, float]:
    """Picture, what it was made from, and the photo's pixels per rendered pixel; small photos are rendered doubly."""
    double = max(size) < _SUPERSAMPLED_BELOW
    drawn = render(replace(scene, camera=scene.camera.scaled(2)) if double else scene)
    linear = halve(drawn.linear) if double else drawn.linear
    grain = rng.standard_normal(size[::-1], np.float32) * np.float32(0.009)
    return develop(linear, grain), drawn, 0.5 if double else 1.0


def _mask(drawn: Rendering, person: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    start = person * PEOPLE_STRIDE
    mask = (drawn.label >= start) & (drawn.label < start + FURNITURE)
    if mask.shape == size[::-1]:
        return mask
    votes = mask[::2, ::2].astype(np.int8) + mask[1::2, ::2] + mask[::2, 1::2] + mask[1::2, 1::2]
    return np.asarray(votes >= 2)


def _truth(
    scene: Scene,
    drawn: Rendering,
    scale: float,
    index: int,
    plan: Plan,
    person: Person,
    n: int,
    rng: np.random.Generator,
    people: int,
) -> PhotoTruth:
    camera = scene.camera.scaled(1 / scale)
    figure = scene.figures[index]
    box, marks, visible = face_truth(figure, camera, drawn, scale)
    attributes = plan.outfit.attributes() | {
        "background": scene.place.kind,
        "background_colour": scene.place.colour if scene.place.kind in ("studio", "room", "tiled wall") else "none",
        "support": plan.support,
    }
    return PhotoTruth(
        seed=person.seed,
        identity=person.identity,
        n=n,
        width=plan.size[0],
        height=plan.size[1],
        keypoints=keypoint_truth(figure, index, camera, drawn, scale),
        person_box=mask_box(_mask(drawn, index, plan.size)),
        face_box=box,
        face_landmarks=marks,
        face_visible=visible,
        yaw=plan.yaw,
        view=plan.view,
        framing=plan.framing,
        pose=plan.pose,
        shape=person.shape,
        attributes=attributes,
        caption=write_caption(rng, plan.outfit, scene.place, plan.pose, plan.view, plan.framing, plan.support, people),
    )

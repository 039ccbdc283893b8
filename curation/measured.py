"""What is known of one photo, read from the scores: the main person, her face, and how sharp they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import views
from .columns import rows_of
from .config import CurateConfig
from .scores import Scores
from .stages import face as face_stage
from .stages import pose as pose_stage

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Person:
    """The main person: box `[4]`, score 0..1, keypoints `[17, 3]`, sharpness and exposure of the box."""

    box: Floats
    score: float
    keypoints: Floats
    sharpness: float
    exposure: float


@dataclass(frozen=True, slots=True)
class MainFace:
    """The main person's face: box `[4]`, landmarks `[5, 2]`, embedding `[512]`, sharpness and exposure of the box."""

    found: face_stage.Face
    box: Floats
    landmarks: Floats
    embedding: Floats
    sharpness: float
    exposure: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One photo's scores, with the main person and her face picked by the thresholds of the configuration.

    `people`, `faces` are None where that stage was not run; `defect` says why nothing but it is known.
    """

    sha256: str
    defect: str | None
    width: int | None
    height: int | None
    sharpness: float | None
    phash: int | None
    people: pose_stage.People | None = None
    person: Person | None = None
    faces: int | None = None
    face: MainFace | None = None
    minor: bool | None = None
    """Somebody's estimated age is under the limit; None where it is not estimated."""

    @property
    def person_sharpness(self) -> float | None:
        """Sharpness of the person; of the whole photo where there is none."""
        return self.sharpness if self.person is None else self.person.sharpness


class Photos(Mapping[str, Measured]):
    """What is known of each photo that has scores, by its sha256; made when it is asked for, and not kept.

    Args:
        scores: of all stages that were run.
        config: thresholds of people and faces.
    """

    def __init__(self, scores: Scores, config: CurateConfig) -> None:
        self._scores, self._config = scores, config

    def __getitem__(self, sha256: str) -> Measured:
        """Return what is known of one photo; for several, `some` takes a small part of the time."""
        if sha256 not in self._scores:
            raise KeyError(sha256)
        return self.some([sha256])[sha256]

    def __contains__(self, sha256: object) -> bool:
        """Say whether the photo has scores."""
        return sha256 in self._scores

    def __iter__(self) -> Iterator[str]:
        """Yield the sha256 of each photo."""
        return iter(self._scores)

    def __len__(self) -> int:
        """Return how many photos there are."""
        return len(self._scores)

    def some(self, photos: Sequence[str]) -> dict[str, Measured]:
        """Return what is known of these photos, those without scores left out."""
        known = [sha256 for sha256 in dict.fromkeys(photos) if sha256 in self._scores]
        return dict(zip(known, measured(self._scores.take(known), self._config), strict=True))


def some(photos: Mapping[str, Measured], wanted: Sequence[str]) -> dict[str, Measured]:
    """Return what is known of the photos that are wanted (by sha256), those of which nothing is known left out."""
    if isinstance(photos, Photos):
        return photos.some(wanted)
    return {sha256: photos[sha256] for sha256 in wanted if sha256 in photos}


def measured(scores: pa.Table, config: CurateConfig) -> Iterator[Measured]:
    """Yield what is known of each photo, in the order of the table.

    Args:
        scores: columns of all stages that were run.
        config: thresholds of people and faces.
    """
    plain = scores.select(["sha256", "defect", "decoded_width", "decoded_height", "sharpness", "phash"])
    posed = _columns(scores, {"pose_boxes": 4, "pose_scores": 1, "pose_keypoints": 51})
    found = _columns(scores, {"face_boxes": 4, "face_scores": 1, "face_landmarks": 10, "face_embeddings": 512})
    quality = _columns(scores, dict.fromkeys((*_PEOPLE_QUALITY, *_FACES_QUALITY), 1))
    minors = scores["minor"].to_pylist() if "minor" in scores.column_names else [None] * scores.num_rows
    rows = zip(plain.to_pylist(), posed, found, quality, minors, strict=True)
    for photo, person_row, face_row, quality_row, minor in rows:
        known = Measured(
            photo["sha256"],
            photo["defect"],
            photo["decoded_width"],
            photo["decoded_height"],
            photo["sharpness"],
            photo["phash"],
            minor=minor,
        )
        if known.defect is None:
            people, person = _person(person_row, quality_row, config)
            faces, face = _face(face_row, quality_row, person, config)
            known = replace(known, people=people, person=person, faces=faces, face=face)
        yield known


_PEOPLE_QUALITY = ("people_sharpness", "people_exposure")
_FACES_QUALITY = ("faces_sharpness", "faces_exposure")
_Row = dict[str, Floats | None]


def _columns(scores: pa.Table, widths: dict[str, int]) -> Iterator[_Row]:
    """Yield each row's lists as arrays, by column; an empty dictionary a row where the stage was not run."""
    if not set(widths) <= set(scores.column_names):
        return iter([{}] * scores.num_rows)
    columns = [rows_of(scores, name, width) for name, width in widths.items()]
    return (dict(zip(widths, row, strict=True)) for row in zip(*columns, strict=True))


def _person(row: _Row, quality: _Row, config: CurateConfig) -> tuple[pose_stage.People | None, Person | None]:
    boxes, scores, keypoints = (row.get(name) for name in ("pose_boxes", "pose_scores", "pose_keypoints"))
    if boxes is None or scores is None or keypoints is None:
        return None, None
    poses, limits = keypoints.reshape(-1, 17, 3), config.pose
    who = pose_stage.people(boxes, scores, poses, limits.min_score, limits.sure_score)
    if who.index < 0:
        return who, None
    sharp, light = (_at(quality, name, who.index) for name in _PEOPLE_QUALITY)
    main = who.index
    return who, Person(boxes[main], float(scores[main]), poses[main], sharp, light)


def _face(row: _Row, quality: _Row, person: Person | None, config: CurateConfig) -> tuple[int | None, MainFace | None]:
    boxes, scores, landmarks, embeddings = (
        row.get(name) for name in ("face_boxes", "face_scores", "face_landmarks", "face_embeddings")
    )
    if boxes is None or scores is None or landmarks is None or embeddings is None:
        return None, None
    head = None if person is None else views.head(person.keypoints, config.pose.keypoint)
    picked = face_stage.main_face(
        boxes, scores, None if person is None else person.box, head, config.face.min_score, config.face.min_side
    )
    if picked is None:
        return len(boxes), None
    if person is not None and views.view(views.yaw(person.keypoints, config.pose.keypoint)) == "back":
        picked = replace(picked, usable=False)  # a sliver of a cheek, or an ear taken for a face
    if abs(face_stage.roll(landmarks[picked.index].reshape(5, 2))) > config.face.max_roll:
        picked = replace(picked, usable=False)
    sharp, light = (_at(quality, name, picked.index) for name in _FACES_QUALITY)
    at = picked.index
    return len(boxes), MainFace(picked, boxes[at], landmarks[at].reshape(5, 2), embeddings[at], sharp, light)


def _at(quality: _Row, name: str, index: int) -> float:
    values = quality.get(name)
    return float("nan") if values is None or not len(values) else float(values[index])

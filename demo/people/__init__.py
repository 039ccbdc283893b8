"""Procedural people: bodies, faces and photos of them with ground truth, from nothing but numbers.

    person = make_person(seed=0, identity=7)          # a body and a face that stay the same
    photo = take_photo(seed=0, identity=7, n=3)       # pose, view, clothes, place and light that do not
    photo.image, photo.mask, photo.truth.keypoints

Everything follows from (seed, identity, n), bit for bit on one kind of machine. Shape, face and photo have streams of
their own, so that clothes and background say nothing about who wears them. ``python -m bolid.demo.people --help``
writes a folder of photos with a table of their truth.
"""

from .photo import Person, Photo, empty_room, encode_jpeg, keypoints_in_space, make_person, take_photo
from .shape import SHAPE_NAMES, SHAPE_RANGES
from .truth import FACE_LANDMARKS, PhotoTruth

__all__ = [
    "FACE_LANDMARKS",
    "SHAPE_NAMES",
    "SHAPE_RANGES",
    "Person",
    "Photo",
    "PhotoTruth",
    "empty_room",
    "encode_jpeg",
    "keypoints_in_space",
    "make_person",
    "take_photo",
]

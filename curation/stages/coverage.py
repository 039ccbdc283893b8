"""Stage `coverage`: photos by view and framing; an identity with too few photos left is rejected as a whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..stage import Verdict
from ..views import FRAMINGS, VIEWS

Counts = NDArray[np.int64]

SECTORS = (
    ("front", 0),
    ("three-quarter", 1),
    ("side", 1),
    ("back", 0),
    ("side", -1),
    ("three-quarter", -1),
)
"""Views once around the person, and the sign of the yaw where both sides have one: 1 turned to the image's right."""
RINGS = tuple(reversed(FRAMINGS))
"""Framings from the closest to the farthest: portrait, half, three-quarter, full."""


def decide(photos_left: int, min_photos: int) -> Verdict | None:
    """Return the verdict on all photos of an identity of which `photos_left` passed every other stage."""
    if photos_left < min_photos:
        return Verdict("coverage", "too_few_photos", photos_left, min_photos)
    return None


@dataclass
class Coverage:
    """How many photos show a person from which side and how closely.

    Attributes:
        around: `[6, 4]` photos by `SECTORS` and `RINGS`.
        unknown: photos whose view or framing was not measured.
    """

    around: Counts = field(default_factory=lambda: np.zeros((len(SECTORS), len(RINGS)), np.int64))
    unknown: int = 0

    @property
    def by_view(self) -> Counts:
        """`[4, 4]` photos by `views.VIEWS` and `RINGS`, the left and the right side together."""
        rows = [[number for number, (name, _) in enumerate(SECTORS) if name == view] for view in VIEWS]
        return np.stack([self.around[row].sum(axis=0) for row in rows])

    def add(self, view: str | None, framing: str | None, yaw: float | None) -> None:
        """Count one photo; where a side's yaw is missing it counts as turned to the right."""
        if view is None or framing is None:
            self.unknown += 1
            return
        left = yaw is not None and yaw < 0
        sectors = [number for number, (name, sign) in enumerate(SECTORS) if name == view and (sign >= 0) != left]
        sector = sectors[0] if sectors else [name for name, _ in SECTORS].index(view)
        self.around[sector, RINGS.index(framing)] += 1

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.around + other.around, self.unknown + other.unknown)


def count(photos: Iterable[tuple[str | None, str | None, float | None]]) -> Coverage:
    """Count photos by view × framing; each is (view, framing, yaw in degrees), None where it was not measured."""
    found = Coverage()
    for view, framing, yaw in photos:
        found.add(view, framing, yaw)
    return found

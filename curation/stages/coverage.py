"""Stage `coverage`: an identity with too few photos left is rejected as a whole."""

from ..stage import Verdict


def decide(photos_left: int, min_photos: int) -> Verdict | None:
    """Return the verdict on all photos of an identity of which `photos_left` passed every other stage."""
    if photos_left < min_photos:
        return Verdict("coverage", "too_few_photos", photos_left, min_photos)
    return None

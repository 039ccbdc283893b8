"""Sizes of training pictures of many shapes and one area (Podell et al. 2023, SDXL, section 2.3); imports no torch."""

LONGEST = 2.0
"""Largest ratio of the sides."""


def aspect_sizes(side: int, step: int) -> list[tuple[int, int]]:
    """Return (width, height) of every aspect, the widest last.

    Both sides are multiples of `step`, and the area is the largest such that is at most `side`².

    Args:
        side: of the square, in pixels; a multiple of `step`.
        step: in pixels.
    """
    found = set()
    for short in range(step, side + 1, step):
        long = side * side // short // step * step
        if long <= LONGEST * short:
            found |= {(short, long), (long, short)}
    return sorted(found)

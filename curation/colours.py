"""Names of colours: the nearest colour of the CSS table in CIELAB, by one of fourteen plain words.

Lightness counts half: a fold or a shade makes cloth darker and hardly changes its hue.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_WHITE = np.array([0.950470, 1.0, 1.088830])
"""D65, as XYZ of sRGB's white."""
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_LIGHTNESS = 0.5

TABLE: dict[str, tuple[str, ...]] = {
    "black": ("#000000",),
    "grey": ("#2f4f4f", "#696969", "#708090", "#808080", "#778899", "#a9a9a9", "#c0c0c0"),
    "white": ("#dcdcdc", "#f5f5f5", "#ffffff", "#fffafa", "#fffff0"),
    "red": ("#ff0000", "#dc143c", "#b22222", "#8b0000", "#800000", "#a52a2a", "#cd5c5c"),
    "orange": ("#ffa500", "#ff8c00", "#ff4500", "#ff7f50", "#d2691e", "#cd853f"),
    "yellow": ("#ffff00", "#ffd700", "#f0e68c", "#daa520"),
    "olive": ("#808000", "#6b8e23", "#556b2f"),
    "green": ("#008000", "#00ff00", "#228b22", "#2e8b57", "#32cd32", "#006400", "#3cb371", "#8fbc8f", "#90ee90"),
    "teal": ("#008080", "#008b8b", "#20b2aa", "#5f9ea0", "#40e0d0", "#00ced1", "#00ffff"),
    "blue": (
        *("#0000ff", "#4169e1", "#1e90ff", "#4682b4", "#6495ed", "#000080", "#00008b", "#191970", "#0000cd"),
        *("#87ceeb", "#add8e6", "#b0c4de", "#87cefa", "#00bfff", "#483d8b"),
    ),
    "purple": ("#800080", "#4b0082", "#9370db", "#8a2be2", "#9400d3", "#663399", "#ba55d3", "#8b008b", "#dda0dd"),
    "pink": ("#ffc0cb", "#ffb6c1", "#ff69b4", "#ff1493", "#db7093", "#c71585", "#ff00ff"),
    "brown": ("#8b4513", "#a0522d", "#654321"),
    "beige": ("#f5f5dc", "#d2b48c", "#f5deb3", "#deb887", "#ffe4c4"),
}
"""Plain word -> colours of CSS (W3C, CSS Color Module 4, named colours) that go by it, and the dark brown #654321, of
which CSS has none."""


def lab(rgb: NDArray[np.uint8]) -> Numbers:
    """Return CIELAB `[..., 3]` (L* 0..100, a*, b*; D65) of sRGB bytes `[..., 3]` (IEC 61966-2-1; CIE 15:2004)."""
    value = np.asarray(rgb, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def distance(one: Numbers, other: Numbers) -> Numbers:
    """Return how far colours `[..., 3]` lie apart in CIELAB, lightness counting half."""
    gap = (one - other) * (_LIGHTNESS, 1.0, 1.0)
    return np.asarray(np.sqrt((gap**2).sum(axis=-1)))


def name(colour: Numbers) -> str:
    """Return the plain word for a colour `[3]` in CIELAB."""
    return _WORDS[int(distance(_COLOURS, colour).argmin())]


_WORDS = [word for word, colours in TABLE.items() for _ in colours]
_COLOURS = lab(
    np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for colours in TABLE.values() for c in colours], np.uint8)
)

"""What a person wears in one photo; drawn without looking at who wears it."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "white": (0.93, 0.93, 0.91),
    "grey": (0.52, 0.53, 0.55),
    "red": (0.75, 0.13, 0.14),
    "dark red": (0.45, 0.08, 0.12),
    "orange": (0.90, 0.47, 0.13),
    "yellow": (0.93, 0.78, 0.24),
    "green": (0.18, 0.52, 0.27),
    "olive": (0.40, 0.41, 0.22),
    "teal": (0.12, 0.50, 0.52),
    "light blue": (0.55, 0.73, 0.89),
    "blue": (0.16, 0.33, 0.72),
    "navy": (0.11, 0.15, 0.33),
    "purple": (0.43, 0.24, 0.58),
    "pink": (0.92, 0.56, 0.67),
    "brown": (0.42, 0.27, 0.17),
    "beige": (0.82, 0.74, 0.60),
}
PATTERNS: tuple[str, ...] = ("plain", "striped", "checked", "dotted")
TOPS: tuple[str, ...] = ("T-shirt", "tank top", "shirt", "sweater", "hoodie", "jacket", "dress")
BOTTOMS: tuple[str, ...] = ("jeans", "trousers", "shorts", "skirt", "leggings")
SHOES: tuple[str, ...] = ("sneakers", "boots", "shoes")

# Sleeve ends along the arm: 0 shoulder, 1 elbow, 2 wrist. Leg ends along the leg: 0 hip, 1 knee, 2 ankle.
SLEEVES: dict[str, float] = {"sleeveless": 0.0, "short": 0.6, "elbow-length": 0.95, "long": 1.95}
LEGS: dict[str, float] = {"short": 0.55, "knee-length": 0.95, "calf-length": 1.5, "long": 1.97}


@dataclass(frozen=True)
class Garment:
    """One piece: its name, colour name, pattern, second colour name and where its sleeves or legs end."""

    name: str
    colour: str
    pattern: str
    second: str
    length_name: str
    length: float


@dataclass(frozen=True)
class Outfit:
    """A whole outfit; a dress has a bottom of the same cloth."""

    top: Garment
    bottom: Garment
    shoes: str
    shoe_colour: str
    scale: float  # of the pattern
    phase: float
    ease: float  # how loosely everything sits, metres

    @property
    def skirted(self) -> bool:
        """Whether the bottom is one tube round both legs."""
        return self.bottom.name in ("skirt", "dress")

    def attributes(self) -> dict[str, str]:
        """The outfit in words, one attribute a key."""
        out = {
            "top": self.top.name,
            "top_colour": self.top.colour,
            "top_pattern": self.top.pattern,
            "sleeves": self.top.length_name,
            "shoes": self.shoes,
            "shoe_colour": self.shoe_colour,
            "leg_length": self.bottom.length_name,
        }
        if self.top.name == "dress":
            return out | {"bottom": "none", "bottom_colour": "none", "bottom_pattern": "none"}
        return out | {
            "bottom": self.bottom.name,
            "bottom_colour": self.bottom.colour,
            "bottom_pattern": self.bottom.pattern,
        }


def _contrast(rng: np.random.Generator, first: str) -> str:
    light = sum(COLOURS[first])
    far = [c for c in COLOURS if abs(sum(COLOURS[c]) - light) > 0.55]
    return str(rng.choice(far))


def _pattern(rng: np.random.Generator, plain: float) -> str:
    rest = (1 - plain) / 3
    return str(rng.choice(PATTERNS, p=[plain, rest, rest, rest]))


def draw_outfit(rng: np.random.Generator) -> Outfit:
    """An outfit from a photo's own stream."""
    names = list(COLOURS)
    kind = str(rng.choice(TOPS, p=[0.26, 0.1, 0.2, 0.14, 0.1, 0.1, 0.1]))
    colour = str(rng.choice(names))
    pattern = "plain" if kind in ("hoodie", "jacket") else _pattern(rng, 0.45)
    sleeve = {
        "T-shirt": ("short", "elbow-length"),
        "tank top": ("sleeveless",),
        "shirt": ("long", "long", "short"),
        "sweater": ("long",),
        "hoodie": ("long",),
        "jacket": ("long",),
        "dress": ("sleeveless", "short", "long"),
    }[kind]
    length = str(rng.choice(sleeve))
    top = Garment(kind, colour, pattern, _contrast(rng, colour), length, SLEEVES[length])
    bottom = str(rng.choice(BOTTOMS, p=[0.34, 0.26, 0.18, 0.14, 0.08]))
    options = {"shorts": ("short", "knee-length"), "skirt": ("short", "knee-length", "calf-length")}
    leg = str(rng.choice(options.get(bottom, ("long",))))
    tints = ["blue", "navy", "light blue", "black", "grey"] if bottom == "jeans" else names
    lower = str(rng.choice([c for c in tints if c != colour]))
    weave = "plain" if bottom in ("jeans", "leggings") else _pattern(rng, 0.78)
    low = Garment(bottom, lower, weave, _contrast(rng, lower), leg, LEGS[leg])
    if kind == "dress":
        hem = str(rng.choice(("short", "knee-length", "calf-length")))
        low = Garment("dress", colour, pattern, top.second, hem, LEGS[hem])
    shoes = str(rng.choice(SHOES, p=[0.55, 0.2, 0.25]))
    tint = str(rng.choice(["black", "white", "brown", "grey", "red", "navy", "beige"]))
    ease = float(rng.uniform(0.004, 0.012) + {"sweater": 0.006, "hoodie": 0.01, "jacket": 0.008}.get(kind, 0.0))
    return Outfit(top, low, shoes, tint, float(rng.uniform(0.7, 1.5)), float(rng.random()), ease)

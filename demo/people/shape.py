"""The shape of a body: the numbers that stay the same in every photo of a person."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """One body's measures in metres; girths are circumferences.

    stature = leg_length (floor to hip joint) + torso_length (hip joint to shoulder line) + neck_length (shoulder
    line to chin) + head_height (chin to crown). arm_length runs from shoulder joint to wrist.
    """

    stature: float
    head_height: float
    neck_length: float
    torso_length: float
    arm_length: float
    leg_length: float
    hand_length: float
    foot_length: float
    shoulder_width: float
    chest_width: float
    chest_depth: float
    waist_width: float
    waist_depth: float
    hip_width: float
    hip_depth: float
    neck_girth: float
    upper_arm_girth: float
    forearm_girth: float
    thigh_girth: float
    calf_girth: float
    bust: float
    belly: float

    def vector(self) -> NDArray[np.float32]:
        """The measures [S] in the order of `SHAPE_NAMES`."""
        return np.array([getattr(self, name) for name in SHAPE_NAMES], np.float32)


SHAPE_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Shape))

SHAPE_RANGES: dict[str, tuple[float, float]] = {
    "stature": (1.46, 2.04),
    "head_height": (0.200, 0.275),
    "neck_length": (0.025, 0.085),
    "torso_length": (0.38, 0.70),
    "arm_length": (0.42, 0.74),
    "leg_length": (0.68, 1.12),
    "hand_length": (0.14, 0.23),
    "foot_length": (0.20, 0.33),
    "shoulder_width": (0.31, 0.52),
    "chest_width": (0.22, 0.44),
    "chest_depth": (0.16, 0.36),
    "waist_width": (0.20, 0.46),
    "waist_depth": (0.14, 0.38),
    "hip_width": (0.27, 0.48),
    "hip_depth": (0.18, 0.36),
    "neck_girth": (0.28, 0.48),
    "upper_arm_girth": (0.20, 0.46),
    "forearm_girth": (0.19, 0.36),
    "thigh_girth": (0.40, 0.80),
    "calf_girth": (0.28, 0.52),
    "bust": (0.0, 0.065),
    "belly": (0.0, 0.11),
}


def draw_shape(rng: np.random.Generator) -> Shape:
    """A body: three common factors (build, fat, muscle) and noise of its own for each measure."""
    build = float(np.clip(rng.choice((-1.0, 1.0)) * 0.8 + 0.35 * rng.standard_normal(), -1.4, 1.4))
    fat = float(np.clip(0.15 + 1.05 * rng.standard_normal(), -1.6, 2.4))
    muscle = float(np.clip(0.35 * build + 0.8 * rng.standard_normal(), -1.5, 1.8))
    noise = rng.standard_normal(len(SHAPE_NAMES)).clip(-2, 2)
    own = dict(zip(SHAPE_NAMES, noise.tolist(), strict=True))

    def measure(name: str, mean: float, own_share: float, *, b: float = 0.0, f: float = 0.0, m: float = 0.0) -> float:
        value = mean * (1.0 + b * build + f * fat + m * muscle + own_share * own[name])
        low, high = SHAPE_RANGES[name]
        return float(np.clip(value, low + 1e-4, high - 1e-4))

    stature = measure("stature", 1.72, 0.043, b=0.035)
    head = measure("head_height", 0.234 + 0.04 * (stature - 1.72), 0.03, b=0.01)
    neck = measure("neck_length", 0.031 * stature, 0.14, f=-0.04)
    leg = measure("leg_length", 0.502 * stature, 0.024)
    size = stature / 1.72
    return Shape(
        stature=stature,
        head_height=head,
        neck_length=neck,
        torso_length=stature - leg - neck - head,
        leg_length=leg,
        arm_length=measure("arm_length", 0.332 * stature, 0.035),
        hand_length=measure("hand_length", 0.107 * stature, 0.035, b=0.015),
        foot_length=measure("foot_length", 0.151 * stature, 0.03, b=0.015),
        shoulder_width=measure("shoulder_width", 0.388 * size, 0.035, b=0.045, f=0.015, m=0.03),
        chest_width=measure("chest_width", 0.300 * size, 0.03, b=0.05, f=0.055, m=0.035),
        chest_depth=measure("chest_depth", 0.222 * size, 0.035, b=0.03, f=0.075, m=0.03),
        waist_width=measure("waist_width", 0.272 * size, 0.04, b=0.045, f=0.12),
        waist_depth=measure("waist_depth", 0.200 * size, 0.045, b=0.02, f=0.135),
        hip_width=measure("hip_width", 0.340 * size, 0.03, b=-0.025, f=0.07),
        hip_depth=measure("hip_depth", 0.225 * size, 0.04, b=-0.03, f=0.09),
        neck_girth=measure("neck_girth", 0.355 * size, 0.025, b=0.06, f=0.03, m=0.04),
        upper_arm_girth=measure("upper_arm_girth", 0.290 * size, 0.04, b=0.03, f=0.10, m=0.08),
        forearm_girth=measure("forearm_girth", 0.255 * size, 0.03, b=0.04, f=0.055, m=0.05),
        thigh_girth=measure("thigh_girth", 0.550 * size, 0.035, b=-0.02, f=0.095, m=0.03),
        calf_girth=measure("calf_girth", 0.370 * size, 0.035, f=0.065, m=0.03),
        bust=float(np.clip(0.026 - 0.026 * build + 0.008 * fat + 0.008 * own["bust"], 0.0, 0.06)),
        belly=float(np.clip(0.012 + 0.022 * fat + 0.012 * own["belly"], 0.0, 0.10)),
    )

"""A figure: a number with all that is needed to read it, or the reason why there is none."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured or absent figure.

    Attributes:
        name: what was measured, without abbreviations that another network would change.
        value: the number; None when it could not be measured.
        unit: of the number; empty for shares and ratios.
        n: items that it was measured on.
        network: the network that measured it; empty when no network was needed.
        note: how to read it, or why it is absent.

    Raises:
        ValueError: a value that is not finite, or a value from zero items.
    """

    name: str
    value: float | None
    unit: str = ""
    n: int = 0
    network: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.value is None:
            return
        if not math.isfinite(self.value):
            raise ValueError(f"the figure {self.name} is {self.value}")
        if self.n < 1:
            raise ValueError(f"the figure {self.name} has a value but no items")

    def as_dict(self) -> dict[str, Any]:
        """Return the figure as JSON knows it."""
        return asdict(self)


def absent(name: str, note: str, network: str = "") -> Figure:
    """Return the row of a figure that was not measured; `note` says why."""
    return Figure(name, None, network=network, note=note)


NEEDS: dict[str, str] = {
    "FID": "InceptionV3 (pool3, TF weights)",
    "IS": "InceptionV3 (logits, TF weights)",
    "CLIP-T": "CLIP ViT-L/14",
    "CLIP-I": "CLIP ViT-L/14",
    "ID": "ArcFace (InsightFace buffalo_l)",
    "ID(P)": "ArcFace (InsightFace buffalo_l) and CLIP ViT-L/14",
}
"""Figures of the documents and the network that each needs."""


def unmeasured() -> list[Figure]:
    """Return the rows of the documents' figures whose networks bolid cannot load yet."""
    return [absent(name, f"needs {network}, which bolid cannot load yet", network) for name, network in NEEDS.items()]

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


_INCEPTION, _CLIP, _ARCFACE = "InceptionV3 (TF weights)", "CLIP ViT-L/14", "ArcFace (InsightFace buffalo_l)"
_NO_LOADER = "for which bolid has no loader yet"
_NOT_USED = "which bolid loads elsewhere, but bolid eval does not use yet"
NEEDS: dict[str, tuple[str, str]] = {
    "FID": (_INCEPTION, _NO_LOADER),
    "IS": (_INCEPTION, _NO_LOADER),
    "CLIP-T": (_CLIP, _NOT_USED),
    "CLIP-I": (_CLIP, _NOT_USED),
    "ID": (_ARCFACE, _NOT_USED),
    "ID(P)": (f"{_ARCFACE} and {_CLIP}", _NOT_USED),
}
"""Figures of the documents, the network that each needs, and why it is not there."""


def unmeasured() -> list[Figure]:
    """Return the rows of the documents' figures that bolid does not measure yet."""
    return [absent(name, f"needs {network}, {why}", network) for name, (network, why) in NEEDS.items()]

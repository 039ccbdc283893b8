"""What made a picture: a JSON file beside it and the same text inside the PNG. Names of people are never in it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__, atomic

PNG_KEY = "bolid"
# IPTC's word for a picture made by a trained model; C2PA uses the same.
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

Source = Literal["none", "bank", "photos", "prior", "embedding"]


@dataclass(frozen=True)
class Provenance:
    """All that is needed to make the picture again, but for the people's data.

    Attributes:
        base: base pipeline; lightning: its few-step UNet, where one was used.
        adapter: sha256 of each adapter file by condition; empty without an adapter.
        body, face: where the condition came from; never whose it is.
        size: (height, width) in pixels.
    """

    base: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    size: tuple[int, int]
    lightning: str | None = None
    adapter: Mapping[str, str] = field(default_factory=dict)
    body: Source = "none"
    face: Source = "none"
    lambda_body: float = 0.0
    lambda_face: float = 0.0
    tool: str = f"bolid {__version__}"
    digital_source_type: str = TRAINED_ALGORITHMIC_MEDIA

    def json(self) -> str:
        """Return the record as JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, indent=1)

    def fingerprint(self, conditions: bytes = b"") -> str:
        """Eight hexadecimal digits that differ when anything in the record does, or the people's own data.

        The record never says who is on the picture, but pictures of two people must not get one name.
        """
        return hashlib.sha256(self.json().encode() + conditions).hexdigest()[:8]


def write_picture(path: Path, pixels: npt.NDArray[np.uint8], provenance: Provenance) -> None:
    """Write `pixels` `[height, width, 3]` as PNG with its provenance inside and beside it; the PNG appears last."""
    text = PngInfo()
    text.add_itxt(PNG_KEY, provenance.json())
    atomic.write_text(path.with_suffix(".json"), provenance.json())
    with atomic.replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG", pnginfo=text)


def read_provenance(path: Path) -> dict[str, object] | None:
    """Return the record inside a PNG, or None when it has none."""
    with Image.open(path) as picture:
        text = picture.text.get(PNG_KEY) if hasattr(picture, "text") else None
    return json.loads(text) if text else None

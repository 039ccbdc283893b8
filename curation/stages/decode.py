"""Stage `decode`: does the whole photo decode, how large is it upright, how sharp."""

import numpy as np
import pyarrow as pa
from PIL import Image

from ..pixels import PhotoReader
from ..stage import StageKey, Verdict, paths_of, score_batch

SHARPNESS_SIDE = 512
"""Long side in pixels at which sharpness is measured, so that it does not depend on the photo's size."""

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("defect", pa.string()),
        ("decoded_width", pa.int32()),
        ("decoded_height", pa.int32()),
        ("sharpness", pa.float32()),
    ]
)


class DecodeStage:
    """Decodes each photo fully; columns `defect`, `decoded_width`, `decoded_height` (px, upright), `sharpness`."""

    key = StageKey("decode", version=2)
    schema = SCHEMA
    needs = ()

    def setup(self, reader: PhotoReader) -> None:
        """Keep the reader."""
        self._reader = reader

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        rows: list[dict[str, object]] = []
        for sha256, path in paths_of(batch):
            photo = self._reader.read(path)
            if photo.picture is None:
                rows.append({"sha256": sha256, "defect": photo.defect})
                continue
            width, height = photo.picture.size
            rows.append(
                {
                    "sha256": sha256,
                    "decoded_width": width,
                    "decoded_height": height,
                    "sharpness": sharpness(photo.picture),
                }
            )
        return score_batch(SCHEMA, rows)


def sharpness(picture: Image.Image, side: int = SHARPNESS_SIDE) -> float:
    """Variance of the 4-neighbour Laplacian of the luminance (0-255) at a long side of `side` px; larger is sharper.

    Smaller pictures are measured as they are; one without a pixel that has four neighbours is 0.
    """
    if min(picture.size) < 3:
        return 0.0
    scaled = picture.convert("L")
    scaled.thumbnail((side, side), Image.Resampling.BOX)
    grey = np.asarray(scaled, dtype=np.float32)
    if min(grey.shape) < 3:
        return 0.0
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def decide(
    defect: str | None, width: int | None, height: int | None, min_res: int, max_aspect: float
) -> Verdict | None:
    """Reject a photo that does not decode, is smaller than `min_res` px or longer than `max_aspect` sides."""
    if defect is not None:
        return Verdict("decode", defect)
    if width is None or height is None:
        raise ValueError("a photo without a defect has a size")
    short, long = sorted((width, height))
    if short < min_res:
        return Verdict("decode", "too_small", short, min_res)
    if long > max_aspect * short:
        return Verdict("decode", "aspect", round(long / short, 3), max_aspect)
    return None

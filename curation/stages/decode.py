"""Stage `decode`: does the whole photo decode, how large is it upright, how sharp.

Sharpness is that of `DecodedPhoto.small`, at a long side of about 512 px: photos of one size are measured at one size.
"""

import numpy as np
import pyarrow as pa
from PIL import Image

from ..pixels import PhotoReader
from ..stage import StageKey, Verdict, paths_of, score_batch

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

    key = StageKey("decode", version=3)
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
            if photo.picture is None or photo.small is None:
                rows.append({"sha256": sha256, "defect": photo.defect})
                continue
            width, height = photo.picture.size
            rows.append(
                {
                    "sha256": sha256,
                    "decoded_width": width,
                    "decoded_height": height,
                    "sharpness": sharpness(photo.small),
                }
            )
        return score_batch(SCHEMA, rows)


def sharpness(grey: Image.Image) -> float:
    """Variance of the 4-neighbour Laplacian of a luminance picture (0-255); larger is sharper.

    It depends on the size: compare pictures of one size. Without a pixel that has four neighbours it is 0.
    """
    if min(grey.size) < 3:
        return 0.0
    values = np.asarray(grey).astype(np.int16)
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1]
    laplacian += values[1:-1, :-2]
    laplacian += values[1:-1, 2:]
    laplacian -= values[1:-1, 1:-1] << 2
    flat = laplacian.ravel().astype(np.float32)
    return float(flat @ flat) / flat.size - float(flat.mean()) ** 2


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

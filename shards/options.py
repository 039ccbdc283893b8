"""What a pack can be asked for."""

import re
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from ..config import Config

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def parse_bytes(value: object) -> object:
    """Turn `"512M"` (K, M, G: powers of 1024) into a number of bytes; anything else is returned as it is."""
    match = re.fullmatch(r"\s*(\d+)\s*([KMG]?)i?B?\s*", value, re.IGNORECASE) if isinstance(value, str) else None
    return int(match[1]) * _UNITS[match[2].upper()] if match else value


class PackConfig(Config):
    """Options of `bolid pack`.

    Attributes:
        shard_size: bytes that a shard should not exceed, unless one identity alone does (`"512M"` is understood).
        split: fractions of the identities for train, val and test; their sum is 1.
        max_side: longest side in pixels; larger photos are scaled down and encoded once, None leaves all as they are.
        jpeg_quality: quality of photos that must be encoded.
        keep_format: leave PNG, WebP, GIF and AVIF photos in their format; readers that want the same parts in
            every sample (HF datasets) then need a dataset of one format.
        split_key: key of the hash that deals identities to splits; another key, another deal.
    """

    shard_size: Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)] = 512 * 2**20
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    max_side: Annotated[int, Field(ge=16)] | None = None
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 92
    keep_format: bool = False
    split_key: str = "bolid"

    @model_validator(mode="after")
    def _split_is_a_partition(self) -> Self:
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split = {self.split} must be three fractions whose sum is 1, for example 0.9,0.05,0.05")
        return self

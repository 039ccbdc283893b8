"""Sizes of the Body-ID Encoder; imports no torch, so that the command line can show and check them at once."""

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ..config import Config


class BodyConfig(Config):
    """Sizes of `BodyEncoder` and `BodyDecoder`.

    Attributes:
        width, height: of the person crop, in pixels.
        latent: numbers in `c_body`.
        channels: of the encoder's stages; each halves width and height. The decoder goes the same way back.
        heatmap_sigma: standard deviation of a keypoint's spot as a share of the crop's height.
    """

    width: PositiveInt = 192
    height: PositiveInt = 256
    latent: PositiveInt = 256
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 256, 384, 512)
    heatmap_sigma: PositiveFloat = 0.02

    @model_validator(mode="after")
    def _stages_fit_the_crop(self) -> Self:
        factor = 2 ** len(self.channels)
        if self.width % factor or self.height % factor:
            raise ValueError(
                f"width {self.width} and height {self.height} must be multiples of {factor}, "
                f"because {len(self.channels)} channels mean {len(self.channels)} halvings"
            )
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the crop."""
        return self.width, self.height

"""Options of `bolid generate`; imports no torch."""

from pydantic import Field, NonNegativeInt, PositiveInt

from ..config import Config


class GenerateConfig(Config):
    """How pictures are sampled."""

    lambda_face: float = Field(default=1.0, description="weight of the face branch; 0 switches it off")
    lambda_body: float = Field(default=1.0, description="weight of the body branch; 0 switches it off")
    steps: PositiveInt = Field(default=4, description="sampler steps")
    guidance: float = Field(
        default=0.0, ge=0, description="up to 1: few-step sampling; above: the full scheduler with guidance"
    )
    seed: NonNegativeInt = Field(default=0, description="of the first picture; each further one adds 1")
    count: PositiveInt = Field(default=1, description="pictures")
    height: PositiveInt | None = Field(
        default=None, multiple_of=8, description="pixels; by default what the adapter was trained at, else 1024"
    )
    width: PositiveInt | None = Field(default=None, multiple_of=8, description="pixels; likewise")

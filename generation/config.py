"""Options of `bolid generate`; imports no torch."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ..config import Config


class GenerateConfig(Config):
    """How pictures are sampled."""

    lambda_face: float = Field(default=1.0, description="weight of the face branch; 0 switches it off")
    lambda_body: float = Field(default=1.0, description="weight of the body branch; 0 switches it off")
    steps: PositiveInt = Field(default=4, description="sampler steps")
    guidance: float = Field(
        default=0.0, ge=0, description="up to 1: few-step sampling; above: the full scheduler with guidance"
    )
    lightning: str | None = Field(
        default=None, description="few-step UNet of the base: a registry name, a folder or a .safetensors file"
    )
    seed: NonNegativeInt = Field(default=0, description="of the first picture; each further one adds 1")
    count: PositiveInt = Field(default=1, description="pictures")
    height: PositiveInt | None = Field(
        default=None, multiple_of=8, description="pixels; by default what the adapter was trained at, else 1024"
    )
    width: PositiveInt | None = Field(default=None, multiple_of=8, description="pixels; likewise")

    @model_validator(mode="after")
    def _few_steps_need_no_guidance(self) -> Self:
        if self.lightning is not None and self.guidance > 1:
            raise ValueError("a few-step UNet has its guidance within; leave guidance at 0, or lightning out")
        return self

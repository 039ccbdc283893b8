"""Configuration of `bolid train adapter`; imports no torch."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ..config import Config
from .config import RunConfig

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"

# What a base sets; values given beside it win.
SIZES: dict[str, dict[str, Any]] = {
    "random-tiny": {
        "resolution": 128,
        "loop": {
            "steps": 100,
            "lr": 1e-3,
            "warmup": 10,
            "ema": 0.98,
            "identities_per_batch": 6,
            "save_every": 50,
            "sample_every": 50,
        },
    },
}


class DropOut(Config):
    """Share of the samples that lose a condition, for classifier-free guidance (document 000, eqs. 8 and 13)."""

    text: float = Field(default=0.05, ge=0, le=1, description="the text alone")
    face: float = Field(default=0.05, ge=0, le=1, description="the face alone")
    body: float = Field(default=0.05, ge=0, le=1, description="the body alone")
    all: float = Field(default=0.05, ge=0, le=1, description="text, face and body together")

    @model_validator(mode="after")
    def _is_a_partition(self) -> Self:
        if self.text + self.face + self.body + self.all > 1:
            raise ValueError("text + face + body + all must be at most 1: they are shares of one set of samples")
        return self


class AdapterConfig(RunConfig):
    """What `train_adapter` is asked for."""

    base: str = Field(default=SDXL, description="base pipeline: a hub name, a folder, or random-tiny")
    body: str = Field(default="vae", description="run that trained the body encoder")
    baseline: Literal["none", "ip-adapter"] = Field(
        default="none", description="ip-adapter: no body branch, for comparison"
    )
    resolution: PositiveInt = Field(default=1024, multiple_of=8, description="side of the training picture in pixels")
    refs: PositiveInt = Field(default=4, description="reference photos of one target, the target never among them")
    face_tokens: PositiveInt = Field(default=4, description="tokens of the face branch")
    body_tokens: PositiveInt = Field(default=4, description="tokens of the body branch")
    drop: DropOut = DropOut()
    caption_fallback: str = Field(default="a photo of a person", description="used where a photo has no caption")
    sample_prompts: tuple[str, ...] = Field(
        default=("a photo of a person standing", "a person sitting on a bench in a park"),
        description="of the sample grid",
    )
    sample_identities: PositiveInt = Field(
        default=3, description="identities of the sample grid and of the validation loss"
    )
    sample_steps: PositiveInt = Field(default=4, description="sampler steps of the sample grid")
    sample_seed: NonNegativeInt = Field(default=0, description="of the sample grid and of the validation noise")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_base(cls, values: Any) -> Any:  # noqa: ANN401 - what pydantic passes
        if not isinstance(values, dict) or values.get("base") not in SIZES:
            return values
        size, loop = SIZES[values["base"]], values.get("loop", {})
        given = loop.model_dump(exclude_unset=True) if isinstance(loop, Config) else loop
        return {**size, **values, "loop": {**size["loop"], **given}}

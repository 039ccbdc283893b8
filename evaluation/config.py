"""Options of `bolid eval`; imports no torch."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ..config import Config


class EvalConfig(Config):
    """What is measured on, and how much of it."""

    split: Literal["val", "test"] = Field(
        default="test", description="split of held-out people; val where this one is empty"
    )
    identities: PositiveInt = Field(default=50, description="people at most")
    views: PositiveInt = Field(default=8, description="photos a person at most; retrieval splits them in two halves")
    prompts: tuple[str, ...] = Field(
        default=("a photo of a person standing", "a person sitting on a bench in a park"),
        description="of generated pictures",
    )
    steps: PositiveInt = Field(default=4, description="sampler steps")
    resolution: PositiveInt | None = Field(
        default=None, multiple_of=8, description="of generated pictures; as in training"
    )
    grid_identities: PositiveInt = Field(default=3, description="people in the report's sample grid")
    seed: NonNegativeInt = Field(default=0, description="of noise and of generated pictures")

"""Configuration of a training run; imports no torch, so that the command line can show and check it at once."""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..config import Config


class LoopConfig(Config):
    """What every run of `training.loop.train` has in common."""

    steps: PositiveInt = Field(default=20_000, description="optimizer updates in the whole run")
    identities_per_batch: PositiveInt = Field(default=8, description="identities in one forward pass of one process")
    accumulation: PositiveInt = Field(default=1, description="forward passes to one update")
    lr: PositiveFloat = Field(default=1e-4, description="learning rate after the warm-up")
    schedule: Literal["constant", "cosine"] = Field(default="constant", description="learning rate after the warm-up")
    warmup: NonNegativeInt = Field(default=500, description="updates in which the learning rate rises linearly")
    weight_decay: NonNegativeFloat = Field(default=0.01, description="decoupled weight decay of AdamW")
    clip: NonNegativeFloat = Field(default=1.0, description="largest norm of the gradient, 0 for no limit")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights, 0 for none")
    save_every: PositiveInt = Field(default=1_000, description="updates between checkpoints")
    keep: PositiveInt = Field(default=3, description="checkpoints kept, the newest ones")
    log_every: PositiveInt = Field(default=10, description="updates between writes of the metrics")
    sample_every: NonNegativeInt = Field(
        default=1_000, description="updates between sample grids, 0 for the last one only"
    )
    nonfinite_limit: PositiveInt = Field(default=10, description="updates in a row that may be skipped as not finite")
    seed: NonNegativeInt = 0
    workers: NonNegativeInt = Field(default=2, description="processes that read the shards")
    optimizer: Literal["adamw", "adamw8bit"] = Field(
        default="adamw", description="adamw8bit: moments in 8 bits, by bitsandbytes"
    )
    compile: str = Field(default="", description="backend of torch.compile, such as inductor; empty for none")
    mixed_precision: Literal["auto", "no", "bf16"] = Field(default="auto", description="auto: bf16 on a GPU, else none")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class CacheConfig(Config):
    """Where what frozen networks make of photos and captions is kept, and what of it is used."""

    mode: Literal["off", "on", "first", "only"] = Field(
        default="off",
        description="on: read, and add what is missing; first: fill it before the first update; "
        "only: VAE and text encoders are not loaded, all entries must be there, and there are no sample grids",
    )
    folder: str = Field(default="", description="of the cache; empty: cache/ beside the folder of the runs")


# Keys of `loop` that a resumed run may change without its losses changing.
FREE_ON_RESUME = frozenset({"save_every", "keep", "log_every", "sample_every", "workers", "device", "nonfinite_limit"})
# Tables of which the same is true as a whole.
FREE_TABLES = ("cache.",)


class RunConfig(Config):
    """Base of the configuration of a run: a task's own keys and the table `[loop]`.

    `BEFORE` holds what a key amounted to in versions that did not have it, where that is not today's default, so that
    a run of such a version is not continued with other losses.
    """

    BEFORE: ClassVar[dict[str, Any]] = {}

    loop: LoopConfig = LoopConfig()

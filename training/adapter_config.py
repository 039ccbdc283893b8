"""Configuration of `bolid train adapter`; imports no torch."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from ..config import Config
from .aspects import aspect_sizes
from .config import CacheConfig, RunConfig

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"

_SMALL: dict[str, Any] = {
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
}
# What a base sets; values given beside it win. The demo's base knows the words of its own captions.
SIZES: dict[str, dict[str, Any]] = {
    "random-tiny": _SMALL,
    "demo-base": _SMALL
    | {
        "sample_prompts": (
            "a full-length photo of a person wearing a red shirt and blue jeans, standing in a park",
            "a photo of a person wearing a white sweater, seated on a stool indoors by a grey wall",
        ),
        "sample_steps": 4,
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


class AdapterWeights(Config):
    """Factor of each term beside L_diff (eq. 14); 0 turns a term off, and with all at 0 nothing is generated."""

    id: NonNegativeFloat = Field(default=0.0, description="alpha: L_id, body of the generated picture, see losses.id")
    clip_text: NonNegativeFloat = Field(default=0.0, description="beta: L_CLIP, generated picture against its caption")
    clip_image: NonNegativeFloat = Field(default=0.0, description="generated picture against the references")

    def any(self) -> bool:
        """Say whether a term needs generated pictures."""
        return max(self.id, self.clip_text, self.clip_image) > 0


class LossConfig(Config):
    """What the terms on generated pictures look at them with."""

    id: Literal["keypoints", "proportions"] = Field(
        default="keypoints",
        description="keypoints: their distance in the torso frame; proportions: log ratios of bones to the torso",
    )
    pose: str = Field(default="yolo11x-pose", description="YOLO-pose network of L_id: a registry name or a .pt file")
    clip: str = Field(default="clip-vit-large-patch14", description="CLIP of L_CLIP: a registry name or a folder")
    keypoint_confidence: float = Field(
        default=0.5, ge=0, le=1, description="that a keypoint needs in both pictures to count"
    )
    person_score: float = Field(
        default=0.25, ge=0, le=1, description="of the person in the generated picture, under which nothing counts"
    )


class LightningConfig(Config):
    """The few-step sample that the terms beside L_diff look at."""

    model: str = Field(
        default="",
        description="few-step UNet of the base: a registry name, a folder or .safetensors file; empty: the base's own",
    )
    every: PositiveInt = Field(default=4, description="updates from one sample to the next")
    steps: PositiveInt = Field(default=4, description="of the sampler, as many as the UNet was distilled for")
    start: NonNegativeInt | None = Field(
        default=None,
        description="step (1 to steps) to which the target's own latent is noised; 0: pure noise; not given: "
        "steps // 2 + 1, which is t = 499, for losses.id=keypoints, else 0",
    )
    grad_steps: PositiveInt = Field(default=1, description="last steps that keep their gradient")
    checkpoint: bool = Field(default=True, description="compute these steps again on the way back, to save memory")
    scale: float = Field(default=1.0, gt=0, le=1, description="side of the sample's latent, as a share of the target's")
    crop: NonNegativeInt = Field(
        default=0, multiple_of=8, description="side in pixels of the part that is decoded, 0 for all of it"
    )

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        for name, value in (("grad_steps", self.grad_steps), ("start", self.start or 0)):
            if value > self.steps:
                raise ValueError(f"{name} = {value} is more than steps = {self.steps}; lower it")
        return self


class AdapterConfig(RunConfig):
    """What `train_adapter` is asked for."""

    base: str = Field(default=SDXL, description="base pipeline: a hub name, a folder, or random-tiny")
    body: str = Field(default="vae", description="run that trained the body encoder")
    baseline: Literal["none", "ip-adapter"] = Field(
        default="none", description="ip-adapter: no body branch, for comparison"
    )
    resolution: PositiveInt = Field(default=1024, multiple_of=8, description="side of the training picture in pixels")
    aspects: bool = Field(default=False, description="pictures of many shapes with the area of resolution²")
    aspect_step: PositiveInt = Field(default=64, multiple_of=8, description="pixels between two sides of a shape")
    refs: PositiveInt = Field(default=4, description="reference photos of one target, the target never among them")
    face_tokens: PositiveInt = Field(default=4, description="tokens of the face branch")
    body_tokens: PositiveInt = Field(default=4, description="tokens of the body branch")
    rank: NonNegativeInt = Field(default=0, description="of the trained part of K and V; 0 trains whole matrices")
    mask: Literal["none", "box", "person"] = Field(
        default="none",
        description="where in the picture face and body act: everywhere, in the person box, or round the keypoints",
    )
    noise_offset: NonNegativeFloat = Field(default=0.0, description="share of noise that is one number a channel")
    min_snr_gamma: NonNegativeFloat = Field(default=0.0, description="limit of the signal-to-noise weight; 0 for none")
    cache: CacheConfig = CacheConfig()
    drop: DropOut = DropOut()
    weights: AdapterWeights = AdapterWeights()
    losses: LossConfig = LossConfig()
    lightning: LightningConfig = LightningConfig()
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

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.aspects and self.resolution % self.aspect_step:
            raise ValueError(
                f"resolution {self.resolution} must be a multiple of aspect_step {self.aspect_step} for aspects = true"
            )
        if self.aspects and self.mask != "none" and self.aspect_step % 32:
            raise ValueError(
                f"aspect_step {self.aspect_step} must be a multiple of 32 for mask = {self.mask}, so that the mask "
                "fits the resolution of every layer"
            )
        return self

    @model_validator(mode="after")
    def _layout_fits(self) -> Self:
        if self.weights.id and self.losses.id == "keypoints" and self.start == 0:
            raise ValueError(
                "losses.id = keypoints compares places and needs the target's layout: set lightning.start to a step "
                "from 1 on, or losses.id = proportions"
            )
        return self

    @property
    def start(self) -> int:
        """Step of the sampler at which generated pictures begin as the target's latent; 0 for pure noise."""
        if self.lightning.start is not None:
            return self.lightning.start
        # On the demo's base the first start from which the layout is the target's: benchmarks/lightning_start.py.
        return self.lightning.steps // 2 + 1 if self.weights.id and self.losses.id == "keypoints" else 0

    def sizes(self) -> list[tuple[int, int]]:
        """Return (width, height) of the shapes that a batch of targets may have; none: the square alone."""
        return aspect_sizes(self.resolution, self.aspect_step) if self.aspects else []

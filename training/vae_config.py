"""Configuration of the training of the Body-ID Encoder; imports no torch."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from ..config import Config
from ..models.body_config import BodyConfig
from .config import RunConfig

# What `size` sets; values given beside it win.
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "demo": {
        "body": {"width": 48, "height": 64, "latent": 64, "channels": (16, 32, 48, 64)},
        "loop": {
            "steps": 150,
            "lr": 1e-3,
            "warmup": 10,
            "ema": 0.98,
            "identities_per_batch": 6,
            "save_every": 50,
            "sample_every": 75,
        },
        "kl_rise": 50,
        "validation_items": 16,
    },
}


class VaeWeights(Config):
    """Factor of each term of the loss (method.md, stage 1.5); 0 turns a term off."""

    reconstruction: NonNegativeFloat = 1.0
    perceptual: NonNegativeFloat = 0.0
    kl: NonNegativeFloat = 1e-3
    ratios: NonNegativeFloat = 0.1
    info_nce: NonNegativeFloat = 0.1


class VaeConfig(RunConfig):
    """Configuration of `bolid train vae`.

    Attributes:
        size: a set of defaults: `full` for real photos, `demo` for a minute on two cores.
        body: sizes of encoder and decoder.
        weights: of the terms of the loss; the perceptual one is 0 because it needs a network that must be pulled.
        mask: what of the crop is reconstructed: the person (all of it where no pose was measured), or all of it.
        perceptual: CLIP whose image tower the perceptual term compares pictures with: a registry name or a folder.
        refs: references K of each target; InfoNCE needs two or more.
        view_dropout: probability that a reference is left out of the posterior, so that few views are practised.
        free_bits: nats that each number of the latent may carry at no cost.
        kl_rise: updates in which the KL term rises to its weight.
        temperature: of InfoNCE.
        keypoint_confidence: that both ends of a bone need for its ratio to count.
        validation_items: held-out targets that are reconstructed for the validation figure.
        retrieval_views: views in each of the two disjoint sets that must find each other.
    """

    BEFORE: ClassVar[dict[str, Any]] = {"mask": "none"}

    size: Literal["full", "demo"] = "full"
    body: BodyConfig = BodyConfig()
    weights: VaeWeights = VaeWeights()
    mask: Literal["person", "none"] = "person"
    perceptual: str = "clip-vit-large-patch14"
    refs: PositiveInt = 4
    view_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    free_bits: NonNegativeFloat = 0.02
    kl_rise: NonNegativeInt = 2_000
    temperature: PositiveFloat = 0.1
    keypoint_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    validation_items: PositiveInt = 64
    retrieval_views: PositiveInt = 4

    @model_validator(mode="before")
    @classmethod
    def _fill_from_size(cls, values: Any) -> Any:  # noqa: ANN401 - what pydantic passes
        if isinstance(values, dict) and values.get("size") in SIZES:
            return _over(SIZES[values["size"]], values)
        return values


def _over(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return `defaults` with the values of `given` in their place, table by table."""
    merged = dict(defaults)
    for key, value in given.items():
        table = defaults.get(key)
        if isinstance(value, Config):
            value = value.model_dump(exclude_unset=True)
        merged[key] = _over(table, value) if isinstance(table, dict) and isinstance(value, dict) else value
    return merged

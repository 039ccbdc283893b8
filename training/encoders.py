"""The frozen networks that make what the UNet is told and what it denoises: by themselves, or through the cache.

Legend: B batch, K references, S text tokens, h and w latents, d body latent.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor, nn

from .. import atomic
from ..errors import ModelError
from ..models.body_encoder import BodyEncoder
from ..models.sdxl import Text, encode_text
from ..shards.dataset import PERSON_MARGIN
from .cache import Entry, Space, digest_of, weights_digest
from .posteriors import unit_pixels
from .task import Batch

BASES = "bases"
DECODER = "shards.picture.decode_planes 1"
"""How a crop comes from a photo; to be counted up when that function gives other pixels than before."""


class AdapterCache:
    """The spaces of one base and one body encoder.

    The digests of the base's VAE and text encoders are written under the digest of its UNet, so that a machine which
    has the UNet alone finds the entries.

    Args:
        root: folder of the cache.
        pipe: the base, before anything is installed into it or moved; its VAE and text encoders may be None.
        encoder: the body encoder.
        precision: in which the networks run, `float32` or `bfloat16`.

    Raises:
        ModelError: the base has no VAE and the cache does not know its UNet.
    """

    def __init__(self, root: Path, pipe: StableDiffusionXLPipeline, encoder: BodyEncoder, precision: str) -> None:
        self.root, self.precision, self.body_size = root, precision, encoder.config.size
        made_by = _made_by(root, pipe)
        self.scaling_factor = float(made_by["scaling_factor"])
        self._vae, self._latents = made_by["vae"], dict[tuple[int, int], Space]()
        self.text = Space(root, "text", weights=made_by["text"], precision=precision)
        self.posteriors = Space(
            root,
            "posteriors",
            weights=weights_digest(encoder),
            precision=precision,
            transform=f"{DECODER} person {encoder.config.width}x{encoder.config.height} margin {PERSON_MARGIN}",
        )

    def latents(self, size: tuple[int, int]) -> Space:
        """Return the space of targets of `size` (width, height) in pixels."""
        if size not in self._latents:
            transform = f"{DECODER} image {size[0]}x{size[1]}"
            self._latents[size] = Space(
                self.root, "latents", weights=self._vae, precision=self.precision, transform=transform
            )
        return self._latents[size]

    def spaces(self) -> list[Space]:
        """Return the spaces that were used."""
        return [*self._latents.values(), self.text, self.posteriors]

    def flush(self) -> None:
        """Write what was added."""
        for space in self.spaces():
            space.flush()


class FrozenEncoders:
    """Text, body posteriors and latents of a batch: given with it, read from the cache, or made and added to it.

    On a CPU each sample goes through a network by itself: what comes out then does not depend on the rest of its
    batch, and a run with the cache is equal to one without, to the bit.

    Args:
        pipe: the base.
        encoder: the body encoder.
        cache: None to make everything anew.
    """

    def __init__(
        self, pipe: StableDiffusionXLPipeline, encoder: BodyEncoder, cache: AdapterCache | None = None
    ) -> None:
        self.pipe, self.encoder, self.cache = pipe, encoder, cache

    @property
    def scaling_factor(self) -> float:
        """Latents of the UNet are those of the VAE times this."""
        if self.pipe.vae is not None or self.cache is None:
            return float(self.pipe.vae.config["scaling_factor"])
        return self.cache.scaling_factor

    def text(self, batch: Batch, captions: list[str]) -> Text:
        """Return the embeddings of captions: states `[B, S, D]`, pooled `[B, P]`."""
        if "text_states" in batch:
            return Text(batch["text_states"], batch["text_pooled"])
        made = self._made(
            self.cache.text if self.cache else None, [text_key(text) for text in captions], self._texts(captions)
        )
        return Text(made["states"], made["pooled"])

    def dropped_text(self) -> Text:
        """Return what a dropped text is, as `models.sdxl.dropped_text`, `[1, S, D]` and `[1, P]`."""
        empty = self.text({}, [""])
        if self.pipe.config["force_zeros_for_empty_prompt"]:
            return Text(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))
        return empty

    def view_posteriors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mu and logvar `[B, K, d]` of every reference."""
        if "reference_mu" in batch:
            return batch["reference_mu"], batch["reference_logvar"]
        views, keypoints = batch["references"], batch["reference_keypoints"]
        if not self._keyed(batch):
            return self._view_posteriors(views, keypoints)
        keys = [key for row in batch["reference_photos"] for key in row]
        there = [row for row, key in enumerate(keys) if key]  # the others only fill up, with weight 0
        flat = views.flatten(0, 1)[there], keypoints.flatten(0, 1)[there]

        def make(rows: list[int]) -> Entry:
            mu, logvar = self._view_posteriors(flat[0][rows][:, None], flat[1][rows][:, None])
            return {"mu": mu[:, 0], "logvar": logvar[:, 0], "keypoints": flat[1][rows]}

        made = self._made(self.cache.posteriors if self.cache else None, [keys[row] for row in there], make)
        filled = [made[name].new_zeros(len(keys), made[name].shape[-1]) for name in ("mu", "logvar")]
        filled[0][there], filled[1][there] = made["mu"], made["logvar"]
        shape = (*views.shape[:2], -1)
        return filled[0].view(shape), filled[1].view(shape)

    def latent_posterior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation `[B, 4, h, w]` of the targets' latents, not scaled."""
        if "latent_mean" in batch:
            return batch["latent_mean"], batch["latent_std"]
        target = batch["target"]
        height, width = target.shape[-2:]

        def make(rows: list[int]) -> Entry:
            mean, std = self._latent_posterior(target[rows])
            return {
                "mean": mean,
                "std": std,
                "keypoints": batch["keypoints"][rows],
                "crop_top_left": batch["crop_top_left"][rows],
            }

        if not self._keyed(batch):
            return self._latent_posterior(target)
        made = self._made(self.cache.latents((width, height)) if self.cache else None, batch["photo"], make)
        return made["mean"], made["std"]

    def _keyed(self, batch: Batch) -> bool:
        return self.cache is not None and "photo" in batch

    def _made(self, space: Space | None, keys: Sequence[str], make: Callable[[list[int]], Entry]) -> Entry:
        """Return the entries of `keys`; those that are not there are made, and added."""
        if space is None:
            return make(list(range(len(keys))))
        missing = [row for row, key in enumerate(keys) if key not in space]
        if missing:
            made = make(missing)
            for place, row in enumerate(missing):
                space.add(keys[row], {name: tensor[place] for name, tensor in made.items()})
        return {name: tensor.to(self.device) for name, tensor in space.read(keys).items()}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.encoder.parameters()).device

    def _parts(self, count: int) -> list[slice]:
        """Return what goes through a network at once."""
        if self.device.type == "cpu":
            return [slice(row, row + 1) for row in range(count)]
        return [slice(0, count)]

    def _texts(self, captions: list[str]) -> Callable[[list[int]], Entry]:
        @torch.no_grad()
        def make(rows: list[int]) -> Entry:
            require(self.pipe.text_encoder, self.cache, "text encoders")
            chosen = [captions[row] for row in rows]
            made = [encode_text(self.pipe, chosen[part]) for part in self._parts(len(chosen))]
            return {"states": torch.cat([text.states for text in made]), "pooled": torch.cat([t.pooled for t in made])}

        return make

    @torch.no_grad()
    def _view_posteriors(self, views: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        shape = views.shape[:2]
        if not shape.numel():
            empty = views.new_zeros(*shape, self.encoder.config.latent, dtype=torch.float32)
            return empty, empty
        flat = unit_pixels(views.flatten(0, 1))[:, None], keypoints.flatten(0, 1)[:, None]
        made = [self.encoder(flat[0][part], flat[1][part]) for part in self._parts(len(flat[0]))]
        mu, logvar = (torch.cat([one[side][:, 0] for one in made]).view(*shape, -1) for side in (0, 1))
        return mu, logvar

    @torch.no_grad()
    def _latent_posterior(self, target: Tensor) -> tuple[Tensor, Tensor]:
        vae: Any = require(self.pipe.vae, self.cache, "VAE")
        pixels = unit_pixels(target).to(vae.dtype)
        made = [vae.encode(pixels[part]).latent_dist for part in self._parts(len(pixels))]
        return torch.cat([one.mean for one in made]), torch.cat([one.std for one in made])


def text_key(caption: str) -> str:
    """Return the key of a caption."""
    return digest_of(caption)


def photo_key(image_sha256: bytes, json_sha256: bytes) -> str:
    """Return the key of a photo and of what is known about it: boxes and keypoints decide crop and heat-maps."""
    return digest_of(image_sha256, json_sha256)


def require(network: nn.Module | None, cache: AdapterCache | None, what: str) -> nn.Module:
    """Return the network.

    Raises:
        ModelError: it is not loaded, because the cache was to hold all that it makes.
    """
    if network is None:
        where = f" in {cache.root}" if cache else ""
        raise ModelError(
            f"an entry is missing{where} and the base's {what} are not loaded; fill the cache where they are "
            "(cache.mode=first), or set cache.mode=on"
        )
    return network


def _made_by(root: Path, pipe: StableDiffusionXLPipeline) -> dict[str, str]:
    """Return digests of VAE and text encoders and the latents' scale, from the networks or else as written before."""
    path = root / BASES / f"{weights_digest(pipe.unet)}.json"
    if pipe.vae is None or pipe.text_encoder is None or pipe.text_encoder_2 is None:
        try:
            found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(
                f"the cache {root} holds nothing of this base's VAE and text encoders; fill it where they are: "
                "the same command with --set cache.mode=first"
            ) from error
        return found
    tokenizers: list[Any] = [pipe.tokenizer, pipe.tokenizer_2]
    words = [f"{one.backend_tokenizer.to_str()} {one.model_max_length}" for one in tokenizers]
    text = digest_of(weights_digest(pipe.text_encoder, pipe.text_encoder_2), *words)
    made_by = {"vae": weights_digest(pipe.vae), "text": text, "scaling_factor": str(pipe.vae.config["scaling_factor"])}
    atomic.write_text(path, json.dumps(made_by, indent=1))
    return made_by

"""The adapter as one object: projectors and branch matrices, installed into and removed from any SDXL UNet.

A `ConditionBranch`'s state dict, its matrices merged, *is* an IP-Adapter FaceID file, so stock diffusers loads it with
`load_ip_adapter(folder, subfolder=["", ""], weight_name=["face.safetensors", "body.safetensors"],
image_encoder_folder=None)`. Nothing is registered inside the UNet: its state dict stays the base's.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from .. import atomic
from ..errors import ModelError
from .adapter_files import read, save_aligned
from .attention import DecoupledAttnProcessor, KeyValue
from .projectors import BODY_DIM, FACE_DIM, BodyProjector, FaceProjector, TokenProjector

FORMAT = "bolid-adapter-1"
CONDITIONS = ("face", "body")
OWN_METADATA = ("format", "bolid_format", "condition")
SELF_ATTENTION = "attn1.processor"

Scale = float | Mapping[str, float]
"""lambda everywhere, or by prefix of the layer's name ("down_blocks.1", "mid_block"); a layer not named gets 0."""


@dataclass(frozen=True)
class ConditionShape:
    """Size of one condition: width of its vector and number of its tokens."""

    dim: int
    tokens: int = 4


DEFAULT_SHAPES: Mapping[str, ConditionShape] = {
    "face": ConditionShape(FACE_DIM),
    "body": ConditionShape(BODY_DIM),
}


class ConditionBranch(nn.Module):
    """All that is trained for one condition: a projector and K, V of every cross-attention layer.

    Args:
        image_proj: makes the tokens.
        ip_adapter: K and V by layer index 1, 3, 5 … in the order of the UNet's `attn_processors`.
    """

    def __init__(self, image_proj: TokenProjector, ip_adapter: Mapping[str, KeyValue]) -> None:
        super().__init__()
        self.image_proj = image_proj
        self.ip_adapter = nn.ModuleDict(ip_adapter)

    def merged_state(self) -> dict[str, Tensor]:
        """Return the state with every K and V as one matrix, which is IP-Adapter FaceID's layout."""
        merged = {f"image_proj.{key}": value for key, value in self.image_proj.state_dict().items()}
        for index, matrices in self.ip_adapter.items():
            named = matrices.matrices().items()  # type: ignore[operator]
            merged |= {f"ip_adapter.{index}.{name}": matrix for name, matrix in named}
        return merged

    def key_values(self) -> list[KeyValue]:
        """Return K and V in the UNet's order of layers."""
        return [self.ip_adapter[key] for key in sorted(self.ip_adapter, key=int)]  # type: ignore[misc]


class AdapterBundle(nn.Module):
    """Face and body branch of one adapter (only the face branch for the IP-Adapter baseline).

    Args:
        branches: `ConditionBranch` by condition, in the order in which embeddings are passed.
    """

    def __init__(self, branches: Mapping[str, ConditionBranch]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.metadata: dict[str, str] = {}
        self._scales: dict[str, Scale] = dict.fromkeys(branches, 1.0)
        self._host: _Host | None = None

    @classmethod
    def for_unet(
        cls, unet: UNet2DConditionModel, shapes: Mapping[str, ConditionShape] = DEFAULT_SHAPES, rank: int = 0
    ) -> "AdapterBundle":
        """Return a fresh adapter for `unet`: K and V begin as the text branch's, projectors are random.

        Args:
            unet: the base's.
            shapes: of each condition.
            rank: of the trained part of K and V, which are then the text branch's of this `unet` plus that part;
                0 trains whole copies. An export holds whole matrices either way.
        """
        layers = list(cross_attention_layers(unet).values())
        return cls({name: _fresh_branch(name, shape, layers, rank) for name, shape in shapes.items()})

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the branches, in the order in which embeddings are passed."""
        return tuple(self.branches)

    def branch(self, condition: str) -> ConditionBranch:
        """Return the branch of `condition`."""
        return self.branches[condition]  # type: ignore[return-value]

    def tokens(self, embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Project the embedding of every condition, `[..., d]` each, to tokens `[..., T, D]`.

        Raises:
            ValueError: not one embedding a condition.
        """
        if len(embeddings) != len(self.branches):
            raise ValueError(f"{len(embeddings)} embeddings for the conditions {', '.join(self.conditions)}")
        return [self.branch(name).image_proj(c) for name, c in zip(self.conditions, embeddings, strict=True)]

    def set_scale(self, **scales: Scale) -> None:
        """Set lambda of the named conditions, now and for later installations.

        Raises:
            ValueError: a condition that this adapter does not have.
        """
        unknown = set(scales) - set(self.conditions)
        if unknown:
            raise ValueError(f"no branch {', '.join(sorted(unknown))} in an adapter of {', '.join(self.conditions)}")
        self._scales.update(scales)
        if self._host is not None:
            self._apply_scales(self._host.unet)

    def install(self, unet: UNet2DConditionModel) -> None:
        """Put the branches into every cross-attention layer of `unet`; embeddings then go in as `image_embeds`.

        The UNet takes them where stock pipelines put them: `added_cond_kwargs["image_embeds"]`, one tensor a
        condition, `[B, d]` or `[B, n, d]`.

        Raises:
            ModelError: the adapter does not fit this UNet, or one is installed already.
        """
        if self._host is not None:
            raise ModelError("this adapter is already installed; call remove() first")
        if unet.encoder_hid_proj is not None:
            raise ModelError("this UNet already has an adapter or image projection; unload it first")
        layers = cross_attention_layers(unet)
        columns = [self.branch(name).key_values() for name in self.conditions]
        _check_fit(layers, dict(zip(self.conditions, columns, strict=True)))
        processors: dict[str, Any] = dict(unet.attn_processors)
        self._host = _Host(unet, dict(processors), _config(unet).encoder_hid_dim_type)
        for index, name in enumerate(layers):
            processors[name] = DecoupledAttnProcessor([column[index] for column in columns])
        unet.set_attn_processor(processors)
        _set_projection(unet, _Projection(self), "ip_image_proj")
        self._apply_scales(unet)

    def remove(self) -> None:
        """Give the UNet back exactly as it was before `install`; without effect when not installed."""
        if self._host is None:
            return
        host, self._host = self._host, None
        host.unet.set_attn_processor(dict(host.processors))
        _set_projection(host.unet, None, host.encoder_hid_dim_type)

    @contextlib.contextmanager
    def installed(self, unet: UNet2DConditionModel) -> Iterator["AdapterBundle"]:
        """Install for the block, remove after it."""
        self.install(unet)
        try:
            yield self
        finally:
            self.remove()

    def export(self, folder: Path, metadata: Mapping[str, str] | None = None) -> list[Path]:
        """Write `<condition>.safetensors` for every branch; `metadata` goes into the headers.

        Returns:
            The files, in the order in which embeddings are passed.
        """
        files = []
        for name in self.conditions:
            branch = self.branch(name)
            header = {**(metadata or self.metadata), "format": "pt", "bolid_format": FORMAT, "condition": name}
            tensors = {key: value.detach().cpu().contiguous() for key, value in branch.merged_state().items()}
            files.append(folder / f"{name}.safetensors")
            with atomic.replacing(files[-1]) as temporary:
                save_aligned(tensors, header, temporary)
        return files

    @classmethod
    def load(cls, folder: Path) -> "AdapterBundle":
        """Read an adapter that `export` wrote; all sizes come from the weights.

        Raises:
            ModelError: no adapter there, or a file that is damaged or in another layout.
        """
        found = [(name, folder / f"{name}.safetensors") for name in CONDITIONS]
        branches, metadata = {}, {}
        for name, file in found:
            if file.exists():
                tensors, header = read(file)
                branches[name] = _branch_from(tensors, file)
                metadata.update(header)
        if not branches:
            raise ModelError(f"no adapter in {folder} (face.safetensors, body.safetensors); give a run's export folder")
        bundle = cls(branches)
        bundle.metadata = {key: value for key, value in metadata.items() if key not in OWN_METADATA}
        return bundle

    def _apply_scales(self, unet: UNet2DConditionModel) -> None:
        for name, processor in unet.attn_processors.items():
            if isinstance(processor, DecoupledAttnProcessor):
                processor.set_scales([scale_at(self._scales[condition], name) for condition in self.conditions])


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return the cross-attention layers of `unet` by processor name, in the order stock loaders count them."""
    modules = dict(unet.named_modules())
    names = [name for name in unet.attn_processors if not name.endswith(SELF_ATTENTION)]
    return {name: modules[name.removesuffix(".processor")] for name in names}


def scale_at(scale: Scale, layer: str) -> float:
    """Return lambda of one layer: the value of the longest prefix of its name, 0 when no prefix matches."""
    if not isinstance(scale, Mapping):
        return float(scale)
    matching = [prefix for prefix in scale if layer == prefix or layer.startswith(f"{prefix}.")]
    return float(scale[max(matching, key=len)]) if matching else 0.0


@dataclass(frozen=True)
class _Host:
    """The UNet an adapter is installed in, and what it had before."""

    unet: UNet2DConditionModel
    processors: dict[str, Any]
    encoder_hid_dim_type: str | None


class _Projection:
    """What the UNet calls for `image_embeds`; no module, so that nothing is registered inside the UNet."""

    def __init__(self, bundle: AdapterBundle) -> None:
        self._bundle = bundle

    def __call__(self, image_embeds: Sequence[Tensor]) -> list[Tensor]:
        return self._bundle.tokens(image_embeds)


def _set_projection(unet: UNet2DConditionModel, projection: _Projection | None, kind: str | None) -> None:
    unet._modules.pop("encoder_hid_proj", None)  # left there as None by stock unload_ip_adapter
    unet.encoder_hid_proj = projection  # type: ignore[assignment]
    _config(unet).encoder_hid_dim_type = kind


def _config(unet: UNet2DConditionModel) -> Any:  # noqa: ANN401  (a dictionary with attributes)
    return unet.config


def _fresh_branch(name: str, shape: ConditionShape, layers: Sequence[Attention], rank: int) -> ConditionBranch:
    projector = {"face": FaceProjector, "body": BodyProjector}[name]
    image_proj = projector(layers[0].to_k.in_features, shape.tokens, shape.dim)
    made = [KeyValue.low_rank(layer, rank) if rank else KeyValue.copy_of_text_branch(layer) for layer in layers]
    return ConditionBranch(image_proj, {str(2 * index + 1): matrices for index, matrices in enumerate(made)})


def _check_fit(layers: Mapping[str, Attention], columns: Mapping[str, Sequence[KeyValue]]) -> None:
    for condition, column in columns.items():
        if len(column) != len(layers):
            raise ModelError(
                f"the {condition} adapter is for {len(column)} cross-attention layers, this UNet has {len(layers)}; "
                "use the base model it was trained on"
            )
        for (name, layer), matrices in zip(layers.items(), column, strict=True):
            have, want = tuple(matrices.to_k_ip.weight.shape), tuple(layer.to_k.weight.shape)
            if have != want:
                raise ModelError(
                    f"the {condition} adapter has K {have} where {name} of this UNet has {want}; "
                    "use the base model it was trained on"
                )


def _branch_from(tensors: Mapping[str, Tensor], file: Path) -> ConditionBranch:
    try:
        hidden, dim = tensors["image_proj.proj.0.weight"].shape
        width = tensors["image_proj.norm.weight"].shape[0]
        projector = TokenProjector(dim, width, tensors["image_proj.proj.2.weight"].shape[0] // width, hidden // dim)
        keys = {key.split(".")[1] for key in tensors if key.startswith("ip_adapter.")}
        sizes = {key: tensors[f"ip_adapter.{key}.to_k_ip.weight"].shape for key in keys}
        branch = ConditionBranch(projector, {key: KeyValue(sizes[key][1], sizes[key][0]) for key in keys})
        branch.load_state_dict(dict(tensors))
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{file} is not in the IP-Adapter FaceID layout: {error}") from error
    return branch.to(torch.float32) if _mixed(tensors) else branch.to(next(iter(tensors.values())).dtype)


def _mixed(tensors: Mapping[str, Tensor]) -> bool:
    return len({tensor.dtype for tensor in tensors.values()}) > 1

"""Decoupled cross-attention: the text branch of a frozen layer plus one branch a condition (document 000, eq. 11).

Legend of shape suffixes: B batch, L latent positions, S text tokens, T condition tokens, C width of the layer,
D cross-attention width, H heads, E width of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.image_processor import IPAdapterMaskProcessor
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class LowRank(nn.Module):
    """A frozen matrix of the base plus a trained product of two thin ones: W + U D (LoRA, Hu et al. 2021, eq. 3).

    U begins with zeros, so that the layer begins as the frozen one. The frozen matrix stays the UNet's: it is neither
    in this module's state nor moved with it.

    Args:
        frozen: layer without bias, `[C, D]`.
        rank: rows of D and columns of U.
    """

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self._frozen = (frozen,)  # in a tuple, so that it is not registered
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    @property
    def weight(self) -> Tensor:
        """The matrix that the layer stands for, `[C, D]`, in the type of the trained part."""
        frozen = self._frozen[0].weight.to(self.up.weight)
        return frozen + self.up.weight @ self.down.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., C]` of `[..., D]`."""
        changed: Tensor = self.up(self.down(x))
        return F.linear(x, self._frozen[0].weight.to(x.dtype)) + changed


class KeyValue(nn.Module):
    """The matrices W_k and W_v of one condition in one cross-attention layer; the names are IP-Adapter's.

    Args:
        cross_attention_dim: D, width of the condition's tokens.
        hidden_size: C, width of the layer.
    """

    def __init__(self, cross_attention_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.to_k_ip: nn.Linear | LowRank = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_v_ip: nn.Linear | LowRank = nn.Linear(cross_attention_dim, hidden_size, bias=False)

    @classmethod
    def copy_of_text_branch(cls, attn: Attention) -> "KeyValue":
        """Return matrices that start as copies of the text branch's, as in IP-Adapter's SDXL training."""
        hidden_size, cross_attention_dim = attn.to_k.weight.shape
        created = cls(cross_attention_dim, hidden_size)
        with torch.no_grad():
            created.to_k_ip.weight.copy_(attn.to_k.weight)
            created.to_v_ip.weight.copy_(attn.to_v.weight)
        return created

    @classmethod
    def low_rank(cls, attn: Attention, rank: int) -> "KeyValue":
        """Return matrices that are the text branch's plus a trained part of `rank`, which begins at zero."""
        created = cls.__new__(cls)
        nn.Module.__init__(created)
        created.to_k_ip, created.to_v_ip = LowRank(attn.to_k, rank), LowRank(attn.to_v, rank)
        return created

    def matrices(self) -> dict[str, Tensor]:
        """Return the two matrices `[C, D]` under the names of the state dict, whole also where they are low-rank."""
        return {"to_k_ip.weight": self.to_k_ip.weight, "to_v_ip.weight": self.to_v_ip.weight}

    def forward(self, tokens_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return K and V, each `[B, T, C]`."""
        return self.to_k_ip(tokens_BTD), self.to_v_ip(tokens_BTD)


class DecoupledAttnProcessor:
    """Z' = Attn(Q, K_t, V_t) + sum over conditions c of lambda_c · Attn(Q, K_c, V_c)  (eq. 11, extended).

    A plain object, not a module: the matrices belong to the `AdapterBundle`, so that the UNet's own state dict stays
    that of the base and no saver meets the same tensor twice.

    Args:
        branches: one `KeyValue` a condition (BoLID: face, body).
        scales: lambda of each condition; exactly 0 skips its branch, so that the base is reproduced bit for bit.

    Raises:
        ValueError: not as many scales as branches, or tokens for another number of branches.
    """

    def __init__(self, branches: Sequence[KeyValue], scales: Sequence[float] | None = None) -> None:
        self.branches = tuple(branches)
        self.scales: tuple[float, ...] = (1.0,) * len(self.branches)
        if scales is not None:
            self.set_scales(scales)

    def set_scales(self, scales: Sequence[float]) -> None:
        """Set lambda of every condition."""
        if len(scales) != len(self.branches):
            raise ValueError(f"{len(scales)} scales for {len(self.branches)} branches")
        self.scales = tuple(float(scale) for scale in scales)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | tuple[Tensor, Sequence[Tensor]],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_adapter_masks: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Attend to text and conditions.

        Args:
            attn: the layer; its to_q, to_k, to_v, to_out are used as they are.
            hidden_states: `[B, L, C]` or `[B, C, height, width]`.
            encoder_hidden_states: text `[B, S, D]`, or a pair of it and the tokens of each condition,
                `[B, T, D]` or `[B, n, T, D]` (n pictures, as stock pipelines pass them).
            attention_mask: mask of the text tokens, as in stock processors.
            temb: time embedding, for layers with a spatial norm.
            ip_adapter_masks: where in the picture each condition acts: one mask a condition, `[1 or B, 1, H, W]` in
                0..1, as stock pipelines pass them in `cross_attention_kwargs`. None: everywhere.

        Returns:
            The layer's output, same shape as `hidden_states`.
        """
        text_BSD, conditions = _split(encoder_hidden_states)
        if len(conditions) not in (0, len(self.branches)):
            raise ValueError(f"tokens of {len(conditions)} conditions for {len(self.branches)} branches")
        residual = hidden_states
        x_BLC = _prepare(attn, hidden_states, temb)
        query_BHLE = _heads(attn, attn.to_q(x_BLC))
        output_BLC = _attend(query_BHLE, *_text_key_value(attn, text_BSD), _text_mask(attn, attention_mask, text_BSD))
        masks = _masks(ip_adapter_masks, len(self.branches))
        for branch, scale, tokens, mask in zip(self.branches, self.scales, conditions, masks, strict=False):
            if scale == 0:
                continue
            key_BTC, value_BTC = branch(tokens.flatten(1, -2))
            attended_BLC = _attend(query_BHLE, _heads(attn, key_BTC), _heads(attn, value_BTC))
            output_BLC = output_BLC + scale * _within(mask, attended_BLC)
        return _finish(attn, output_BLC, residual)


def _split(encoder_hidden_states: Tensor | tuple[Tensor, Sequence[Tensor]]) -> tuple[Tensor, Sequence[Tensor]]:
    if isinstance(encoder_hidden_states, tuple):
        return encoder_hidden_states
    return encoder_hidden_states, ()


def _masks(masks: Sequence[Tensor | None] | None, branches: int) -> Sequence[Tensor | None]:
    if masks is None:
        return [None] * branches
    wrong = [tuple(mask.shape) for mask in masks if mask is not None and (mask.ndim != 4 or mask.shape[1] != 1)]
    if len(masks) != branches or wrong:
        shapes = f", not {', '.join(map(str, wrong))}" if wrong else ""
        raise ValueError(f"{len(masks)} masks for {branches} branches; give one [1 or B, 1, H, W] a branch{shapes}")
    return masks


def _within(mask_B1HW: Tensor | None, attended_BLC: Tensor) -> Tensor:
    """Return what a condition adds, times its mask at the layer's resolution (scaled as stock processors do)."""
    if mask_B1HW is None:
        return attended_BLC
    scaled_BLC = IPAdapterMaskProcessor.downsample(mask_B1HW[:, 0], *attended_BLC.shape)
    masked_BLC: Tensor = attended_BLC * scaled_BLC.to(attended_BLC)
    return masked_BLC


def _prepare(attn: Attention, hidden_states: Tensor, temb: Tensor | None) -> Tensor:
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if hidden_states.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    return hidden_states


def _text_key_value(attn: Attention, text_BSD: Tensor) -> tuple[Tensor, Tensor]:
    if attn.norm_cross:
        text_BSD = attn.norm_encoder_hidden_states(text_BSD)
    return _heads(attn, attn.to_k(text_BSD)), _heads(attn, attn.to_v(text_BSD))


def _text_mask(attn: Attention, mask: Tensor | None, text_BSD: Tensor) -> Tensor | None:
    if mask is None:
        return None
    batch, length, _ = text_BSD.shape
    mask = attn.prepare_attention_mask(mask, length, batch)
    return mask.view(batch, attn.heads, -1, mask.shape[-1])


def _heads(attn: Attention, x_BTC: Tensor) -> Tensor:
    batch, _, width = x_BTC.shape
    return x_BTC.view(batch, -1, attn.heads, width // attn.heads).transpose(1, 2)


def _attend(query_BHLE: Tensor, key_BHTE: Tensor, value_BHTE: Tensor, mask: Tensor | None = None) -> Tensor:
    attended_BHLE = F.scaled_dot_product_attention(query_BHLE, key_BHTE, value_BHTE, attn_mask=mask)
    return attended_BHLE.transpose(1, 2).flatten(2).to(query_BHLE.dtype)


def _finish(attn: Attention, output_BLC: Tensor, residual: Tensor) -> Tensor:
    output: Tensor = attn.to_out[1](attn.to_out[0](output_BLC))
    if residual.ndim == 4:
        output = output.transpose(-1, -2).reshape(residual.shape)
    if attn.residual_connection:
        output = output + residual
    return output / attn.rescale_output_factor

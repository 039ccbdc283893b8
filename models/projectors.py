"""Projectors: one condition vector becomes a few tokens of the UNet's cross-attention width.

The layout is IP-Adapter FaceID's (`proj.0`, GELU, `proj.2`, `norm`), which stock diffusers recognises by its keys and
whose number of tokens it reads from the weights. Legend: B batch, d condition width, T tokens, D cross-attention width.
"""

from torch import Tensor, nn

FACE_DIM = 512
BODY_DIM = 256


class TokenProjector(nn.Module):
    """LayerNorm(W_2 GELU(W_1 c + b_1) + b_2), cut into tokens.

    Args:
        condition_dim: d, width of the condition.
        cross_attention_dim: D, width of a token.
        tokens: T, number of tokens.
        multiple: hidden width as a multiple of d; the loader reads it back by integer division.
    """

    def __init__(self, condition_dim: int, cross_attention_dim: int, tokens: int = 4, multiple: int = 2) -> None:
        super().__init__()
        self.condition_dim, self.cross_attention_dim, self.tokens = condition_dim, cross_attention_dim, tokens
        hidden = multiple * condition_dim
        self.proj = nn.Sequential(
            nn.Linear(condition_dim, hidden), nn.GELU(), nn.Linear(hidden, cross_attention_dim * tokens)
        )
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, condition_Bd: Tensor) -> Tensor:
        """Return tokens `[..., T, D]` of conditions `[..., d]`; the zero vector is the dropped condition."""
        projected: Tensor = self.proj(condition_Bd)
        tokens_BTD: Tensor = self.norm(projected.view(*condition_Bd.shape[:-1], self.tokens, self.cross_attention_dim))
        return tokens_BTD


class FaceProjector(TokenProjector):
    """Projects an L2-normalised ArcFace embedding."""

    def __init__(self, cross_attention_dim: int, tokens: int = 4, condition_dim: int = FACE_DIM) -> None:
        super().__init__(condition_dim, cross_attention_dim, tokens)


class BodyProjector(TokenProjector):
    """Projects a body-identity latent c_body."""

    def __init__(self, cross_attention_dim: int, tokens: int = 4, condition_dim: int = BODY_DIM) -> None:
        super().__init__(condition_dim, cross_attention_dim, tokens)

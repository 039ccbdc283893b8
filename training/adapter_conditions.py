"""The three conditions of a training sample, and their drop-out (document 000, eqs. 1, 8, 13).

Legend: B batch, K references, F face width, d body width, S text tokens, D cross-attention width.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.sdxl import Text
from .adapter_config import DropOut


@dataclass(frozen=True)
class Conditions:
    """What the adapter is told about each sample.

    Attributes:
        text: states `[B, S, D]` and pooled `[B, P]`.
        face: `[B, F]`, of unit length, or zero where no reference shows a face.
        body: `[B, d]`, zero where no reference shows a body.
    """

    text: Text
    face: Tensor
    body: Tensor

    def embeddings(self, names: tuple[str, ...]) -> list[Tensor]:
        """Return the embeddings of the named branches, in their order."""
        return [{"face": self.face, "body": self.body}[name] for name in names]


def face_of(reference_faces_BKF: Tensor) -> Tensor:
    """Return the mean of the references' face embeddings, L2-normalised; references without a face are zero vectors."""
    unit_BKF = F.normalize(reference_faces_BKF.float(), dim=-1)
    return F.normalize(unit_BKF.sum(1), dim=-1)


def dropped(draw_B: Tensor, rates: DropOut) -> dict[str, Tensor]:
    """Say which samples lose what.

    Args:
        draw_B: uniform numbers in [0, 1), one a sample; one draw decides, so the four cases exclude each other.
        rates: share of each case.

    Returns:
        `text`, `face`, `body`: booleans `[B]`.
    """
    edges = torch.tensor([rates.text, rates.face, rates.body, rates.all], device=draw_B.device).cumsum(0)
    case_B = torch.bucketize(draw_B, edges, right=True)
    return {name: (case_B == index) | (case_B == 3) for index, name in enumerate(("text", "face", "body"))}


def drop(conditions: Conditions, lost: dict[str, Tensor], no_text: Text) -> Conditions:
    """Replace lost conditions: face and body by the zero embedding before projection, text by `no_text`.

    This is what stock guidance has in its unconditional half; anything else would train another unconditional model
    than the one that guidance subtracts.
    """
    keep_face, keep_body = (~lost[name][:, None] for name in ("face", "body"))
    lost_text = lost["text"]
    text = Text(
        torch.where(lost_text[:, None, None], no_text.states, conditions.text.states),
        torch.where(lost_text[:, None], no_text.pooled, conditions.text.pooled),
    )
    return replace(conditions, text=text, face=conditions.face * keep_face, body=conditions.body * keep_body)

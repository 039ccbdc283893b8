"""Held-out people as the body encoder sees them.

Legend: m views of a person, d body latent, H and W crop, N pictures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import DataError
from ..models.body_encoder import BodyEncoder, aggregate_views, fitted
from ..shards.dataset import IdentityDataset
from ..training.adapter_conditions import face_of
from ..training.adapter_data import split_with_pairs
from .config import EvalConfig

CHUNK = 32  # pictures encoded at once
SPLITS = ("test", "val")


@dataclass(frozen=True)
class Views:
    """Photos of one held-out person and their posteriors.

    Attributes:
        rows: rows of the split's index, `m` of them.
        pixels: `[m, 3, H, W]` in -1..1.
        keypoints: `[m, 17, 3]`.
        weight: `[m]` confidence of each view.
        faces: `[m, 512]`, zeros where no face.
        mu, logvar: `[m, d]`.
    """

    rows: tuple[int, ...]
    pixels: Tensor
    keypoints: Tensor
    weight: Tensor
    faces: Tensor
    mu: Tensor
    logvar: Tensor

    def body(self, chosen: slice | list[int] = slice(None)) -> Tensor:
        """Return c_body `[d]` of the chosen views."""
        mu, _ = aggregate_views(self.mu[chosen][None], self.logvar[chosen][None], self.weight[chosen][None])
        return mu[0]

    def face(self) -> Tensor:
        """Return the face embedding `[512]` of unit length, or zeros."""
        return face_of(self.faces[None])[0]


def held_out(shards: Path, encoder: BodyEncoder, config: EvalConfig) -> tuple[str, list[Views]]:
    """Read and encode the held-out people with at least two photos, in the order of their numbers.

    Returns:
        The split that was used (`config.split`, else the other held-out one), and its people.

    Raises:
        DataError: there is no dataset, or no held-out split has a person with two photos.
    """
    split = split_with_pairs(shards, (config.split, *SPLITS))
    if split is None:
        raise DataError(
            f"{shards} holds no held-out person with two photos; pack with a larger --split for val or test"
        )
    data = IdentityDataset(shards, split, refs=0, size=encoder.config.size, crop="person")
    return split, [_views(data, rows, encoder) for rows in _rows(data, config)]


@torch.no_grad()
def picture_features(encoder: BodyEncoder, pictures_N3HW: Tensor) -> npt.NDArray[np.float64]:
    """Return mu `[N, d]` of the middle of pictures, in the encoder's aspect and without keypoints.

    Cut, never squeezed: a body that is narrowed on its way in would be measured as another body.
    """
    parts = []
    for chunk in torch.split(fitted(centred(pictures_N3HW, encoder.config.size), encoder.config.size), CHUNK):
        mu, _ = encoder(chunk[:, None], torch.zeros(len(chunk), 1, 17, 3))
        parts.append(mu[:, 0])
    return np.asarray(torch.cat(parts).double().numpy())


def centred(pictures_N3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the largest centred part of pictures that has the aspect of `size` (width, height), at its own scale."""
    height, width = pictures_N3HW.shape[-2:]
    kept_width = min(width, round(height * size[0] / size[1]))
    kept_height = min(height, round(width * size[1] / size[0]))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return pictures_N3HW[..., top : top + kept_height, left : left + kept_width]


def as_views(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Turn pictures `[N, H, W, 3]` into `[N, 3, H, W]` in -1..1."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1


def _rows(data: IdentityDataset, config: EvalConfig) -> list[tuple[int, ...]]:
    identities = data.index["identity"].to_numpy()
    grouped = [np.flatnonzero(identities == number)[: config.views] for number in np.unique(identities)]
    return [tuple(int(row) for row in rows) for rows in grouped if len(rows) > 1][: config.identities]


@torch.no_grad()
def _views(data: IdentityDataset, rows: tuple[int, ...], encoder: BodyEncoder) -> Views:
    items = [data[row] for row in rows]
    pixels, keypoints, weight, faces = (
        torch.stack([item[key] for item in items]) for key in ("target", "keypoints", "view_weight", "face")
    )
    mu, logvar = encoder(pixels[None], keypoints[None])
    return Views(rows, pixels, keypoints, weight, faces, mu[0], logvar[0])

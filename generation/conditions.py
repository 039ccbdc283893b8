"""Whose body and whose face: from the identity bank, from photos, from a file, or from nobody.

Legend: N pictures, m photos, d body latent, F face embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import DataError, UsageError
from ..models.body_encoder import BodyEncoder
from ..models.identity_bank import IdentityBank
from ..models.projectors import FACE_DIM
from ..shards.geometry import picture_window
from ..shards.picture import decode, oriented_size
from .provenance import Source


@dataclass(frozen=True)
class Person:
    """What the user said about the person.

    Attributes:
        run: export folder of the VAE run: encoder and identity bank.
        identity: name or number of a stored identity.
        photos: photos of one person.
        face: `.npy` file with a face embedding.

    Raises:
        UsageError: both a stored identity and photos, or one of them without `run`.
    """

    run: Path | None = None
    identity: str | None = None
    photos: tuple[Path, ...] = ()
    face: Path | None = None

    def __post_init__(self) -> None:
        if self.identity is not None and self.photos:
            raise UsageError("give either a stored identity or photos, not both")
        if self.has_body and self.run is None:
            raise UsageError("a stored identity or photos need the run of the body encoder; give --body RUN")

    @property
    def has_body(self) -> bool:
        """Whether the body is somebody's."""
        return self.identity is not None or bool(self.photos)

    @property
    def body_source(self) -> Source:
        """Where the body comes from."""
        return "bank" if self.identity is not None else "photos" if self.photos else "prior"

    @property
    def face_source(self) -> Source:
        """Where the face comes from."""
        return "none" if self.face is None else "embedding"


def body_of(person: Person, seeds: Sequence[int], width: int) -> Tensor:
    """Return the body latent of each picture, `[N, d]`: the person's, or one drawn from the prior by its seed.

    Raises:
        DataError: the identity is not in the bank, or a photo cannot be read.
        ModelError: there is no encoder or bank in the run.
    """
    if person.run is None or not person.has_body:
        return prior_bodies(seeds, width)
    latent = (
        IdentityBank.load(person.run).latent(person.identity)
        if person.identity is not None
        else photographed_body(BodyEncoder.load(person.run), person.photos)
    )
    return latent.expand(len(seeds), -1)


def prior_bodies(seeds: Sequence[int], width: int) -> Tensor:
    """Draw a latent `[N, d]` from N(0, I) for each seed."""
    return torch.stack([torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def photographed_body(encoder: BodyEncoder, photos: Sequence[Path]) -> Tensor:
    """Return c_body `[1, d]` of photos of one person.

    No pose network is asked: every photo is one view of weight 1 with dark heat-maps, as in a dataset whose pose stage
    did not run.

    Raises:
        DataError: a photo cannot be read.
    """
    size = encoder.config.size
    views = torch.stack([_view(photo, size) for photo in photos])[None]
    keypoints = torch.zeros(1, len(photos), 17, 3)
    mu, _ = encoder.encode(views, keypoints, torch.ones(1, len(photos)))
    return mu


def face_of(person: Person, count: int) -> Tensor:
    """Return the face embedding of each picture, `[N, F]` of unit length; zeros, the dropped face, where none is given.

    Raises:
        DataError: the file is missing or holds something else than 512 finite numbers.
    """
    if person.face is None:
        return torch.zeros(count, FACE_DIM)
    try:
        stored = np.load(person.face, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{person.face} cannot be read ({error}); give a .npy file with a face embedding") from error
    if stored.shape != (FACE_DIM,) or not np.isfinite(stored).all():
        raise DataError(f"{person.face} holds {stored.shape}, not {FACE_DIM} finite numbers")
    return F.normalize(torch.from_numpy(stored.astype(np.float32)), dim=0).expand(count, -1)


def _view(photo: Path, size: tuple[int, int]) -> Tensor:
    """Return the largest centred part of a photo with the aspect of `size`, `[3, H, W]` in -1..1."""
    try:
        with Image.open(photo) as picture:
            window = picture_window(oriented_size(picture), size)
        pixels = decode(photo.read_bytes(), window, size)
    except OSError as error:
        raise DataError(f"the photo {photo} cannot be read ({error}); give a JPEG, PNG or WebP file") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1

"""Posteriors of every photo of a split, and what they add up to by identity.

Shapes: N photos, I identities, d latent.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from ..models.body_encoder import BodyEncoder, aggregate_views
from ..models.identity_bank import IdentityBank
from ..shards.dataset import IdentityDataset, collate
from .batches import leave_interrupts
from .task import Batch

BATCH = 64


@dataclass(frozen=True)
class Posteriors:
    """One Gaussian a photo.

    Attributes:
        identity: `[N]` int64, ascending.
        mu, logvar: `[N, d]`.
        weight: `[N]` confidence of the view.
        keypoints: `[N, 17, 3]` in pixels of the crops, or None where they were not kept.
    """

    identity: Tensor
    mu: Tensor
    logvar: Tensor
    weight: Tensor
    keypoints: Tensor | None = None

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar `[1, d]` of the person that all `rows` show."""
        return aggregate_views(self.mu[rows][None], self.logvar[rows][None], self.weight[rows][None])

    def rows_by_identity(self) -> dict[int, Tensor]:
        """Return the rows of each identity."""
        numbers = torch.unique(self.identity).tolist()
        return {number: torch.nonzero(self.identity == number)[:, 0] for number in numbers}


def unit_pixels(pixels: Tensor) -> Tensor:
    """Turn bytes into -1..1."""
    return pixels.float() / 127.5 - 1


def posteriors(encoder: BodyEncoder, photos: IdentityDataset, workers: int) -> Posteriors:
    """Encode every photo of a split by itself.

    Args:
        encoder: on its device.
        photos: a dataset of uint8 crops without references.
        workers: processes that read.
    """
    device = next(encoder.parameters()).device
    loader: DataLoader[Batch] = DataLoader(
        photos, batch_size=BATCH, collate_fn=collate, num_workers=workers, worker_init_fn=leave_interrupts
    )
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for batch in loader:
            views = unit_pixels(batch["target"].to(device))[:, None]
            mu, logvar = encoder(views, batch["keypoints"].to(device)[:, None])
            made = mu[:, 0].cpu(), logvar[:, 0].cpu()
            parts.append((batch["identity"], *made, batch["view_weight"], batch["keypoints"]))
    return Posteriors(*(torch.cat(column) for column in zip(*parts, strict=True)))


def identity_bank(known: Posteriors, slugs: dict[int, str]) -> IdentityBank:
    """Return the product of all views of each identity."""
    rows = known.rows_by_identity()
    products = [known.of_rows(r) for r in rows.values()]
    mu, logvar = (torch.cat(column) for column in zip(*products, strict=True))
    return IdentityBank(list(rows), [slugs[number] for number in rows], [len(r) for r in rows.values()], mu, logvar)


def retrieval(known: Posteriors, views: int) -> dict[str, float]:
    """Return how well two disjoint sets of views of one identity find each other among all, by cosine of mu.

    Each identity with two photos or more gives two sets of at most `views`, a function of its number; each set in
    turn asks for its other half among those of everybody. `rank1`: share found first; `map`: mean average precision,
    which is the mean of 1 / rank, because there is one right answer. Fewer than two such identities give nothing.
    """
    pairs = disjoint_views(known, views)
    if len(pairs) < 2:
        return {}
    first, second = (
        F.normalize(torch.cat([known.of_rows(pair[side])[0] for pair in pairs]), dim=-1) for side in (0, 1)
    )
    similarity = first @ second.T
    ranks = torch.cat([_ranks(similarity), _ranks(similarity.T)])
    return {
        "rank1": float((ranks == 1).float().mean()),
        "map": float((1 / ranks).mean()),
        "retrieval_identities": float(len(pairs)),
    }


def active_dimensions(known: Posteriors, least: float = 0.01) -> float:
    """Return how many numbers of mu vary by more than `least` over photos (active units, Burda et al. 2016)."""
    return float((known.mu.var(0, correction=0) > least).sum())


def disjoint_views(known: Posteriors, views: int) -> list[tuple[Tensor, Tensor]]:
    """Return two disjoint sets of at most `views` rows of each identity that has two photos or more."""
    return [_halves(number, rows, views) for number, rows in known.rows_by_identity().items() if len(rows) > 1]


def _halves(number: int, rows: Tensor, views: int) -> tuple[Tensor, Tensor]:
    order = torch.from_numpy(np.random.default_rng(number).permutation(len(rows)))
    half = min(views, len(rows) // 2)
    return rows[order[:half]], rows[order[half : 2 * half]]


def _ranks(similarity: Tensor) -> Tensor:
    """Return the rank of the diagonal in each row, from 1; ties count against it."""
    return (similarity >= similarity.diagonal()[:, None]).sum(1).float()

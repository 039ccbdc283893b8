"""Endless batches of packed shards for the training loop."""

import signal
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from ..shards.dataset import IdentityDataset, collate
from ..shards.sampler import Draw, IdentityBatchSampler
from .config import LoopConfig
from .task import Batch


class ShardBatches:
    """Batches of a split, in an order that depends on the seed and the number of the batch alone (see `Batches`).

    Args:
        dataset: the photos.
        loop: for seed, size of a batch and workers.
        buckets: (width, height) that a batch's targets may have; none: the dataset's size.
    """

    def __init__(self, dataset: IdentityDataset, loop: LoopConfig, buckets: Sequence[tuple[int, int]] = ()) -> None:
        self.dataset, self.loop, self.buckets = dataset, loop, buckets

    def __call__(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Yield batches from number `start` on; each process has `identities_per_batch` of them."""
        everywhere = self.loop.identities_per_batch * world_size
        sampler = IdentityBatchSampler(
            self.dataset.index,
            everywhere,
            self.loop.seed,
            rank=rank,
            world_size=world_size,
            buckets=self.buckets,
        )
        sampler.set_epoch(*divmod(start, sampler.steps))
        self.dataset.follow(sampler)
        loader: DataLoader[Batch] = DataLoader(
            self.dataset,
            batch_sampler=_Endless(sampler),
            collate_fn=collate,
            num_workers=self.loop.workers,
            worker_init_fn=leave_interrupts,
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)


class _Endless:
    """Epoch after epoch, so that workers read ahead across the end of one."""

    def __init__(self, sampler: IdentityBatchSampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[list[Draw]]:
        while True:
            yield from self._sampler


def leave_interrupts(worker: int) -> None:
    """Let Ctrl-C reach the training process only: it needs its workers to finish the step and save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""The order of the cases in an epoch, and the place in it where a resumed run continues."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.utils.data import Sampler

from brats3d.data.seeds import derive_seed


class EpochCaseSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, case index), so that a sample's augmentation depends on the seed, the epoch and the case only.

    The order of an epoch depends on (seed, epoch). In a distributed run that one order is divided among the processes;
    it wraps around so that all processes get equally many cases.

    Args:
        data_source: the data set; only its length is used.
        seed: random seed of the order.
        shuffle: False keeps the data set's order.
    """

    def __init__(self, data_source: Sized, seed: int = 0, shuffle: bool = True) -> None:
        self.size = len(data_source)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 1
        self.start = 0

    def place(self, epoch: int, start: int = 0) -> None:
        """Set the epoch (from 1) of the next pass, and how many samples of this process it skips."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Return the number of samples in an epoch of this process."""
        return -(-self.size // idist.get_world_size())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this process's (epoch, case index) of one epoch."""
        epoch, order = self.epoch, list(range(self.size))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
            order = torch.randperm(self.size, generator=generator).tolist()
        total = len(self) * idist.get_world_size()
        order = (order * -(-total // self.size))[:total]
        for index in order[idist.get_rank() : total : idist.get_world_size()][self.start :]:
            yield epoch, index


class PlaceSampler:
    """Trainer handler that sets the sampler's epoch, and the place in it where a restored run continues.

    Args:
        sampler: the sampler of the training cases.
        batch_size: samples of the loader per iteration.
    """

    def __init__(self, sampler: EpochCaseSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Place the sampler."""
        finished = engine.state.iteration - (engine.state.epoch - 1) * engine.state.epoch_length
        self.sampler.place(engine.state.epoch, max(0, finished) * self.batch_size)

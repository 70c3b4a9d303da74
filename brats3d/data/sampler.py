"""The order of the cases in an epoch, and where in it a resumed run stands."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.utils.data import Sampler

from brats3d.data.seeds import derive_seed


class EpochCaseSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, case index), so that a sample's augmentation can depend on the seed, the epoch and the case alone.

    The order of an epoch depends on (seed, epoch). With several processes each takes its share of that one order; the
    order is filled up from its own start, so that all shares are equally long.

    Args:
        data_source: the data set; only its length is used.
        seed: of the order.
        shuffle: False keeps the data set's order.
    """

    def __init__(self, data_source: Sized, seed: int = 0, shuffle: bool = True) -> None:
        self.size = len(data_source)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 1
        self.start = 0

    def place(self, epoch: int, start: int = 0) -> None:
        """The next pass is this epoch (from 1), without the first ``start`` samples of this process."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Samples an epoch and process."""
        return -(-self.size // idist.get_world_size())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """This process's (epoch, case index) of one epoch."""
        epoch, order = self.epoch, list(range(self.size))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
            order = torch.randperm(self.size, generator=generator).tolist()
        total = len(self) * idist.get_world_size()
        order = (order * -(-total // self.size))[:total]
        for index in order[idist.get_rank() : total : idist.get_world_size()][self.start :]:
            yield epoch, index


class PlaceSampler:
    """Handler of the trainer: before each epoch the sampler learns the epoch, and where in it a restored run stands.

    Args:
        sampler: an :class:`EpochCaseSampler`.
        batch_size: samples the loader takes at each iteration.
    """

    def __init__(self, sampler: EpochCaseSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Place the sampler."""
        done = engine.state.iteration - (engine.state.epoch - 1) * engine.state.epoch_length
        self.sampler.place(engine.state.epoch, max(0, done) * self.batch_size)

"""The next batches are made while the network works on this one."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from monai.data import DataLoader
from torch.utils.data import BatchSampler, Dataset

from brats3d.engines import EpochCaseSampler

__all__ = ["PrefetchLoader"]


class PrefetchLoader(DataLoader):
    """MONAI's ``DataLoader`` whose batches, without worker processes, are made ahead by one thread.

    At the end of an epoch the thread goes on with the first batch of the next, while the run validates. The batches are
    those of the plain loader: one thread makes all of them, each when the one before it is done. What is raised in it
    is raised where the batch is asked for. (MONAI's ThreadDataLoader ends the epoch quietly instead.)

    With worker processes it is the plain loader, whose workers live from epoch to epoch.

    Args:
        dataset: takes what the sampler gives.
        sampler: knows the epoch and where to begin.
        batch_size: samples a batch.
        num_workers: processes; 0 = the thread.
        ahead: batches that are made ahead; each stays in memory until it is its turn.
        options: of torch's ``DataLoader``.

    Raises:
        ValueError: if ``ahead`` is not 1 or more.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: EpochCaseSampler,
        batch_size: int = 1,
        num_workers: int = 0,
        ahead: int = 2,
        **options: Any,
    ) -> None:
        if ahead < 1:
            raise ValueError(f"ahead: expected 1 batch or more, got {ahead}")
        options = {"persistent_workers": num_workers > 0, **options}
        super().__init__(dataset, num_workers, sampler=sampler, batch_size=batch_size, **options)
        self.ahead = ahead
        self._maker: ThreadPoolExecutor | None = None
        self._next: _Epoch | None = None

    def __iter__(self) -> Iterator[Any]:
        """The batches of the epoch that the sampler is placed at."""
        if self.num_workers:
            return super().__iter__()
        place = self.sampler.epoch, self.sampler.start
        epoch, self._next = self._next, None
        if epoch is None or epoch.place != place:
            if epoch is not None:
                epoch.cancel()
            epoch = _Epoch(self, *place)
        return self._batches(epoch)

    def _batches(self, epoch: _Epoch) -> Iterator[Any]:
        try:
            while (batch := epoch.take()) is not None:
                if epoch.make_ahead(self.ahead) == 0:
                    self._next = _Epoch(self, epoch.place[0] + 1, 0)
                    self._next.make_ahead(1)
                yield batch
        finally:
            epoch.cancel()

    def _submit(self, keys: list[Any]) -> Future:
        self._maker = self._maker or ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        return self._maker.submit(self._make, keys)

    def _make(self, keys: list[Any]) -> Any:
        return self.collate_fn([self.dataset[key] for key in keys])


class _Epoch:
    """One pass over the cases: batches that are wanted, and those that are being made."""

    def __init__(self, loader: PrefetchLoader, epoch: int, start: int) -> None:
        sampler = copy.copy(loader.sampler)
        sampler.place(epoch, start)
        self.place = epoch, start
        self._loader = loader
        self._wanted = iter(BatchSampler(sampler, loader.batch_size, loader.drop_last))
        self._coming: deque[Future] = deque()

    def make_ahead(self, count: int) -> int:
        """Let up to ``count`` batches be made; how many are."""
        while len(self._coming) < count and (keys := next(self._wanted, None)) is not None:
            self._coming.append(self._loader._submit(keys))
        return len(self._coming)

    def take(self) -> Any:
        """The next batch, as soon as it is made; None after the last."""
        self.make_ahead(1)
        return self._coming.popleft().result() if self._coming else None

    def cancel(self) -> None:
        """No more are made, but for the one that the thread is at."""
        for future in self._coming:
            future.cancel()
        self._coming.clear()

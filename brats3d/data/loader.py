"""The next batches are made while the network works on this one."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from monai.data import DataLoader
from torch.utils.data import BatchSampler, Dataset

from brats3d.data.sampler import EpochCaseSampler


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
        ValueError: if ``ahead`` is not 1 or more, or if an option is of no effect without worker processes.
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
        for name in _OF_WORKERS if num_workers == 0 else ():
            if options.get(name):
                raise ValueError(f"{name}: expected num_workers of 1 or more with it, got 0; a thread does not use it")
        options = {"persistent_workers": num_workers > 0, **options}
        super().__init__(dataset, num_workers, sampler=sampler, batch_size=batch_size, **options)
        self.ahead = ahead
        self._maker: ThreadPoolExecutor | None = None
        self._queue: deque[tuple[Future, list[Any]]] = deque()
        self._making = False
        self._lock = threading.Lock()
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
        future: Future = Future()
        with self._lock:
            self._queue.append((future, keys))
            if not self._making:
                self._maker = self._maker or ThreadPoolExecutor(1, thread_name_prefix="prefetch")
                self._maker.submit(self._make_next)
                self._making = True
        return future

    def _make_next(self) -> None:
        """Make one batch, then ask for another turn, which a program that is about to end does not grant.

        Python waits at its end for all that an executor has been given, so that is one batch at a time: after Ctrl-C
        the one that is being made is the last.
        """
        with self._lock:
            future, keys = self._queue.popleft() if self._queue else (Future(), None)
        if keys is not None and future.set_running_or_notify_cancel():
            try:
                future.set_result(self._make(keys))
            except BaseException as error:
                future.set_exception(error)
        del future, keys  # a batch is as large as it is
        with self._lock:
            self._making = bool(self._queue)
            if self._making:
                try:
                    self._maker.submit(self._make_next)  # type: ignore[union-attr]
                except RuntimeError:  # the interpreter is shutting down
                    self._making = False
                    for waiting, _ in self._queue:
                        waiting.cancel()
                    self._queue.clear()

    def _make(self, keys: list[Any]) -> Any:
        return self.collate_fn([self.dataset[key] for key in keys])


_OF_WORKERS = ("pin_memory", "timeout", "worker_init_fn", "prefetch_factor", "persistent_workers")
"""Options that the thread would not heed."""


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


def check_augmentation(on_device: bool, num_workers: int) -> None:
    """Called by train.yaml first: processes that PyTorch forks cannot use a GPU, the training process's thread can.

    Raises:
        ValueError: if ``on_device`` is no bool, or asked for together with worker processes.
    """
    if not isinstance(on_device, bool):  # "--augment_on_device false" may reach a config as a string, which is true
        raise ValueError(f"augment_on_device: expected True or False, got {on_device!r}")
    if on_device and num_workers != 0:
        raise ValueError(f"augment_on_device: expected num_workers 0 with it, a thread, got {num_workers!r}")

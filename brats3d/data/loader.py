"""A data loader that prefetches batches while the network works on the current one."""

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
from brats3d.errors import UsageError

MORE_SHARED_MEMORY = "use --num_workers 0, or give the container more: docker run --shm-size 8g"
"""Advice for worker processes that cannot hand over their batches."""


class PrefetchLoader(DataLoader):
    """MONAI's ``DataLoader`` with a thread that prefetches batches if there are no worker processes.

    At the end of an epoch the thread makes the first batch of the next one while the run validates. The batches equal
    those of the plain loader: one thread makes all of them, one after the other. An error in the thread is raised when
    its batch is requested. (MONAI's ThreadDataLoader silently ends the epoch instead.)

    With worker processes it is the plain loader, and its workers persist from epoch to epoch.

    Args:
        dataset: indexed by what the sampler yields.
        sampler: determines the epoch and the position in it to start from.
        batch_size: samples in a batch.
        num_workers: worker processes; 0 = the thread.
        ahead: number of batches to prefetch; each takes memory until it is used.
        options: further arguments of torch's ``DataLoader``.

    Raises:
        UsageError: if ``ahead`` is below 1; in an epoch, if worker processes lack shared memory.
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
            raise UsageError("ahead", expected="1 batch or more", found=ahead)
        options = {"persistent_workers": num_workers > 0, **options}
        super().__init__(dataset, num_workers, sampler=sampler, batch_size=batch_size, **options)
        self.ahead = ahead
        self._executor: ThreadPoolExecutor | None = None
        self._queue: deque[tuple[Future, list[Any]]] = deque()
        self._is_running = False
        self._lock = threading.Lock()
        self._next: _Epoch | None = None

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of the epoch that the sampler is placed at."""
        if self.num_workers:
            return self._from_workers()
        place = self.sampler.epoch, self.sampler.start
        epoch, self._next = self._next, None
        if epoch is None or epoch.place != place:
            if epoch is not None:
                epoch.cancel()
            epoch = _Epoch(self, *place)
        return self._batches(epoch)

    def _from_workers(self) -> Iterator[Any]:
        try:
            batches = super().__iter__()
        except OSError as error:
            problem = f"worker processes cannot be started ({error})"
            raise UsageError("num_workers", problem, advice=MORE_SHARED_MEMORY) from error
        try:
            yield from batches
        except RuntimeError as error:
            if "shared memory" not in str(error):  # torch has no type for it
                raise
            problem = "the worker processes are out of shared memory"
            raise UsageError("num_workers", problem, advice=MORE_SHARED_MEMORY) from error

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
            if not self._is_running:
                self._executor = self._executor or ThreadPoolExecutor(1, thread_name_prefix="prefetch")
                self._executor.submit(self._make_next)
                self._is_running = True
        return future

    def _make_next(self) -> None:
        """Make one batch, then submit the next turn, unless the interpreter is shutting down.

        At exit Python waits for everything that was submitted to an executor. One batch at a time is submitted, so
        after Ctrl-C only the current batch is finished.
        """
        with self._lock:
            future, keys = self._queue.popleft() if self._queue else (Future(), None)
        if keys is not None and future.set_running_or_notify_cancel():
            try:
                future.set_result(self._make(keys))
            except BaseException as error:
                future.set_exception(error)
        del future, keys  # they hold a batch, which can be large
        with self._lock:
            self._is_running = bool(self._queue)
            if self._is_running:
                try:
                    self._executor.submit(self._make_next)  # type: ignore[union-attr]
                except RuntimeError:  # the interpreter is shutting down
                    self._is_running = False
                    for waiting, _ in self._queue:
                        waiting.cancel()
                    self._queue.clear()

    def _make(self, keys: list[Any]) -> Any:
        return self.collate_fn([self.dataset[key] for key in keys])


class _Epoch:
    """One pass over the cases: the keys of batches still to come, and the batches submitted to the thread."""

    def __init__(self, loader: PrefetchLoader, epoch: int, start: int) -> None:
        sampler = copy.copy(loader.sampler)
        sampler.place(epoch, start)
        self.place = epoch, start
        self._loader = loader
        self._keys = iter(BatchSampler(sampler, loader.batch_size, loader.drop_last))
        self._pending: deque[Future] = deque()

    def make_ahead(self, count: int) -> int:
        """Submit batches until ``count`` are pending; return the number pending (fewer at the end of the epoch)."""
        while len(self._pending) < count and (keys := next(self._keys, None)) is not None:
            self._pending.append(self._loader._submit(keys))
        return len(self._pending)

    def take(self) -> Any:
        """Wait for the next batch and return it; None after the last."""
        self.make_ahead(1)
        return self._pending.popleft().result() if self._pending else None

    def cancel(self) -> None:
        """Cancel all submitted batches but the one that the thread is making."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()

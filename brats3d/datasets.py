"""Cases through transforms: prepared once, kept in memory within a budget, augmented by seed, failures explained."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ignite.distributed as idist
import psutil
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset
from tqdm import tqdm

from brats3d.datalist import explain_item, item_to_case

__all__ = ["CaseDataset", "FillCache", "derive_seed"]

MIN_BACKGROUND = 0.01
"""A skull-stripped brain leaves a third or more of its box at 0; a head with its skull next to nothing."""

logger = logging.getLogger("brats3d")


class CaseDataset(Dataset):
    """Cases through transforms that run in two parts.

    The deterministic part (all transforms before the first random one) runs once a case; its result stays in memory
    while the budget lasts. The random part runs at every access with a seed made from (seed, epoch, case_id): the same
    sample in any process, in any order.

    Where a case cannot be read or holds what cannot be used, the error names the file, what was found and what to do.

    Args:
        data: datalist items; one without a ``case_id``, as other MONAI tools make them, is named after its files.
        transform: a ``Compose`` or a list of transforms.
        seed: of the augmentation.
        cache: share of the free memory that prepared cases may take, 0 to 1; 0 keeps none.
        ahead: prepare the next case in a thread while the caller works on this one; for cases that are taken in order.
        warn: log a warning where an image looks as if its skull had not been removed.

    Raises:
        ValueError: if ``cache`` is not in [0, 1].
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose | Sequence[Callable],
        seed: int = 0,
        cache: float = 0.0,
        ahead: bool = False,
        warn: bool = False,
    ) -> None:
        if not 0 <= cache <= 1:
            raise ValueError(f"cache: expected a share of the free memory from 0 to 1, got {cache}")
        self.data = [{**item, "case_id": item_to_case(item).case_id} for item in data]
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.seed = seed
        self.cache = cache
        self.ahead = ahead
        self.warn = warn
        self._random_from = self.transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._prepared: dict[int, Any] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future] = {}
        self._budget: int | None = None if cache else 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        """The sample, or list of samples, of ``(epoch, index)``; a bare index is of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        item = self.data[index]
        prepared = self._prepared.get(index)
        if prepared is None:
            prepared = self._prepare_and_look_ahead(index) if self.ahead else self._prepare(index)
            self._keep(index, prepared)
        if self._random_from is None:
            return copy.copy(prepared)
        seed = derive_seed(self.seed, epoch, item["case_id"])
        return self.transform.set_random_state(seed=seed)(copy.deepcopy(prepared), start=self._random_from)

    def fill(self, workers: int = 2, progress: bool = True) -> None:
        """Prepare every case that the budget holds, before worker processes are forked and would each do it again."""
        indices = [i for i in range(len(self)) if i not in self._prepared] if self.cache else []
        bar = tqdm(
            total=len(indices), desc="preparing cases", unit="case", disable=not (progress and indices), leave=False
        )
        with bar, ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(indices), workers):
                chunk = indices[start : start + workers]
                kept = [
                    self._keep(index, prepared)
                    for index, prepared in zip(chunk, pool.map(self._prepare_in_thread, chunk))
                ]
                bar.update(len(chunk))
                if not all(kept):
                    break
        self._budget = 0  # worker processes would each spend what is left of it

    def _prepare(self, index: int, transform: Compose | None = None) -> Any:
        item = self.data[index]
        with _explained(item):
            prepared = (transform or self.transform)(copy.copy(item), end=self._random_from)
            self._check(prepared)
        # A crop is a view that keeps the whole volume in memory; a copy of the box is a third of it.
        return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in prepared.items()}

    def _prepare_and_look_ahead(self, index: int) -> Any:
        # One thread does all the preparing, so that no transform ever runs twice at a time. An error in it comes out
        # at ``result``, when its case is asked for. (MONAI's ThreadDataLoader ends quietly after an error.)
        self._reader = self._reader or ThreadPoolExecutor(1)
        prepared = (self._coming.pop(index, None) or self._reader.submit(self._prepare, index)).result()
        if index + 1 < len(self):
            self._coming = {index + 1: self._reader.submit(self._prepare, index + 1)}
        return prepared

    def _prepare_in_thread(self, index: int) -> Any:
        # A copy for each thread: MONAI's NibabelReader keeps the names of the files that it read last, and where two
        # threads share it, images come back with channels missing. (What is to be inverted is not prepared so: MONAI
        # tells a transform's own work by its id.)
        return self._prepare(index, copy.deepcopy(self.transform))

    def _keep(self, index: int, prepared: Any) -> bool:
        """Keep it if the budget allows; the budget is fixed when the first case comes."""
        if self._budget is None:
            self._budget = int(self.cache * psutil.virtual_memory().available / idist.get_nproc_per_node())
        size = sum(value.nbytes for value in prepared.values() if isinstance(value, torch.Tensor))
        if size > self._budget:
            return False
        self._budget -= size
        self._prepared[index] = prepared
        return True

    def _check(self, prepared: Mapping[str, Any]) -> None:
        """An image that is not finite, or whose box has no background at all, is not what the network was made for."""
        image = prepared["image"]
        if not torch.isfinite(torch.as_tensor(image)).all():
            raise ValueError(f"{prepared['case_id']}: the prepared image has NaN or infinite voxels")
        empty = (torch.as_tensor(image) == 0).flatten(1).all(1)
        if empty.any():
            raise ValueError(f"{prepared['case_id']}: channel {int(empty.int().argmax())} of the image is 0 everywhere")
        if self.warn and float((torch.as_tensor(image) == 0).float().mean()) < MIN_BACKGROUND:
            logger.warning(
                "%s: the background is not 0 (skull not removed?); expected skull-stripped images as BraTS has them; "
                "the segmentation cannot be relied on",
                prepared["case_id"],
            )


class FillCache:
    """Handler of the trainer: prepares the cases at the start of the run.

    Args:
        dataset: the training cases.
        workers: threads that read.
    """

    def __init__(self, dataset: CaseDataset, workers: int = 2) -> None:
        self.dataset = dataset
        self.workers = workers

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Fill the cache."""
        self.dataset.fill(self.workers)


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**32) made from the parts; the same on every machine and in every process."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


@contextmanager
def _explained(item: Mapping[str, Any]) -> Iterator[None]:
    """Where the case's files are at fault, raise the error that says so in place of the one that a transform raised."""
    try:
        yield
    except Exception as error:
        try:
            explain_item(item)
        except (ValueError, OSError) as reason:
            raise reason from error
        raise

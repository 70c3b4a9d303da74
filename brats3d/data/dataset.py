"""The data set of cases: prepared once, cached in memory or on disk, augmented by seed, with errors that name files."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset
from tqdm import tqdm

from brats3d.cases import check_extent, explain_item, item_to_case, modality_of
from brats3d.data.absent_sequences import fill_absent
from brats3d.data.cache import DiskCache
from brats3d.data.faster_transforms import speed_up
from brats3d.data.image_doubts import ImageDoubts
from brats3d.data.seeds import derive_seed
from brats3d.data.volume_reader import register_reader
from brats3d.errors import DataError, UsageError
from brats3d.files import free_memory, read_header
from brats3d.labels import order_modalities

BRATS_SHAPE = (240, 240, 155)
"""Shape of a case as BraTS publishes it, in voxels."""

BRAIN_BOX_FRACTION = 0.4
"""Approximate fraction of the volume inside the brain's bounding box."""

RESERVED_BYTES = 4 * 2**30
"""Memory that the cache leaves free. A training step on two patches of 128³ takes 1.5 GiB of a CPU's memory in
bfloat16; float32, validation and the files that are being read need the rest."""

logger = logging.getLogger("brats3d")


class CaseDataset(Dataset):
    """A data set whose transforms run in two parts.

    The deterministic part (all transforms before the first random one) runs once for each case. Its result is kept in
    memory as long as there is room, and then on disk (:class:`brats3d.data.cache.DiskCache`). The random part runs at
    every access with a seed derived from (seed, epoch, case_id): the same sample in any process, in any order.

    If a case's files are damaged or unusable, the error names the file, what was found and what to do.

    Args:
        data: datalist items. An item without a ``case_id``, as from other MONAI tools, gets one from its file names.
        transform: a ``Compose`` or a list of transforms.
        seed: random seed of the augmentation.
        cache: fraction of the free memory, and of the free disk space, for prepared cases, 0 to 1; 0 disables caching.
        cache_dir: folder for the cases that do not fit in memory; None = none. Several runs may use one folder.
        recipe: text that describes ``transform`` with all its arguments, such as the config that it was built from
            (:func:`brats3d.config_reader.config_text`); a change of it invalidates what is on disk. Required by
            ``cache_dir``.
        ahead: prepare the next case in a thread while the caller works on this one; for sequential access.
        warn: log the doubts about every image, such as a skull; by default, the first of each kind and a count. Cases
            that an earlier run stored on disk are not checked again.
        modalities: the sequences of a sample's channels, bound by the names of the item's files; None keeps the item's
            channels as they are.
        absent_sequences: insert a channel of zeros, after the deterministic part, for each sequence that an item lacks.
        device: device of the random part; cached cases stay in main memory. None leaves tensors where they are.

    Raises:
        UsageError: if ``cache`` is not in [0, 1], or ``cache_dir`` is given without a ``recipe``.
        DataError: on access, if a case's files cannot be used, or lack one of the modalities without
            ``absent_sequences``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose | Sequence[Callable],
        seed: int = 0,
        cache: float = 0.0,
        cache_dir: str | Path | None = None,
        recipe: str | None = None,
        ahead: bool = False,
        warn: bool = False,
        modalities: Sequence[str] | None = None,
        absent_sequences: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 <= cache <= 1:
            raise UsageError("cache", expected="a fraction of the free memory, 0 to 1", found=cache)
        if cache_dir and recipe is None:
            raise UsageError("recipe", expected="a text that describes the transforms, which cache_dir requires")
        self.data = [{**item, "case_id": item_to_case(item).case_id} for item in data]
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        register_reader(self.transform)
        speed_up(self.transform)
        self.seed = seed
        self.cache = cache
        self.ahead = ahead
        self._doubts = ImageDoubts(log_each=warn)
        self.modalities = None if modalities is None else order_modalities(modalities)
        self.absent_sequences = absent_sequences
        self.sample_device = device
        self._first_after_loading = _first_after_loading(self.transform)
        self._first_random = self.transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._disk: DiskCache | None = None
        if cache and cache_dir and recipe is not None:
            deterministic = Compose(self.transform.transforms[: self._first_random]).flatten()
            self._disk = DiskCache(cache_dir, recipe, deterministic.transforms, cache)
        self._prepared: dict[int, Any] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._pending: dict[int, Future] = {}
        self._memory_left: int | None = None if cache else 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        """Return the sample, or the list of samples, of ``(epoch, index)``; a bare index means epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        item = self.data[index]
        prepared, kept = self._prepared.get(index), True
        if prepared is None:
            prepared, entry = self._look_ahead(index) if self.ahead else self._prepare(index)
            self._doubts.log()
            kept = self._keep(index, prepared, entry)
        if self._first_random is None:
            return self._bind_channels(copy.copy(prepared), item)
        seed = derive_seed(self.seed, epoch, item["case_id"])
        sample = self._bind_channels(copy.deepcopy(prepared) if kept else prepared, item)
        if self.sample_device is not None:
            sample = {k: v.to(self.sample_device) if isinstance(v, torch.Tensor) else v for k, v in sample.items()}
        return self.transform.set_random_state(seed=seed)(sample, start=self._first_random)

    def exclude(self, case_ids: Collection[str]) -> None:
        """Remove cases from the data set. All prepared cases are dropped."""
        self.data = [item for item in self.data if item["case_id"] not in case_ids]
        self._prepared, self._pending = {}, {}

    def fill(self, workers: int = 2, progress: bool = True) -> None:
        """Prepare every case, in memory, then on disk, so that forked worker processes need not repeat it.

        The cases that do not fit in memory are divided among the processes of a distributed run by their index. If the
        disk is full too, the rest is still read once, so that a damaged case is found now. Cases that are already on
        disk are skipped, and nothing is read if nothing can be cached.

        Args:
            workers: threads that read.
            progress: show a progress bar on a terminal.
        """
        indices = [i for i in range(len(self)) if i not in self._prepared] if self.cache else []
        hidden = None if progress and indices else True  # None shows it on a terminal only, and keeps log files clean
        bar = tqdm(total=len(indices), desc="preparing cases", unit="case", disable=hidden, leave=False)
        room = True
        with bar, ThreadPoolExecutor(workers) as pool:
            while indices and room:
                chunk, indices = indices[:workers], indices[workers:]
                prepared = pool.map(self._prepare_in_thread, chunk)
                kept = [self._keep(index, *result) for index, result in zip(chunk, prepared, strict=True)]
                room = all(kept)
                bar.update(len(chunk))
            if self._prepared or (self._disk and self._disk.writes):
                indices = [i for i in indices if i % idist.get_world_size() == idist.get_rank()]
                bar.total = bar.n + len(indices)
                for _ in pool.map(self._prepare_on_disk, indices):
                    bar.update()
        self._doubts.log()
        self._memory_left = 0  # otherwise each worker process would use the rest again

    def expected_shape(self) -> tuple[int, ...]:
        """Return the approximate shape (H, W, D) of a prepared case, from the header of the first one."""
        try:
            shape = read_header(Path(_paths(self.data[0]["image"])[0])).shape
        except (ValueError, OSError, IndexError):  # an empty shard of a data set has no first case
            shape = BRATS_SHAPE
        return brain_box(shape)

    def expected_bytes(self, free: int) -> int:
        """Estimate the memory that the prepared cases will take, in all processes of this machine.

        Args:
            free: bytes of free memory.
        """
        if not self.data:
            return 0
        channels = len(self.modalities or _paths(self.data[0]["image"]))
        label_bytes = 4 if "label" in self.data[0] else 0
        case_bytes = math.prod(self.expected_shape()) * (4 * channels + label_bytes)
        return min(len(self) * case_bytes, self._memory_share(free)) * idist.get_nproc_per_node()

    def _prepare(self, index: int, transform: Compose | None = None) -> tuple[Any, Path | None]:
        """Return the prepared case, and the path to write it to unless it came from there."""
        item = self.data[index]
        entry = self._disk.entry(item) if self._disk else None
        stored = self._disk.read(entry) if self._disk and entry else None
        if stored is not None:
            return stored, None
        with _explained(item):
            prepared = self._run_deterministic(transform or self.transform, item)
            self._check(prepared, item)
        # A crop can be a view that keeps the whole volume in memory; a copy of the box is a third of it.
        return {k: v.clone() if _is_view(v) else v for k, v in prepared.items()}, entry

    def _run_deterministic(self, transform: Compose, item: Mapping[str, Any]) -> dict[str, Any]:
        """Run the deterministic transforms, with a check of the images as they are in the files."""
        start = self._first_after_loading
        if start is None:
            return transform(copy.copy(item), end=self._first_random)
        loaded = transform(copy.copy(item), end=start)
        self._doubts.check(loaded, item)
        return transform(loaded, start=start, end=self._first_random)

    def _look_ahead(self, index: int) -> tuple[Any, Path | None]:
        # One thread prepares all cases, so no transform ever runs twice at the same time. An error in it is raised by
        # ``result`` when its case is requested. (MONAI's ThreadDataLoader silently ends after an error.)
        self._reader = self._reader or ThreadPoolExecutor(1)
        prepared = (self._pending.pop(index, None) or self._reader.submit(self._prepare, index)).result()
        if index + 1 < len(self) and index + 1 not in self._prepared:
            self._pending = {index + 1: self._reader.submit(self._prepare, index + 1)}
        return prepared

    def _prepare_in_thread(self, index: int) -> tuple[Any, Path | None]:
        # Each thread needs a copy: MONAI's own reader, if the config names it, stores the names of the files that it
        # read last, and images come back with channels missing if two threads share it. (Such cases cannot be inverted
        # later, since MONAI recognises a transform's own operations by its id.)
        return self._prepare(index, copy.deepcopy(self.transform))

    def _prepare_on_disk(self, index: int) -> None:
        if self._disk and self._disk.contains(self.data[index]):
            return
        prepared, entry = self._prepare_in_thread(index)
        if self._disk:
            self._disk.write(entry, self.data[index], prepared)

    def _keep(self, index: int, prepared: Any, entry: Path | None) -> bool:
        """Keep a case in memory and return True; if there is no room left, write it to disk and return False."""
        if self._memory_left is None:
            self._memory_left = self._memory_share(free_memory())
        size = sum(value.nbytes for value in prepared.values() if isinstance(value, torch.Tensor))
        if size > self._memory_left:
            if self._disk:
                self._disk.write(entry, self.data[index], prepared)
            return False
        self._memory_left -= size
        self._prepared[index] = prepared
        return True

    def _memory_share(self, free: int) -> int:
        """Return the bytes that this process may fill."""
        return int(max(0, min(self.cache * free, free - RESERVED_BYTES)) / idist.get_nproc_per_node())

    def _bind_channels(self, prepared: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the case with one channel for each modality, if the names of its files say which is which."""
        present = tuple(map(modality_of, _paths(item["image"])))
        known = tuple(m for m in present if m is not None)
        if self.modalities is None or present == self.modalities or len(known) != len(prepared["image"]):
            return prepared
        if (missing := [m for m in self.modalities if m not in known]) and not self.absent_sequences:
            raise DataError(
                item["case_id"],
                f"missing {', '.join(missing)}",
                expected=", ".join(self.modalities),
                found=", ".join(known),
                advice="use weights that were trained for absent sequences",
            )
        return {**prepared, "image": fill_absent(prepared["image"], known, self.modalities)}

    def _check(self, prepared: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        """Refuse images with NaN or an empty channel, unless that may be absent, and labels of the whole brain."""
        image = torch.as_tensor(prepared["image"])
        # The sum takes a tenth of the time, but large numbers can overflow.
        if not torch.isfinite(image.sum()) and not torch.isfinite(image).all():
            raise DataError(prepared["case_id"], "the prepared image has NaN or infinite voxels")
        background = [1 - np.count_nonzero(channel) / channel.size for channel in image.cpu().numpy()]
        if 1 in background and (not self.absent_sequences or min(background) == 1):
            raise DataError(prepared["case_id"], f"channel {background.index(1)} of the image is 0 everywhere")
        if "label" in prepared and len(label := torch.as_tensor(prepared["label"])) == 1:  # not yet regions
            check_extent(label.count_nonzero().item() / label.numel(), 1 - min(background), str(item["label"]))


class FillCache:
    """Trainer handler that prepares the cases at the start of the run.

    A damaged case is therefore reported before hours of training. With ``cache`` 0, or if neither memory nor disk has
    room for a single case, nothing is read, and a damaged case is reported when it is first used.

    Args:
        dataset: the training or the validation cases.
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


def brain_box(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the approximate shape of the brain's bounding box in a volume of this shape."""
    return tuple(math.ceil(n * BRAIN_BOX_FRACTION ** (1 / 3)) for n in shape)


def _first_after_loading(transform: Compose) -> int | None:
    """Return the index of the first transform that gets images with channels; None if no transform loads images."""
    loader = transform.get_index_of_first(lambda t: isinstance(t, LoadImaged))
    if loader is None:
        return None
    following = transform.transforms[loader + 1 : loader + 2]
    return loader + 1 + sum(isinstance(t, EnsureChannelFirstd) for t in following)


def _is_view(value: Any) -> bool:
    """Return True for a tensor whose memory is larger than itself."""
    return isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes


def _paths(image: Any) -> list[str | Path]:
    return [image] if isinstance(image, str | Path) else list(image)


@contextmanager
def _explained(item: Mapping[str, Any]) -> Iterator[None]:
    """Replace a transform's error by one that explains what is wrong with the case's files, if anything is."""
    try:
        yield
    except Exception as error:
        try:
            explain_item(item)
        except (ValueError, OSError) as reason:
            raise reason from error
        raise

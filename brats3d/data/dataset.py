"""Cases through transforms: prepared once, kept in memory or on disk, augmented by seed, failures explained."""

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
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset
from tqdm import tqdm

from brats3d.cases import explain_item, item_to_case, modality_of
from brats3d.data.cache import DiskCache
from brats3d.data.seeds import derive_seed
from brats3d.data.transforms import fill_absent
from brats3d.files import free_memory, read_header
from brats3d.labels import order_modalities

BRATS_SHAPE = (240, 240, 155)
"""Of a case as BraTS publishes it, in voxels."""

BOX_SHARE = 0.4
"""Of a volume's voxels, about what the box around the brain has."""

MIN_BACKGROUND = 0.01
"""A skull-stripped brain leaves a third or more of its box at 0; a head with its skull next to nothing."""

ROOM_BYTES = 4 * 2**30
"""Memory left to the rest: a training step on two patches of 128³ takes 1.5 GiB of a CPU's in bfloat16, and float32,
validation and the files that are being read need theirs."""

logger = logging.getLogger("brats3d")


class CaseDataset(Dataset):
    """Cases through transforms that run in two parts.

    The deterministic part (all transforms before the first random one) runs once a case; its result stays in memory
    while the budget lasts, and on disk (:class:`brats3d.data.DiskCache`) after that. The random part runs at every
    access with a seed made from (seed, epoch, case_id): the same sample in any process, in any order.

    Where a case cannot be read or holds what cannot be used, the error names the file, what was found and what to do.

    Args:
        data: datalist items; one without a ``case_id``, as other MONAI tools make them, is named after its files.
        transform: a ``Compose`` or a list of transforms.
        seed: of the augmentation.
        cache: share of the free memory, and of the free disk, that prepared cases may take, 0 to 1; 0 keeps none.
        cache_dir: where the cases go that memory has no room for; None keeps none there. Runs may share it.
        ahead: prepare the next case in a thread while the caller works on this one; for cases that are taken in order.
        warn: log a warning where an image looks as if its skull had not been removed.
        modalities: the sequences of a sample's channels, bound by the names of the item's files; None takes the item's
            as they are.
        absent_sequences: put a channel of zeros, after the deterministic part, where an item lacks one of them.
        device: where the random part works; what is kept stays in main memory. None is where the tensors are.

    Raises:
        ValueError: if ``cache`` is not in [0, 1]; when a case is taken that lacks one of the modalities, unless
            ``absent_sequences``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose | Sequence[Callable],
        seed: int = 0,
        cache: float = 0.0,
        cache_dir: str | Path | None = None,
        ahead: bool = False,
        warn: bool = False,
        modalities: Sequence[str] | None = None,
        absent_sequences: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 <= cache <= 1:
            raise ValueError(f"cache: expected a share of the free memory from 0 to 1, got {cache}")
        self.data = [{**item, "case_id": item_to_case(item).case_id} for item in data]
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.seed = seed
        self.cache = cache
        self.ahead = ahead
        self.warn = warn
        self.modalities = None if modalities is None else order_modalities(modalities)
        self.absent_sequences = absent_sequences
        self.sample_device = device
        self._random_from = self.transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._disk = (
            DiskCache(cache_dir, self.transform.transforms[: self._random_from], cache) if cache and cache_dir else None
        )
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
        prepared, kept = self._prepared.get(index), True
        if prepared is None:
            prepared, entry = self._look_ahead(index) if self.ahead else self._prepare(index)
            kept = self._keep(index, prepared, entry)
        if self._random_from is None:
            return self._bind(copy.copy(prepared), item)
        seed = derive_seed(self.seed, epoch, item["case_id"])
        own = self._bind(copy.deepcopy(prepared) if kept else prepared, item)
        if self.sample_device is not None:
            own = {key: v.to(self.sample_device) if isinstance(v, torch.Tensor) else v for key, v in own.items()}
        return self.transform.set_random_state(seed=seed)(own, start=self._random_from)

    def leave_out(self, case_ids: Collection[str]) -> None:
        """From now on the data set is without these cases. What it has prepared is dropped."""
        self.data = [item for item in self.data if item["case_id"] not in case_ids]
        self._prepared, self._coming = {}, {}

    def fill(self, workers: int = 2, progress: bool = True) -> None:
        """Prepare every case, in memory, then on disk, before worker processes are forked and would each do it again.

        Of those that memory has no room for, each process of a distributed run prepares its share, by the case's index.
        Where they cannot be kept on disk either, they are read all the same, so that one that is damaged is found now;
        but for the cases that the disk holds already, and where nothing at all is kept: then nothing is read.
        """
        indices = [i for i in range(len(self)) if i not in self._prepared] if self.cache else []
        bar = tqdm(
            total=len(indices), desc="preparing cases", unit="case", disable=not (progress and indices), leave=False
        )
        room = True
        with bar, ThreadPoolExecutor(workers) as pool:
            while indices and room:
                chunk, indices = indices[:workers], indices[workers:]
                prepared = pool.map(self._prepare_in_thread, chunk)
                kept = [self._keep(index, *p) for index, p in zip(chunk, prepared, strict=True)]
                room = all(kept)
                bar.update(len(chunk))
            if self._prepared or (self._disk and self._disk.writes):
                indices = [i for i in indices if i % idist.get_world_size() == idist.get_rank()]
                bar.total = bar.n + len(indices)
                for _ in pool.map(self._prepare_on_disk, indices):
                    bar.update()
        self._budget = 0  # worker processes would each spend what is left of it

    def expected_shape(self) -> tuple[int, ...]:
        """About the shape (H, W, D) of a prepared case, the box of a brain; from the header of the first one."""
        try:
            shape = read_header(Path(_paths(self.data[0]["image"])[0])).shape
        except (ValueError, OSError, IndexError):  # an empty share of a data set has no first case
            shape = BRATS_SHAPE
        return brain_box(shape)

    def expected_bytes(self, free: int) -> int:
        """About what the prepared cases will take of the memory that is free, in all processes of this machine."""
        if not self.data:
            return 0
        channels = len(self.modalities or _paths(self.data[0]["image"]))
        label = 4 if "label" in self.data[0] else 0
        case = math.prod(self.expected_shape()) * (4 * channels + label)
        return min(len(self) * case, self._share_of(free)) * idist.get_nproc_per_node()

    def _prepare(self, index: int, transform: Compose | None = None) -> tuple[Any, Path | None]:
        """What is on the disk, or else what comes of the files and the entry that it may be written to."""
        item = self.data[index]
        entry = self._disk.entry(item) if self._disk else None
        stored = self._disk.read(entry) if self._disk and entry else None
        if stored is not None:
            return stored, None
        with _explained(item):
            prepared = (transform or self.transform)(copy.copy(item), end=self._random_from)
            self._check(prepared, item)
        # A crop is a view that keeps the whole volume in memory; a copy of the box is a third of it.
        return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in prepared.items()}, entry

    def _look_ahead(self, index: int) -> tuple[Any, Path | None]:
        # One thread does all the preparing, so that no transform ever runs twice at a time. An error in it comes out
        # at ``result``, when its case is asked for. (MONAI's ThreadDataLoader ends quietly after an error.)
        self._reader = self._reader or ThreadPoolExecutor(1)
        prepared = (self._coming.pop(index, None) or self._reader.submit(self._prepare, index)).result()
        if index + 1 < len(self) and index + 1 not in self._prepared:
            self._coming = {index + 1: self._reader.submit(self._prepare, index + 1)}
        return prepared

    def _prepare_in_thread(self, index: int) -> tuple[Any, Path | None]:
        # A copy for each thread: MONAI's NibabelReader keeps the names of the files that it read last, and where two
        # threads share it, images come back with channels missing. (What is to be inverted is not prepared so: MONAI
        # tells a transform's own work by its id.)
        return self._prepare(index, copy.deepcopy(self.transform))

    def _prepare_on_disk(self, index: int) -> None:
        if self._disk and self._disk.holds(self.data[index]):
            return
        prepared, entry = self._prepare_in_thread(index)
        if self._disk:
            self._disk.write(entry, self.data[index], prepared)

    def _keep(self, index: int, prepared: Any, entry: Path | None) -> bool:
        """Whether there was room for it in memory, whose budget is fixed when the first case comes; if not, on disk."""
        if self._budget is None:
            self._budget = self._share_of(free_memory())
        size = sum(value.nbytes for value in prepared.values() if isinstance(value, torch.Tensor))
        if size > self._budget:
            if self._disk:
                self._disk.write(entry, self.data[index], prepared)
            return False
        self._budget -= size
        self._prepared[index] = prepared
        return True

    def _share_of(self, free: int) -> int:
        """Bytes that this process may fill."""
        return int(max(0, min(self.cache * free, free - ROOM_BYTES)) / idist.get_nproc_per_node())

    def _bind(self, prepared: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        """With a channel for each of the modalities, where the files' names say which is which."""
        present = tuple(map(modality_of, _paths(item["image"])))
        known = tuple(m for m in present if m is not None)
        if self.modalities is None or present == self.modalities or len(known) != len(prepared["image"]):
            return prepared
        if (missing := [m for m in self.modalities if m not in known]) and not self.absent_sequences:
            raise ValueError(
                f"{item['case_id']}: missing {', '.join(missing)}; found {', '.join(known)}; "
                f"expected {', '.join(self.modalities)}, unless the weights serve cases without a sequence"
            )
        return {**prepared, "image": fill_absent(prepared["image"], known, self.modalities)}

    def _check(self, prepared: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        """An image that is not finite, or whose box has no background at all, is not what the network was made for."""
        image = torch.as_tensor(prepared["image"])
        if not torch.isfinite(image).all():
            raise ValueError(f"{prepared['case_id']}: the prepared image has NaN or infinite voxels")
        background = (image == 0).flatten(1).float().mean(1).tolist()  # share of the voxels, channel by channel
        if 1 in background:
            raise ValueError(f"{prepared['case_id']}: channel {background.index(1)} of the image is 0 everywhere")
        heads = [channel for channel, share in enumerate(background) if share < MIN_BACKGROUND]
        if self.warn and heads:
            logger.warning(
                "%s: the background is not 0 in %s (skull not removed?); expected skull-stripped images as BraTS has "
                "them; the segmentation cannot be relied on",
                prepared["case_id"],
                ", ".join(_name_channels(item["image"], len(background), heads)),
            )


class FillCache:
    """Handler of the trainer: prepares the cases at the start of the run.

    So every case is read once before hours of training, and one that is damaged is named. The exceptions: with
    ``cache`` 0, and where neither memory nor disk has room for a single case, nothing is read, and a damaged case is
    named when it is first used.

    Args:
        dataset: the training cases, or those of the validation.
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
    """About the shape of the box around the brain in a volume of this shape."""
    return tuple(math.ceil(n * BOX_SHARE ** (1 / 3)) for n in shape)


def _name_channels(image: Any, channels: int, which: Sequence[int]) -> list[str]:
    """The files of some channels, where there is one a channel; else their numbers."""
    paths = _paths(image)
    return [Path(paths[c]).name if len(paths) == channels else f"channel {c}" for c in which]


def _paths(image: Any) -> list[str | Path]:
    return [image] if isinstance(image, str | Path) else list(image)


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

"""Data sets of phantoms made on the fly: an endless stream for training, and a fixed set for validation."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, OneOf
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset, IterableDataset

from brats3d.data import brain_box, derive_seed
from brats3d.errors import UsageError
from brats3d.labels import MODALITIES, order_modalities
from brats3d.phantoms.head import get_size
from brats3d.phantoms.named_settings import get_setting
from brats3d.phantoms.phantom import make_phantom_tensors
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.write_dataset import case_seed


def make_case(
    namespace: str, number: int, size: str, device: str | torch.device, setting: Setting, modalities: Sequence[str]
) -> dict[str, Any]:
    """Make one phantom on the device, before any transform.

    Args:
        namespace: part of the seed; two namespaces have no phantom in common.
        number: number of the phantom within it, from 0.
        size: ``full`` or ``small``.
        device: where to make it.
        setting: the setting of the generator.
        modalities: the channels of the image.

    Returns:
        image: float32 (C, X, Y, Z), 0 outside the brain; label: uint8 (1, X, Y, Z), BraTS 2020's values; tissue: uint8
        (1, X, Y, Z), the tissues of :class:`brats3d.phantoms.phantom.PhantomTensors`; case_id.
    """
    phantom = make_phantom_tensors(case_seed(derive_seed("phantoms", namespace), number), size, device, setting)
    channels = [MODALITIES.index(name) for name in order_modalities(modalities)]
    return {
        "image": phantom.image[channels].float(),
        "label": phantom.label[None].to(torch.uint8),
        "tissue": phantom.tissue[None],
        "case_id": f"phantom_{number:07d}",
    }


class PhantomStream(IterableDataset):
    """Endless samples from a pool of recent phantoms, in which new phantoms replace the oldest.

    The phantoms are numbered and no number is used twice. The augmentation of a sample depends only on (seed, number
    of the phantom, number of its uses so far). The pool is not saved: a resumed run fills it with new phantoms.

    Args:
        size: of the phantoms, ``full`` or ``small``.
        setting: of the generator, see :func:`brats3d.phantoms.make_phantom`.
        transform: each phantom passes once through the transforms before the first random one; the others make samples
            of it.
        modalities: the channels of the image.
        seed: of the phantoms and of the augmentation.
        device: where everything is computed.
        healthy: probability that a head has no tumour, so that the network also learns from windows without one.
        pool: number of phantoms that are kept.
        patches_per_phantom: average number of patches cut from a phantom before it is replaced.
        batch_size: the samples of a batch have the same choice of MONAI's ``OneOf`` transforms, such as that of a size.

    Raises:
        UsageError: if an argument is outside its range.
    """

    def __init__(
        self,
        size: str,
        setting: str | Setting,
        transform: Sequence[Callable] | Compose,
        modalities: Sequence[str],
        seed: int = 0,
        device: str | torch.device = "cpu",
        healthy: float = 0,
        pool: int = 8,
        patches_per_phantom: float = 8,
        batch_size: int = 1,
    ) -> None:
        get_size(size)
        if not 0 <= healthy <= 1:
            raise UsageError("healthy", expected="a probability from 0 to 1", found=healthy)
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            raise UsageError("pool", expected="an integer from 1", found=pool)
        if not isinstance(patches_per_phantom, int | float) or not patches_per_phantom >= 1:
            raise UsageError("patches_per_phantom", expected="a number from 1", found=patches_per_phantom)
        self.size = size
        self.setting = replace(get_setting(setting), healthy=healthy)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.modalities = order_modalities(modalities)
        self.seed = seed
        self.device = torch.device(device)
        self.pool = pool
        self.patches_per_phantom = patches_per_phantom
        self.batch_size = batch_size
        self.made = 0
        self.drawn = 0
        self.seconds_making = 0.0
        self._random_from = self.transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._pool: list[_Pooled] = []
        self._due = 0.0
        self._left_in_batch = 0
        self._batch_seed = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield samples without end."""
        while True:
            yield from self._patches()

    def state_dict(self) -> dict[str, int]:
        """Return the number of phantoms made and of samples drawn."""
        return {"made": self.made, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a state, with a new pool."""
        self.made, self.drawn = state["made"], state["drawn"]
        self._pool, self._due = [], 0.0

    def expected_shape(self) -> tuple[int, ...]:
        """Estimate the shape (H, W, D) of a prepared phantom."""
        return brain_box(get_size(self.size).shape)

    def largest_patch(self, patch_size: Sequence[int]) -> list[int]:
        """Estimate the size of the largest patch, if some are as large as the brain: multiples of 16."""
        return [max(size, -(-n // 16) * 16) for size, n in zip(patch_size, self.expected_shape(), strict=True)]

    def expected_bytes(self, free: int) -> int:
        """Estimate the device memory of a full pool."""
        return self.pool * math.prod(self.expected_shape()) * (4 * len(self.modalities) + 2)

    def _patches(self) -> list[dict[str, Any]]:
        if len(self._pool) < self.pool or self._due >= 1:
            self._due = max(0.0, self._due - 1) if len(self._pool) == self.pool else 0.0
            self._make()
        pooled = self._pool[derive_seed(self.seed, "pick", self.drawn) % len(self._pool)]
        seed = derive_seed(self.seed, pooled.number, pooled.uses)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Num foregrounds 0")  # expected for heads without a tumour
            transform = self._same_choice_in_batch(self.transform.set_random_state(seed=seed))
            patches = transform(dict(pooled.prepared), start=self._random_from)
        patches = patches if isinstance(patches, list) else [patches]
        pooled.uses += 1
        self.drawn += 1
        self._due += len(patches) / self.patches_per_phantom
        return patches

    def _same_choice_in_batch(self, transform: Compose) -> Compose:
        if not self._left_in_batch:
            self._left_in_batch = self.batch_size
            self._batch_seed = derive_seed(self.seed, "batch", self.drawn)
        self._left_in_batch -= 1
        for each in transform.transforms:
            if isinstance(each, OneOf):
                each.R = np.random.RandomState(self._batch_seed)
        return transform

    def _make(self) -> None:
        started = time.perf_counter()
        namespace = f"training {self.seed}"
        case = make_case(namespace, self.made, self.size, self.device, self.setting, self.modalities)
        prepared = _detach(self.transform(case, end=self._random_from))
        self._pool = [*self._pool, _Pooled(self.made, prepared)][-self.pool :]
        self.made += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # otherwise its time would count towards the next step
        self.seconds_making += time.perf_counter() - started


class PhantomCases(Dataset):
    """A fixed set of phantoms for validation, independent of the seed of the training.

    Each phantom is made when it is first used, then kept.

    Args:
        count: number of phantoms.
        size: ``full`` or ``small``.
        setting: of the generator.
        transform: applied once to each phantom.
        modalities: the channels of the image.
        device: where the phantoms are made and kept.

    Raises:
        UsageError: if ``count`` (the knob ``val_cases``) is below 1, or ``size`` or ``setting`` unknown.
    """

    def __init__(
        self,
        count: int,
        size: str,
        setting: str | Setting,
        transform: Sequence[Callable] | Compose,
        modalities: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        get_size(size)
        if count < 1:
            raise UsageError("val_cases", expected="an integer from 1", found=count)
        self.count = count
        self.size = size
        self.setting = get_setting(setting)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.modalities = order_modalities(modalities)
        self.device = torch.device(device)
        self._prepared: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self.count

    def expected_shape(self) -> tuple[int, ...]:
        """Estimate the shape (H, W, D) of a prepared phantom."""
        return brain_box(get_size(self.size).shape)

    def expected_bytes(self, free: int) -> int:
        """Estimate the device memory of all phantoms."""
        return self.count * math.prod(self.expected_shape()) * (4 * len(self.modalities) + 2)

    def fill(self, workers: int = 1) -> None:
        """Make all phantoms now; ``workers`` is ignored."""
        for index in range(len(self)):
            self[index]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a prepared phantom."""
        if index not in self._prepared:
            case = make_case("validation", index, self.size, self.device, self.setting, self.modalities)
            self._prepared[index] = _detach(self.transform(case))
        return dict(self._prepared[index])


@dataclass
class _Pooled:
    number: int
    prepared: dict[str, Any]
    uses: int = 0


def _detach(case: dict[str, Any]) -> dict[str, Any]:
    """Copy the tensors without metadata: a view of a crop would keep the whole grid in memory."""
    return {k: v.as_subclass(torch.Tensor).clone() if isinstance(v, torch.Tensor) else v for k, v in case.items()}

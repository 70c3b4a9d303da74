"""An endless stream of phantoms, none seen twice, made where the network is trained; and a fixed set to validate on."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from torch.utils.data import Dataset, IterableDataset

from brats3d.data import brain_box, derive_seed
from brats3d.labels import MODALITIES, order_modalities
from brats3d.phantoms.head import get_size
from brats3d.phantoms.phantom import grow_phantom
from brats3d.phantoms.releases import case_seed
from brats3d.phantoms.settings import Ranges, get_ranges


def grow_case(
    namespace: str, number: int, size: str, device: str | torch.device, setting: Ranges, modalities: Sequence[str]
) -> dict[str, Any]:
    """One phantom on the device, before any transform.

    Args:
        namespace: phantoms of two of them have nothing in common.
        number: of the phantom in it, from 0.
        size: ``full`` or ``small``.
        device: where it is made.
        setting: what it is drawn from.
        modalities: of the channels.

    Returns:
        image, float32 (C, X, Y, Z), 0 outside the brain; label, uint8 (1, X, Y, Z), BraTS 2020's values; case_id.
    """
    grown = grow_phantom(case_seed(derive_seed("phantoms", namespace), number), size, device, setting)
    channels = [MODALITIES.index(name) for name in order_modalities(modalities)]
    return {
        "image": grown.image[channels].float(),
        "label": grown.label[None].to(torch.uint8),
        "case_id": f"phantom_{number:07d}",
    }


class PhantomStream(IterableDataset):
    """Endless samples from a pool of recent phantoms, in which new ones replace the oldest.

    A phantom's number only ever rises; a sample's augmentation depends on (seed, number, use) alone. The pool is not
    part of the state: a run that goes on fills it with numbers that were never used.

    Args:
        size: of the phantoms, ``full`` or ``small``.
        setting: of the generator, as for :func:`brats3d.phantoms.make_phantom`.
        transform: all transforms before the first random one a phantom goes through once; the rest cut a patch from it.
        modalities: of the channels.
        seed: of the phantoms and of the augmentation.
        device: where all of it happens.
        healthy: chance that a head has no tumour, so that a window without one is nothing new.
        pool: phantoms that are kept.
        patches_per_phantom: how many patches one gives on average before it is replaced.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        size: str,
        setting: str,
        transform: Sequence[Callable] | Compose,
        modalities: Sequence[str],
        seed: int = 0,
        device: str | torch.device = "cpu",
        healthy: float = 0,
        pool: int = 8,
        patches_per_phantom: float = 8,
    ) -> None:
        get_size(size)
        if not 0 <= healthy <= 1:
            raise ValueError(f"healthy: expected a chance from 0 to 1, got {healthy!r}")
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            raise ValueError(f"pool: expected 1 phantom or more, got {pool!r}")
        if not isinstance(patches_per_phantom, int | float) or not patches_per_phantom >= 1:
            raise ValueError(f"patches_per_phantom: expected 1 or more, got {patches_per_phantom!r}")
        self.size = size
        self.setting = replace(get_ranges(setting), healthy=healthy)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.modalities = order_modalities(modalities)
        self.seed = seed
        self.device = torch.device(device)
        self.pool = pool
        self.patches_per_phantom = patches_per_phantom
        self.made = 0
        self.drawn = 0
        self.seconds_making = 0.0
        self._random_from = self.transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._pool: list[_Pooled] = []
        self._due = 0.0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Samples without end."""
        while True:
            yield from self._patches()

    def state_dict(self) -> dict[str, int]:
        """The next phantom's number, and how many samples were drawn."""
        return {"made": self.made, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there, with a pool that is filled anew."""
        self.made, self.drawn = state["made"], state["drawn"]
        self._pool, self._due = [], 0.0

    def expected_shape(self) -> tuple[int, ...]:
        """About the shape (H, W, D) of a prepared phantom."""
        return brain_box(get_size(self.size).shape)

    def expected_bytes(self, free: int) -> int:
        """About what a full pool takes of the device's memory."""
        return self.pool * math.prod(self.expected_shape()) * (4 * len(self.modalities) + 1)

    def _patches(self) -> list[dict[str, Any]]:
        if len(self._pool) < self.pool or self._due >= 1:
            self._due = max(0.0, self._due - 1) if len(self._pool) == self.pool else 0.0
            self._make()
        pooled = self._pool[derive_seed(self.seed, "pick", self.drawn) % len(self._pool)]
        seed = derive_seed(self.seed, pooled.number, pooled.uses)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Num foregrounds 0")  # a head without a tumour has none
            patches = self.transform.set_random_state(seed=seed)(dict(pooled.prepared), start=self._random_from)
        patches = patches if isinstance(patches, list) else [patches]
        pooled.uses += 1
        self.drawn += 1
        self._due += len(patches) / self.patches_per_phantom
        return patches

    def _make(self) -> None:
        started = time.perf_counter()
        namespace = f"training {self.seed}"
        case = grow_case(namespace, self.made, self.size, self.device, self.setting, self.modalities)
        prepared = _plain(self.transform(case, end=self._random_from))
        self._pool = [*self._pool, _Pooled(self.made, prepared)][-self.pool :]
        self.made += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or the time would be taken for that of the step after it
        self.seconds_making += time.perf_counter() - started


class PhantomCases(Dataset):
    """A fixed set of phantoms, the same whatever the seed of the training; made when first asked for, then kept.

    Args:
        count: how many.
        size: ``full`` or ``small``.
        setting: of the generator.
        transform: what each goes through once.
        modalities: of the channels.
        device: where they are made and kept.

    Raises:
        ValueError: if ``count`` is below 1, or ``size`` unknown.
    """

    def __init__(
        self,
        count: int,
        size: str,
        setting: str,
        transform: Sequence[Callable] | Compose,
        modalities: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        get_size(size)
        if count < 1:
            raise ValueError(f"val_cases: expected 1 or more, got {count}")
        self.count = count
        self.size = size
        self.setting = get_ranges(setting)
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)
        self.modalities = order_modalities(modalities)
        self.device = torch.device(device)
        self._prepared: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self.count

    def expected_shape(self) -> tuple[int, ...]:
        """About the shape (H, W, D) of a prepared phantom."""
        return brain_box(get_size(self.size).shape)

    def expected_bytes(self, free: int) -> int:
        """About what all of them take of the device's memory."""
        return self.count * math.prod(self.expected_shape()) * (4 * len(self.modalities) + 1)

    def fill(self, workers: int = 1) -> None:
        """Make them all now, one after the other."""
        for index in range(len(self)):
            self[index]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The case, prepared."""
        if index not in self._prepared:
            case = grow_case("validation", index, self.size, self.device, self.setting, self.modalities)
            self._prepared[index] = _plain(self.transform(case))
        return dict(self._prepared[index])


@dataclass
class _Pooled:
    number: int
    prepared: dict[str, Any]
    uses: int = 0


def _plain(case: dict[str, Any]) -> dict[str, Any]:
    """Copies of the crop alone, without metadata: a view would keep the whole grid in memory."""
    return {k: v.as_subclass(torch.Tensor).clone() if isinstance(v, torch.Tensor) else v for k, v in case.items()}

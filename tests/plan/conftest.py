"""Made-up machines and data sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from brats3d.plan.facts import CPU, DataFacts, MachineFacts

GIB = 2**30


@pytest.fixture
def data() -> Callable[..., DataFacts]:
    """``data(training=240, validation=60, box=(140, 175, 139))``: cases of 60 MB in five folds."""

    def make(training: int = 240, validation: int = 60, box: tuple[int, ...] = (140, 175, 139)) -> DataFacts:
        return DataFacts(5, training, validation, box, (1.0, 1.0, 1.0), 60_000_000)

    return make


@pytest.fixture
def machine() -> Callable[..., MachineFacts]:
    """``machine(free=20, gpu=None, cores=2, disk=100)``, in GiB."""

    def make(free: float = 20, gpu: float | None = None, cores: int = 2, disk: float = 100) -> MachineFacts:
        device = CPU if gpu is None else torch.device("cuda:0")
        memory = {CPU: int(free * GIB)} | ({} if gpu is None else {device: int(gpu * GIB)})
        return MachineFacts(device, "" if gpu is None else "GPU", cores, memory, int(disk * GIB))

    return make

"""The memory of a run, estimated before it starts."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from brats3d.errors import UsageError
from brats3d.networks.inferers import BrainInferer
from brats3d.networks.loss import DiceBCELoss
from brats3d.training.memory_check import check_memory

GIB = 2**30
CPU = torch.device("cpu")


class Cases(Dataset):
    """Cubes whose cache takes ``size`` bytes."""

    def __init__(self, size: int = 0, edge: int = 64) -> None:
        self.size = size
        self.edge = edge

    def __len__(self) -> int:
        return 4

    def expected_shape(self) -> tuple[int, ...]:
        return (self.edge,) * 3

    def expected_bytes(self, free: int) -> int:
        return self.size


@pytest.fixture
def check(monkeypatch):
    """``check(free=..., total=..., cached=..., patch=..., patches=...)``: before a training of a small network."""
    network = nn.Sequential(nn.Conv3d(4, 16, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(16, 3, 1))

    def call(
        free: float,
        total: float = 100,
        cached: float = 0,
        patch: int = 64,
        patches: int = 2,
        window=(32, 32, 32),
        edge: int = 64,
        workers: int = 0,
        **options,
    ) -> None:
        loader = DataLoader(Cases(int(cached * GIB)), num_workers=workers)
        trainer = SimpleNamespace(network=network, loss_function=DiceBCELoss(), data_loader=loader)
        evaluator = SimpleNamespace(
            network=network,
            state=SimpleNamespace(device=CPU),
            data_loader=DataLoader(Cases(edge=edge)),
            inferer=BrainInferer(SlidingWindowInferer(roi_size=(32, 32, 32)), window),
        )
        sizes = {"patch_size": [patch] * 3, "patches": patches, "channels": 4, "amp": False}
        monkeypatch.setattr("brats3d.training.memory_check.free_memory", lambda: int(free * GIB))
        monkeypatch.setattr("brats3d.training.memory_check.total_memory", lambda: int(total * GIB))
        check_memory(**{"network": network, "evaluator": evaluator, "trainer": trainer, **sizes, **options})

    return call


def test_enough_memory_logs_one_line(check, log):
    check(free=20, cached=1.5)
    assert len(log.records) == 1
    assert log.records[0].levelname == "INFO"
    number = r"\d+\.\d"
    pattern = (
        rf"needs about {number} GiB of RAM \(batches {number}, network 0\.0, step {number}, cache 1\.5\) of 20\.0 "
    )
    assert re.match(pattern, log.records[0].message)


def test_too_little_memory_logs_a_warning_with_the_knobs_to_lower(check, log):
    check(free=0.2)
    assert [r.levelname for r in log.records] == ["WARNING"]
    text = log.records[0].message
    assert text.endswith("; lower --patch_size (it is [64, 64, 64]), or lower --batch_size")
    assert "--cache" not in text


def test_a_cache_that_does_not_fit_logs_a_warning_and_is_no_reason_to_refuse(check, log):
    check(free=10, cached=9.9, total=1)
    assert "; lower --cache, or " in log.records[0].message


def test_one_pass_needs_more_memory_and_where_it_does_not_fit_windows_are_estimated(check, log):
    check(free=20, trainer=None, edge=160)
    check(free=20, trainer=None, edge=160, window="brain")
    check(free=0.3, trainer=None, edge=160, window="brain")
    check(free=0.01, trainer=None, edge=160, window="brain")
    windows, whole, fallback, too_little = (r.message for r in log.records)
    need, more, less = (float(re.search(r"inference (\d\.\d)", text)[1]) for text in (windows, whole, fallback))
    assert more > need + 0.2 and less == need
    assert too_little.endswith("; set --window to less than [32, 32, 32]")


def test_knobs_at_their_minimum_are_not_in_the_advice(check, log):
    check(free=0.05, patch=32, patches=1)
    assert "--patch_size" not in log.text and "--batch_size" not in log.text


def test_a_run_that_cannot_fit_is_refused_unless_the_estimate_is_ignored(check, log):
    with pytest.raises(UsageError) as caught:
        check(free=0.05, total=0.1)
    assert caught.value.subject == "memory"
    assert "--patch_size" in caught.value.advice and "--ignore_memory true" in caught.value.advice
    check(free=0.05, total=0.1, ignore_memory=True)
    assert [r.levelname for r in log.records] == ["WARNING"]


def test_worker_processes_need_shared_memory(check, log, monkeypatch):
    def with_workers(free: int | None, **options) -> None:
        monkeypatch.setattr("brats3d.training.memory_check.free_shared_memory", lambda: free)
        check(free=20, **options)

    batch = 2 * 64**3 * (4 * 4 + 3)  # image in float32, three regions in uint8
    need = (2 * 2 + 1) * batch  # two ahead for each worker process, and the one that is used
    with_workers(free=need, workers=2)
    with_workers(free=None, workers=2)
    with_workers(free=0)
    assert {record.levelname for record in log.records} == {"INFO"}
    with pytest.raises(UsageError) as caught:
        with_workers(free=need - 1, workers=2)
    assert caught.value.subject == "num_workers"
    assert "--num_workers 0" in caught.value.advice and "--shm-size" in caught.value.advice
    with_workers(free=need - 1, workers=2, ignore_memory=True)
    assert "shared memory" in next(r.message for r in log.records if r.levelname == "WARNING")


def test_the_estimate_of_inference_has_a_window_and_a_volume(check, log):
    check(free=20, trainer=None)
    assert re.search(r"of RAM \(network 0\.0, inference 0\.1\) of 20\.0 GiB free", log.text)


def test_a_network_that_depends_on_input_values_is_not_estimated(check, log):
    class ValueDependent(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) * float(x.mean().item() > 0)

    check(free=20, network=ValueDependent(4, 3, 1))
    assert "cannot be estimated" in log.text


def test_helper_processes_log_nothing(check, log, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    check(free=0.05, total=0.1)
    assert not log.records


def test_the_estimate_takes_less_than_a_second(check):
    check(free=20)  # imports
    start = time.perf_counter()
    check(free=20, patch=512)
    assert time.perf_counter() - start < 1

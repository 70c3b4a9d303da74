"""Worker processes and the cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brats3d.plan.choose_loader import choose_cache, keeps_up, workers_for
from brats3d.plan.estimate import Timing

GIB = 2**30


def test_a_loader_keeps_up_if_the_device_waits_a_twentieth_of_the_time() -> None:
    assert keeps_up(Timing(0, 0, train=1.0, wait=0.05))
    assert not keeps_up(Timing(0, 0, train=1.0, wait=0.06))


def test_workers_augment_a_quarter_faster_than_the_gpu_trains_if_there_are_cores(machine: Callable) -> None:
    timing = Timing(0, 0, train=0.12, wait=0.1, augment=0.15)  # 0.02 s of the GPU: 7.5 cores, and a quarter more
    assert workers_for(machine(gpu=24, cores=16), timing) == 10
    assert workers_for(machine(gpu=24, cores=4), timing) == 3
    assert workers_for(machine(gpu=24, cores=1), timing) == 1


@pytest.mark.parametrize(
    ("cases", "free", "disk", "fraction", "words"),
    [
        (4, 5, 10, 0.5, "all prepared cases"),  # 8 GiB laptop: 1 GiB may be used
        (300, 40, 100, 0.5, "all prepared cases"),  # 17 GiB
        (300, 26, 100, 0.7, "all prepared cases"),
        (300, 22, 100, 0.9, "fit in 90%"),
        (1000, 21, 500, 0.5, "cache_dir"),
        (1000, 21, 10, 0.5, "prepared again in each epoch"),
    ],
)
def test_the_cache_holds_all_cases_where_it_can(
    cases: int, free: float, disk: float, fraction: float, words: str, data: Callable, machine: Callable
) -> None:
    facts = data(training=cases - cases // 5, validation=cases // 5)
    choice = choose_cache(facts, machine(free=free, disk=disk), default=0.5, reserved=4 * GIB)
    assert choice.value == fraction
    assert words in choice.reason


def test_the_cache_leaves_the_memory_that_the_step_needs(data: Callable, machine: Callable) -> None:
    choice = choose_cache(data(), machine(free=22), default=0.5, reserved=8 * GIB)
    assert choice.value == 0.5

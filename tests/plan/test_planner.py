"""The order of the choices: memory, then time, then the schedule; with trainings that are not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from brats3d.plan.estimate import Timing
from brats3d.plan.facts import CPU, DataFacts, MachineFacts
from brats3d.plan.planner import Planner

DEFAULTS = {
    "patch_size": [128, 128, 128], "batch_size": 2, "patches_per_case": 1, "num_workers": 0, "augment_on_device": False,
    "cache": 0.5, "epochs": 300, "val_interval": 5, "full_every": 5,
}  # fmt: skip
AUGMENT = 0.1
"""Seconds of a core for a case."""


class FakeTrial:
    """A trial on a device that trains on a case in ``step`` seconds, and augments one in ``on_device`` seconds."""

    def __init__(self, machine: MachineFacts, step: float, on_device: float = 0.005) -> None:
        self.machine = machine
        self.step = step
        self.on_device = on_device
        self.timed: list[dict[str, Any]] = []

    def memory(self, knobs: Mapping[str, Any]) -> SimpleNamespace:
        needs = {CPU: {"batches": 2**20}, self.machine.device: {"step": 2**30}}
        return SimpleNamespace(
            step_bytes=lambda: 0,
            validation_bytes=lambda: 0,
            by_place=lambda *_: needs,
            shared_bytes=lambda: knobs.get("num_workers", 0) * 2**20,
        )

    def time(self, knobs: Mapping[str, Any], known: Timing) -> Timing:
        self.timed.append(dict(knobs))
        voxels = knobs["patch_size"][0] / 128
        step = self.step * voxels**3
        make = self.on_device if knobs.get("augment_on_device") else AUGMENT / max(1, knobs.get("num_workers", 0))
        wait = max(0.0, make - step)
        return Timing(10, 1, train=step + wait, wait=wait, augment=AUGMENT, end_epoch=0.1, validate=1)


@pytest.fixture
def choose(data: Callable[..., DataFacts]) -> Callable[..., tuple[dict[str, Any], Timing]]:
    """``choose(trial, given={}, hours=None)`` returns the values and the timing."""

    def call(
        trial: FakeTrial, given: Mapping[str, Any] | None = None, hours: float | None = None
    ) -> tuple[dict[str, Any], Timing]:
        given = given or {}
        planner = Planner(data(), trial.machine, {**DEFAULTS, **given}, given, trial, Timing(10, 1))
        choices, timing = planner.choose(hours)
        return {name: choice.value for name, choice in choices.items()}, timing

    return call


@pytest.fixture(autouse=True)
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_free(free: int) -> None:
        monkeypatch.setattr("brats3d.plan.facts.free_shared_memory", lambda: free)

    set_free(2**30)
    return set_free


def test_a_cpu_keeps_the_thread(choose: Callable, machine: Callable) -> None:
    trial = FakeTrial(machine(), step=2.0)
    values, _ = choose(trial)
    assert (values["num_workers"], values["augment_on_device"]) == (0, False)
    assert len(trial.timed) == 1


def test_a_gpu_gets_the_workers_that_keep_it_busy(choose: Callable, machine: Callable) -> None:
    values, timing = choose(FakeTrial(machine(gpu=24, cores=16), step=0.02))
    assert values["num_workers"] == 7  # five cores would just do
    assert timing.wait == 0
    assert values["batch_size"] == 4


def test_a_gpu_without_enough_cores_augments_if_that_is_faster(choose: Callable, machine: Callable) -> None:
    values, _ = choose(FakeTrial(machine(gpu=24, cores=4), step=0.01))
    assert (values["num_workers"], values["augment_on_device"]) == (0, True)
    values, _ = choose(FakeTrial(machine(gpu=24, cores=4), step=0.01, on_device=0.5))
    assert (values["num_workers"], values["augment_on_device"]) == (3, False)


def test_worker_processes_are_limited_by_shared_memory(
    choose: Callable, machine: Callable, shared_memory: Callable
) -> None:
    shared_memory(2 * 2**20)
    values, _ = choose(FakeTrial(machine(gpu=24, cores=16), step=0.02, on_device=0.5))
    assert values["num_workers"] == 2


def test_a_given_loader_is_timed_as_it_is(choose: Callable, machine: Callable) -> None:
    trial = FakeTrial(machine(gpu=24, cores=16), step=0.02)
    values, _ = choose(trial, given={"num_workers": 1})
    assert values["num_workers"] == 1
    assert [knobs["num_workers"] for knobs in trial.timed] == [1]


def test_short_hours_reduce_the_patch_until_there_is_time_for_a_thousand(choose: Callable, machine: Callable) -> None:
    trial = FakeTrial(machine(), step=8.0)
    values, timing = choose(trial, hours=1.0)  # 405 patches of 128; 960 of 96 if a step takes time for its voxels
    assert values["patch_size"] == [80, 80, 80]
    assert [knobs["patch_size"][0] for knobs in trial.timed] == [128, 80]
    assert timing.train == 8.0 * (80 / 128) ** 3
    given, _ = choose(trial, given={"patch_size": [128, 128, 128]}, hours=1.0)
    assert given["patch_size"] == [128, 128, 128]

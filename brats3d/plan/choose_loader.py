"""Choose the loader and the cache."""

from __future__ import annotations

import math

from brats3d.files import gib
from brats3d.plan.choice import Choice
from brats3d.plan.estimate import Timing
from brats3d.plan.facts import CPU, DataFacts, MachineFacts

LITTLE_WAITING = 0.05
"""Fraction of a step that a GPU may wait for its batch."""


def keeps_up(timing: Timing) -> bool:
    """Return True if the loader hardly lets the device wait."""
    return timing.wait <= LITTLE_WAITING * timing.train


def workers_for(machine: MachineFacts, timing: Timing) -> int:
    """Return the number of worker processes that keep up with the device, if there are enough cores.

    One core is left to the training process, and the workers get a quarter more than they need.
    """
    return min(math.ceil(1.25 * timing.augment / timing.step), max(1, machine.cores - 1))


def choose_cache(data: DataFacts, machine: MachineFacts, default: float, reserved: int) -> Choice:
    """Return the fraction of the free memory for prepared cases: the default, or more if that makes all of them fit.

    Args:
        data, machine: the facts.
        default: the fraction of train.yaml.
        reserved: bytes that the cache leaves free whatever the fraction.
    """
    free = machine.free_bytes[CPU]
    needed = (data.training + data.validation) * data.case_bytes
    for fraction in (default, 0.7, 0.9):
        if fraction >= default and needed <= min(fraction * free, free - reserved):
            return Choice(fraction, f"all prepared cases ({gib(needed)} GiB) fit in {fraction:.0%} of the free memory")
    in_memory = max(0, min(default * free, free - reserved))
    if needed - in_memory <= default * machine.free_disk:
        where = f"{gib(needed - in_memory)} GiB of prepared cases go to cache_dir, on the disk"
    else:
        where = "what fits neither in memory nor on the disk is prepared again in each epoch"
    return Choice(default, f"{gib(in_memory)} of {gib(needed)} GiB of prepared cases fit in memory; {where}")

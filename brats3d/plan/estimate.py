"""The duration of a training, computed from the seconds that its parts take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from brats3d.plan.facts import DataFacts


@dataclass(frozen=True)
class Timing:
    """Measured seconds.

    Args:
        start: once per run: from the start of the program to the first case, and the extra time of first uses.
        prepare: to read and prepare a case for the cache; 0 without a cache.
        train: for one case of an epoch, with the wait for it.
        wait: the part of ``train`` in which the device waited for the case.
        augment: to crop and augment one case on one core.
        end_epoch: at the end of an epoch: checkpoint, TensorBoard.
        validate: to segment and score a validation case.
        full_scores: additionally, for its distances and lesion-wise scores.
    """

    start: float
    prepare: float
    train: float = 0.0
    wait: float = 0.0
    augment: float = 0.0
    end_epoch: float = 0.0
    validate: float = 0.0
    full_scores: float = 0.0

    @property
    def step(self) -> float:
        """Seconds of the device for one case of an epoch."""
        return self.train - self.wait


@dataclass(frozen=True)
class Estimate:
    """Expected seconds: before the first epoch, for an epoch, for a validation, and for the whole run of one fold."""

    start: float
    epoch: float
    validation: float
    run: float


def estimate(timing: Timing, data: DataFacts, epochs: int, val_interval: int, full_every: int) -> Estimate:
    """Estimate the duration of the run of one fold.

    Args:
        timing: the measured parts.
        data: the number of cases.
        epochs, val_interval, full_every: the knobs.
    """
    start = timing.start + timing.prepare * (data.training + data.validation)
    epoch = timing.train * data.training + timing.end_epoch
    validation = timing.validate * data.validation
    validations = math.ceil(epochs / val_interval)  # the last epoch is always validated
    full = validations // full_every if full_every else 0
    extra = full * timing.full_scores * data.validation
    return Estimate(start, epoch, validation, start + epochs * epoch + validations * validation + extra)

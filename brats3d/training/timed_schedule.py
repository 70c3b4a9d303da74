"""The learning rate and the end of a run that lasts a number of wall-clock minutes, summed over resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from brats3d.errors import UsageError
from brats3d.training.stopwatch import Stopwatch, check_minutes

WARMUP_START = 0.1
"""The warm-up starts at this fraction of the highest learning rate, as ``warmup_multiplier`` in train.yaml."""


class TimedSchedule:
    """Count the minutes of a training and derive the learning rate from them.

    The rate rises linearly during the warm-up and then falls to 0 as a cosine. Time is reserved for the last
    validation: as much as the previous one took.

    Args:
        minutes: total minutes of the run, summed over resumes.
        learning_rate: the maximum.
        warmup: fraction of the time in which the rate rises, at least 0 and below 1.
        now: a clock, in seconds.

    Raises:
        UsageError: if ``minutes`` is not above 0, or ``warmup`` is outside its range.
    """

    def __init__(
        self, minutes: float, learning_rate: float, warmup: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        check_minutes("minutes", minutes)
        if not 0 <= warmup < 1:
            raise UsageError("warmup", expected="a fraction, at least 0 and below 1", found=warmup)
        self.minutes = minutes
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.stopwatch = Stopwatch(now)
        self.validation_minutes = 0.0

    @property
    def elapsed_minutes(self) -> float:
        """Minutes of the run so far, summed over resumes."""
        return self.stopwatch.minutes

    @property
    def progress(self) -> float:
        """Fraction of the training time that is over, 0 to 1."""
        return min(1.0, self.elapsed_minutes / self._training_minutes)

    @property
    def _training_minutes(self) -> float:
        """All minutes except those of the last validation; at least half of them."""
        return max(self.minutes - self.validation_minutes, self.minutes / 2)

    @property
    def nearly_over(self) -> bool:
        """True if no training time would be left after another validation."""
        return self.elapsed_minutes + self.validation_minutes >= self._training_minutes

    def rate(self) -> float:
        """Return the current learning rate."""
        progress = self.progress
        if progress < self.warmup:
            return self.learning_rate * (WARMUP_START + (1 - WARMUP_START) * progress / self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2

    def state_dict(self) -> dict[str, float]:
        """Return the seconds so far, and those of the last validation."""
        return {"seconds": self.elapsed_minutes * 60, "validation_seconds": self.validation_minutes * 60}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.stopwatch.minutes_before = state["seconds"] / 60
        self.validation_minutes = state["validation_seconds"] / 60


class FollowSchedule:
    """Handler of the trainer: set the learning rate before every step, and end the run at the end of its minutes.

    The epoch that is cut short is the last one; it is validated and saved like any other. Attach this handler first:
    time counts from the start of the trainer.

    Args:
        schedule: the minutes and the learning rate.
        optimizer: its learning rate is set.
        evaluator: its validations are timed.
    """

    def __init__(self, schedule: TimedSchedule, optimizer: torch.optim.Optimizer, evaluator: Evaluator) -> None:
        self.schedule = schedule
        self.optimizer = optimizer
        self.evaluator = evaluator
        self._validation = Stopwatch(lambda: schedule.stopwatch.now())

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and with the evaluator."""
        engine.add_event_handler(Events.STARTED, self.schedule.stopwatch.start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._make_last)
        self.evaluator.add_event_handler(Events.STARTED, self._validation.restart)
        self.evaluator.add_event_handler(Events.COMPLETED, self._note_validation)

    def _set_rate(self, engine: Engine) -> None:
        rate = self.schedule.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _end_epoch(self, engine: Engine) -> None:
        if self.schedule.progress >= 1:
            engine.terminate_epoch()  # engine.terminate() would neither validate nor save

    def _make_last(self, engine: Engine) -> None:
        if self.schedule.nearly_over:
            engine.state.max_epochs = engine.state.epoch  # the engine ends here, and Validate sees the last epoch

    def _note_validation(self, engine: Engine) -> None:
        self.schedule.validation_minutes = self._validation.minutes

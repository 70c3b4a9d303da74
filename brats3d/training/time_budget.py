"""A training that lasts as long as it may: wall-clock minutes, summed over resumes, and the learning rate over them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

START = 0.1
"""Share of the highest learning rate at which the warm-up begins, as train.yaml's does."""


class TimeBudget:
    """How much of its time a training has had, and the learning rate that follows from that.

    The rate rises over the first ``warmup`` share of the time and then falls to 0 as a cosine. The time of the last
    validation is kept free: as much as the one before it took.

    Args:
        minutes: in all, of every part of an interrupted run.
        learning_rate: at its highest.
        warmup: share of the time, at least 0 and below 1.
        now: a clock, in seconds.

    Raises:
        ValueError: if ``minutes`` is not above 0, or ``warmup`` is outside its range.
    """

    def __init__(
        self, minutes: float, learning_rate: float, warmup: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes < math.inf:
            raise ValueError(f"minutes: expected a number above 0, got {minutes!r}")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup: expected a share of the time of at least 0 and below 1, got {warmup!r}")
        self.minutes = minutes
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.now = now
        self.validation_seconds = 0.0
        self._before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """The clock runs from here, or goes on."""
        if self._started is None:
            self._started = self.now()

    @property
    def elapsed_minutes(self) -> float:
        """What the run has taken so far, all its parts together."""
        running = 0.0 if self._started is None else self.now() - self._started
        return (self._before + running) / 60

    @property
    def progress(self) -> float:
        """Share of the time to train in that is over, 0 to 1."""
        return min(1.0, self.elapsed_minutes / self.training_minutes)

    @property
    def training_minutes(self) -> float:
        """All of the time but for the last validation; at least half of it."""
        return max(self.minutes - self.validation_seconds / 60, self.minutes / 2)

    @property
    def spent(self) -> bool:
        """Whether there is no time left to train in."""
        return self.progress >= 1

    @property
    def nearly_spent(self) -> bool:
        """Whether there will be none left after a validation, so that another one would follow it at once."""
        return self.elapsed_minutes + self.validation_seconds / 60 >= self.training_minutes

    def rate(self) -> float:
        """The learning rate at this moment."""
        progress = self.progress
        if progress < self.warmup:
            return self.learning_rate * (START + (1 - START) * progress / self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2

    def state_dict(self) -> dict[str, float]:
        """Seconds so far, and those of a validation."""
        return {"seconds": self.elapsed_minutes * 60, "validation_seconds": self.validation_seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        self._before, self.validation_seconds = state["seconds"], state["validation_seconds"]


class KeepTime:
    """Handler of the trainer: sets the learning rate before every step, and ends the run when the time is up.

    The time counts from the start of the trainer, so attach it first. The epoch that is cut short is the last one and
    otherwise ends as any other: with what validates, saves and reports.

    Args:
        budget: of time.
        optimizer: whose learning rate is set.
        evaluator: whose validations take time.
    """

    def __init__(self, budget: TimeBudget, optimizer: torch.optim.Optimizer, evaluator: Evaluator) -> None:
        self.budget = budget
        self.optimizer = optimizer
        self.evaluator = evaluator
        self._validating = 0.0

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and, through it, with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._make_last)
        self.evaluator.add_event_handler(Events.STARTED, self._validation_started)
        self.evaluator.add_event_handler(Events.COMPLETED, self._validation_completed)

    def _start(self, engine: Engine) -> None:
        self.budget.start()

    def _set_rate(self, engine: Engine) -> None:
        rate = self.budget.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _end(self, engine: Engine) -> None:
        if self.budget.spent:
            engine.terminate_epoch()  # engine.terminate() would neither validate nor save

    def _make_last(self, engine: Engine) -> None:
        if self.budget.nearly_spent:
            engine.state.max_epochs = engine.state.epoch  # ValidateLast looks for it, and the engine ends here

    def _validation_started(self, engine: Engine) -> None:
        self._validating = self.budget.now()

    def _validation_completed(self, engine: Engine) -> None:
        self.budget.validation_seconds = self.budget.now() - self._validating

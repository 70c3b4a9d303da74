"""One line an epoch: how the training goes and what it waits for."""

from __future__ import annotations

import logging
import time

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from brats3d.phantoms import PhantomStream
from brats3d.training.time_budget import TimeBudget

logger = logging.getLogger("brats3d")


class ReportEpoch:
    """Handler of the trainer: one line an epoch with the mean loss, the last learning rate and patches a second.

    It also says which share of the epoch was spent waiting for the next batch.

    Args:
        budget: minutes, where they and not a number of epochs end the run.
        stream: phantoms; their making's share of the epoch is said too, which is part of the waiting.
    """

    def __init__(self, budget: TimeBudget | None = None, stream: PhantomStream | None = None) -> None:
        self.budget = budget
        self.stream = stream
        self._losses: list[torch.Tensor] = []
        self._patches = 0
        self._learning_rate = 0.0
        self._asked = 0.0
        self._waited = 0.0
        self._made = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        # Ignite takes the epoch's time before the handlers of EPOCH_COMPLETED run, so that validation is not in it.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self._losses, self._patches, self._waited = [], 0, 0.0
        self._made = self.stream.seconds_making if self.stream else 0.0

    def _ask(self, engine: Engine) -> None:
        self._asked = time.perf_counter()

    def _get(self, engine: Engine) -> None:
        self._waited += time.perf_counter() - self._asked

    def _iteration(self, engine: Engine) -> None:
        self._losses.append(engine.state.output[Keys.LOSS])  # read at the end: a GPU is not made to wait
        self._patches += len(engine.state.output[Keys.IMAGE])
        self._learning_rate = engine.optimizer.param_groups[0]["lr"]

    def _completed(self, engine: Engine) -> None:
        if not self._losses:  # all of its steps were of an earlier part of the run, and only its end is made up for
            return
        seconds = max(engine.state.times[Events.EPOCH_COMPLETED.name], 1e-9)
        of_waiting = (
            f" (phantoms {100 * (self.stream.seconds_making - self._made) / seconds:.0f} %)" if self.stream else ""
        )
        logger.info(
            "epoch %s  loss %.4f  learning rate %.2e  waiting for data %.0f %%%s  %.2f patches/s",
            self._place(engine),
            torch.stack(self._losses).mean().item(),
            self._learning_rate,
            100 * self._waited / seconds,
            of_waiting,
            self._patches / seconds,
        )

    def _place(self, engine: Engine) -> str:
        if self.budget is None:
            return f"{engine.state.epoch}/{engine.state.max_epochs}"
        return f"{engine.state.epoch}  minute {self.budget.elapsed_minutes:.1f}/{self.budget.minutes:g}"

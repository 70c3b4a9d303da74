"""Log loss, learning rate, speed and the time spent waiting for data, one line per epoch."""

from __future__ import annotations

import logging
import time

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from brats3d.phantoms import PhantomStream
from brats3d.training.timed_schedule import TimedSchedule

logger = logging.getLogger("brats3d")


class LogEpoch:
    """Handler of the trainer that logs one line per epoch.

    The line has the mean loss over the steps that were not skipped, the last learning rate, the fraction of the time
    spent waiting for the next batch, and patches per second.

    Args:
        schedule: schedule of a run that ends after a number of minutes; the line then has minutes instead of epochs.
        stream: phantoms generated during training; the line then has the fraction of the time spent generating them,
            which is part of the waiting.
    """

    def __init__(self, schedule: TimedSchedule | None = None, stream: PhantomStream | None = None) -> None:
        self.schedule = schedule
        self.stream = stream
        self._losses: list[torch.Tensor] = []
        self._patches = 0
        self._learning_rate = 0.0
        self._waiting_since = 0.0
        self._waited = 0.0
        self._making_before = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_waiting)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._stop_waiting)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_step)
        # Ignite measures the epoch before the handlers of EPOCH_COMPLETED run, so the validation is not included.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _begin(self, engine: Engine) -> None:
        self._losses, self._patches, self._waited = [], 0, 0.0
        self._making_before = self.stream.seconds_making if self.stream else 0.0

    def _start_waiting(self, engine: Engine) -> None:
        self._waiting_since = time.perf_counter()

    def _stop_waiting(self, engine: Engine) -> None:
        self._waited += time.perf_counter() - self._waiting_since

    def _add_step(self, engine: Engine) -> None:
        self._losses.append(engine.state.output[Keys.LOSS])  # not .item(), which would wait for the GPU at each step
        self._patches += len(engine.state.output[Keys.IMAGE])
        self._learning_rate = engine.optimizer.param_groups[0]["lr"]

    def _log(self, engine: Engine) -> None:
        if not self._losses:  # resumed only to validate the epoch
            return
        seconds = max(engine.state.times[Events.EPOCH_COMPLETED.name], 1e-9)
        phantoms = ""
        if self.stream:
            making = (self.stream.seconds_making - self._making_before) / seconds
            phantoms = f" (phantoms {100 * making:.0f} %)"
        losses = torch.stack(self._losses)
        finite = losses[losses.isfinite()]
        skipped = len(losses) - len(finite)
        logger.info(
            "epoch %s  loss %.4f%s  learning rate %.2e  waiting for data %.0f %%%s  %.2f patches/s",
            self._position(engine),
            finite.mean().item(),
            f" ({skipped} steps not finite)" if skipped else "",
            self._learning_rate,
            100 * self._waited / seconds,
            phantoms,
            self._patches / seconds,
        )

    def _position(self, engine: Engine) -> str:
        if self.schedule is None:
            return f"{engine.state.epoch}/{engine.state.max_epochs}"
        return f"{engine.state.epoch}  minute {self.schedule.elapsed_minutes:.1f}/{self.schedule.minutes:g}"

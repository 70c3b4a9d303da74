"""A run that is told to stop ends the step, has its state saved and says so: by a signal, or by its own minutes.

Schedulers announce the end with SIGTERM (Slurm, Kubernetes) or SIGINT and kill seconds or minutes later.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.engine.events import EventEnum
from monai.engines import Evaluator, Trainer

ECHO_SECONDS = 5.0
"""In a run of several processes a signal often comes twice, from the scheduler and from torchrun that passes it on."""


class RunEvents(EventEnum):
    """Fired on the trainer when its state is to be saved between the ends of epochs."""

    SAVE = "save"
    SAVE_BEFORE_END = "save_before_end"
    """All of the epoch's steps are done, and what follows them (validation) is not."""


class RunStopped(Exception):
    """The run has stopped where it was told to, after its state was saved.

    Args:
        signum: of the signal; None = its minutes are over.
    """

    def __init__(self, signum: int | None) -> None:
        super().__init__(signal.Signals(signum).name if signum else "its minutes are over")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it; 0 where the user's own minutes ended the run."""
        return 128 + self.signum if self.signum else 0


class StopRun:
    """Stops a trainer after the step, or the validation case, in which a signal came or the minutes ran out.

    Every process of a distributed run learns of it at the same step, so that none waits for another for ever. A second
    signal ends the process at once, as it would have without this.

    Args:
        minutes: of wall-clock time from the first step that this process takes; None = no end.
        now: a clock, in seconds.

    Raises:
        ValueError: if ``minutes`` is not above 0.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, minutes: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        good = isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes < math.inf
        if minutes is not None and not good:
            raise ValueError(f"minutes: expected a number above 0, or none, got {minutes!r}")
        self.minutes = minutes
        self.now = now
        self.signum: int | None = None
        self._signalled = 0.0
        self._begun = False
        self._started: float | None = None
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    @contextmanager
    def watching(self, trainer: Trainer, evaluator: Evaluator) -> Iterator[StopRun]:
        """While this lasts, ``trainer.run()`` raises :class:`RunStopped` where it has stopped.

        Before the first epoch begins signals do what they did before: there is nothing to save yet.
        """
        trainer.register_events(*RunEvents)
        handles = [
            trainer.add_event_handler(Events.EPOCH_STARTED, self.begin),
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after_step, trainer),
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._after_case, trainer),
        ]
        loggers = (trainer.logger, evaluator.logger)
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            for engine_logger in loggers:
                engine_logger.disabled = False
            for signum, handler in self._before.items():
                signal.signal(signum, handler)
            self._before = {}

    def begin(self, engine: Engine | None = None, clock: bool = True) -> None:
        """The training begins: signals count from here, and minutes too.

        Args:
            engine: the trainer.
            clock: False leaves the minutes for later. What an earlier part has left to do is done without them, or a
                validation that takes longer would be begun for ever.
        """
        self._begun = True
        self._catch_signals()
        if clock and self._started is None:
            self._started = self.now()

    def _catch_signals(self) -> None:
        """From here on a signal is a request. Only the main thread may ask for that; in another nothing changes."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        # One that the shell has this process ignore (a job in the background), or that is not Python's, stays so.
        asked = [s for s in self.SIGNALS if signal.getsignal(s) not in (signal.SIG_IGN, None)]
        self._before = {signum: signal.signal(signum, self._receive) for signum in asked}

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        echo = ECHO_SECONDS if idist.get_world_size() > 1 else 0.0
        if os.getpid() != self._process:  # a worker process, which has this handler from us: its parent decides
            return
        if self.signum is None:
            self.signum, self._signalled = signum, self.now()
            if hasattr(signal, "SIGCHLD"):
                # A scheduler also ends the loader's worker processes. torch would raise that in the middle of a step.
                self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        elif self.now() - self._signalled >= echo:
            os._exit(128 + signum)

    def _after_step(self, engine: Engine, trainer: Trainer) -> None:
        self._stop_if_told(engine, trainer, RunEvents.SAVE)

    def _after_case(self, engine: Engine, trainer: Trainer) -> None:
        if self._begun:  # a validation that belongs to the training
            self._stop_if_told(engine, trainer, RunEvents.SAVE_BEFORE_END)

    def _stop_if_told(self, engine: Engine, trainer: Trainer, event: Any) -> None:
        running = 0.0 if self._started is None else self.now() - self._started
        over = self._started is not None and self.minutes is not None and running >= 60 * self.minutes
        told = self.signum + 1 if self.signum is not None else int(over)  # 1 = the minutes, above it a signal
        if idist.get_world_size() > 1:
            told = _largest(told)
        if not told:
            return
        trainer.fire_event(event)
        idist.barrier()  # or torchrun would end the process that saves, since this one is gone
        trainer.logger.disabled = engine.logger.disabled = True  # ignite calls what follows an error
        raise RunStopped(told - 1 or None)


def _largest(number: int) -> int:
    return int(idist.all_reduce(torch.tensor(number, device=idist.device()), op="MAX").item())

"""Stop a run after a signal or at a time limit, with its state saved.

Schedulers announce the end of a job with SIGTERM (Slurm, Kubernetes) or SIGINT, and kill it seconds or minutes later.
"""

from __future__ import annotations

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

from brats3d.training.stopwatch import Stopwatch

ECHO_SECONDS = 5.0
"""A distributed run often receives a signal twice: from the scheduler, and from torchrun that passes it on."""


class RunEvents(EventEnum):
    """Events of the trainer that request a checkpoint before the end of an epoch."""

    SAVE = "save"
    SAVE_BEFORE_END = "save_before_end"
    """All steps of the epoch are done, but not its validation."""


class RunStopped(Exception):
    """The run has stopped on request, after its state was saved.

    Args:
        signum: number of the signal; None if the time limit was reached.
    """

    def __init__(self, signum: int | None) -> None:
        super().__init__(signal.Signals(signum).name if signum else "time limit reached")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells; 0 at the time limit."""
        return 128 + self.signum if self.signum else 0


def is_stopping() -> bool:
    """Return True if a training in this process has received a signal and will stop after its step."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return isinstance(owner, StopRun) and owner.signum is not None


class StopRun:
    """Stop a trainer after the current step or validation case, on a signal or at the time limit.

    All processes of a distributed run stop at the same step, so that none waits for another forever. A second signal
    ends the process at once.

    Args:
        minutes: wall-clock limit, counted from the first step of this process; None = no limit.
        now: a clock, in seconds.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, minutes: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.minutes = minutes
        self.stopwatch = Stopwatch(now)
        self.signum: int | None = None
        self._signalled_at = 0.0
        self._begun = False
        self._previous_handlers: dict[int, Any] = {}
        self._process = os.getpid()

    @contextmanager
    def watching(self, trainer: Trainer, evaluator: Evaluator) -> Iterator[StopRun]:
        """Within this context ``trainer.run()`` raises :class:`RunStopped` when it stops.

        Signals are caught from the first epoch on; before it there is nothing to save.
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
            for signum, handler in self._previous_handlers.items():
                signal.signal(signum, handler)
            self._previous_handlers = {}

    def begin(self, engine: Engine | None = None, start_minutes: bool = True) -> None:
        """Start to catch signals and to count minutes.

        Args:
            engine: the trainer.
            start_minutes: False = do not count yet. The validation that an earlier process did not finish has no time
                limit: if it took longer than the limit, every process would start it again.
        """
        self._begun = True
        self._catch_signals()
        if start_minutes:
            self.stopwatch.start()

    def _catch_signals(self) -> None:
        """Turn signals into requests. Python allows that in the main thread only."""
        if self._previous_handlers or threading.current_thread() is not threading.main_thread():
            return
        # Leave signals that the shell ignores (a job in the background) or that have a handler outside Python.
        caught = [s for s in self.SIGNALS if signal.getsignal(s) not in (signal.SIG_IGN, None)]
        self._previous_handlers = {signum: signal.signal(signum, self._receive) for signum in caught}

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        echo_seconds = ECHO_SECONDS if idist.get_world_size() > 1 else 0.0
        if os.getpid() != self._process:  # a worker process inherits this handler, but only its parent acts on signals
            return
        if self.signum is None:
            self.signum, self._signalled_at = signum, self.stopwatch.now()
            if hasattr(signal, "SIGCHLD"):
                # Schedulers end the loader's workers too; torch would raise that in the middle of a step.
                self._previous_handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        elif self.stopwatch.now() - self._signalled_at >= echo_seconds:
            os._exit(128 + signum)

    def _after_step(self, engine: Engine, trainer: Trainer) -> None:
        self._stop_if_requested(engine, trainer, RunEvents.SAVE)

    def _after_case(self, engine: Engine, trainer: Trainer) -> None:
        if self._begun:  # a validation that belongs to the training
            self._stop_if_requested(engine, trainer, RunEvents.SAVE_BEFORE_END)

    def _stop_if_requested(self, engine: Engine, trainer: Trainer, event: Any) -> None:
        over = self.minutes is not None and self.stopwatch.minutes >= self.minutes
        request = self.signum + 1 if self.signum is not None else int(over)  # 1 = minutes; above: signal number + 1
        if idist.get_world_size() > 1:
            request = int(idist.all_reduce(torch.tensor(request, device=idist.device()), op="MAX").item())
        if not request:
            return
        trainer.fire_event(event)
        idist.barrier()  # otherwise torchrun ends a process that is still saving
        trainer.logger.disabled = engine.logger.disabled = True  # ignite would report the stop as an error
        raise RunStopped(request - 1 or None)

"""Seconds of steps, of ends of epochs and of validations, measured while a trial runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events

from brats3d.data import LabelsToRegionsd
from brats3d.evaluation import ValidationScores, score_case

WARM_UP = 2
"""First steps, which are not counted: kernels are chosen and memory is allocated."""

ENOUGH_STEPS, ENOUGH_SECONDS, MOST_SECONDS = 4, 15.0, 40.0
"""A trial ends after this many counted steps that took this long together, or when it has lasted for the most."""

SLOW_VALIDATION = 5.0
"""Seconds of a validation case from which a first one is not repeated to exclude the warm-up."""


class ValidationTimes:
    """Seconds of validations by an evaluator.

    Args:
        evaluator: validates ``cases`` cases.
        scores: the metric of the evaluator.
        cases: the number of cases.
        clock: returns seconds.
    """

    def __init__(self, evaluator: Any, scores: ValidationScores, cases: int, clock: Callable[[], float]) -> None:
        self.evaluator = evaluator
        self.scores = scores
        self.cases = cases
        self.clock = clock
        self.plain = self.full_scores = self.warm_up = 0.0

    def measure(self) -> None:
        """Measure a case, its distances and lesion-wise scores, and how much longer the first validation takes."""
        self.plain = first = self._seconds(1)
        if first < SLOW_VALIDATION:
            self.plain = self._seconds(1)
        self.warm_up = max(0.0, first - self.plain) * self.cases
        if self.scores.full_every > 1:  # otherwise never, or in every validation
            self.full_scores = self._full_scores_seconds()

    def _full_scores_seconds(self) -> float:
        """Return the seconds for distances and lesion-wise scores of a reference that was moved by two voxels.

        The predictions of a trial are noise, whose thousands of components would take far longer.
        """
        case = LabelsToRegionsd("label", "brats2020")(self.evaluator.data_loader.dataset[0])
        ref = torch.as_tensor(case["label"]).as_subclass(torch.Tensor)
        begun = self.clock()
        score_case(torch.roll(ref, 2, dims=1), ref, "case", (1.0, 1.0, 1.0), self.scores.rules)
        return self.clock() - begun

    def _seconds(self, epoch: int) -> float:
        begun = self.clock()
        self.evaluator.run(epoch)
        return (self.clock() - begun) / self.cases


class StepTimes:
    """Handler of a trainer that measures steps and ends of epochs, and ends the training when it has enough.

    Attach it last, so that it measures the work of the other handlers, too.

    Args:
        clock: returns seconds.
        device: device of the network.
        validate: called before the training ends.
    """

    def __init__(self, clock: Callable[[], float], device: torch.device, validate: Callable[[], Any]) -> None:
        self.clock = clock
        self.device = device
        self.validate = validate
        self.started = 0.0
        self.epoch_ends: list[float] = []
        self._steps: list[tuple[int, float, float]] = []
        self._begun = self._waited = self._ended = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._receive)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def per_case(self, waiting: bool = False) -> float:
        """Return the seconds for one case of a batch, or those of them that were spent waiting for the data."""
        counted = self._steps[WARM_UP:] or self._steps[-1:]
        return sum(step[2 if waiting else 1] for step in counted) / sum(step[0] for step in counted)

    def warm_up(self) -> float:
        """Return how many seconds longer the first steps took than others."""
        first = self._steps[:WARM_UP]
        return max(0.0, sum(step[1] for step in first) - self.per_case() * sum(step[0] for step in first))

    def _start(self, engine: Engine) -> None:
        self.started = self.clock()

    def _begin(self, engine: Engine) -> None:
        self._begun = self.clock()

    def _receive(self, engine: Engine) -> None:
        self._waited = self.clock() - self._begun

    def _end_step(self, engine: Engine) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._ended = self.clock()
        cases = len(engine.state.batch["case_id"])
        self._steps.append((cases, self._ended - self._begun, self._waited))
        if self._has_enough():
            engine.terminate_epoch()

    def _end_epoch(self, engine: Engine) -> None:
        self.epoch_ends.append(self.clock() - self._ended)
        if self._has_enough():
            self.validate()
            engine.terminate()

    def _has_enough(self) -> bool:
        counted = [step[1] for step in self._steps[WARM_UP:]]
        enough = len(counted) >= ENOUGH_STEPS and sum(counted) >= ENOUGH_SECONDS
        return enough or self.clock() - self.started > MOST_SECONDS

"""A short training of a few cases, built from the real configs, whose parts are timed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events

from brats3d.bundle import build_workflow
from brats3d.data import LabelsToRegionsd
from brats3d.evaluation import ValidationScores, score_case
from brats3d.plan.estimate import Timing
from brats3d.training import MemoryNeeds

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

FAR = 10**6
"""Epochs of a trial and between its validations, so that it ends only when enough was measured."""

WARM_UP = 2
"""First steps, which are not counted: kernels are chosen and memory is allocated."""

ENOUGH_STEPS, ENOUGH_SECONDS, MOST_SECONDS = 4, 15.0, 40.0
"""A trial ends after this many counted steps that took this long together, or when it has lasted for the most."""

SLOW_VALIDATION = 5.0
"""Seconds of a validation case from which a first one is not repeated to exclude the warm-up."""

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class PreparedCases:
    """Some prepared cases.

    Args:
        shapes: in voxels.
        sizes: in bytes.
        seconds: the time that a case took; the first one took ``first_use`` longer.
    """

    shapes: Sequence[tuple[int, ...]]
    sizes: Sequence[int]
    seconds: float
    first_use: float


@dataclass(frozen=True)
class Trial:
    """What all trials of a plan have in common.

    Args:
        overrides: id -> value, as given by the user.
        overlays: config files that follow train.yaml.
        training, validation: a few items of each.
        every: all items, from which the meaning of the labels is checked.
        folder: where trials may write.
        clock: returns seconds.
    """

    overrides: Mapping[str, Any]
    overlays: Sequence[Path]
    training: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    every: Sequence[Mapping[str, Any]]
    folder: Path
    clock: Callable[[], float]

    def build(self, knobs: Mapping[str, Any]) -> ConfigWorkflow:
        """Build a training of the few cases with the values of some ids; nothing has run yet."""
        ids = {
            **self.overrides,
            "output_dir": tempfile.mkdtemp(dir=self.folder),  # the next trial must not resume this one
            "cache_dir": str(self.folder / "cache"),
            "epochs": FAR,
            "val_interval": FAR,
            "resume": "never",
            "minutes": None,
            "train#dataset#data": list(self.training),
            "validate#dataset#data": list(self.validation),
            "label_check#items": list(self.every),
            **knobs,
        }
        workflow = build_workflow("train", ids, self.overlays)
        remove_handlers(workflow, ("ProgressBar", "LogEpoch"))
        workflow.initialize()
        return workflow

    def memory(self, knobs: Mapping[str, Any]) -> MemoryNeeds:
        """Return what estimates the memory of a training with the values of some knobs."""
        with quiet():
            return memory_of(self.build(knobs))

    def prepare(self) -> PreparedCases:
        """Prepare the training cases, without augmentation."""
        with quiet():
            workflow = self.build({"cache": 1.0, "validate#dataset#data": list(self.training)})
            dataset = workflow.parser.get_parsed_content("validate#dataset")
            begun = self.clock()
            cases = [dataset[0]]
            first = self.clock() - begun
            dataset.fill(progress=False)
            rest = self.clock() - begun - first
            cases += [dataset[i] for i in range(1, len(dataset))]
        seconds = rest / (len(cases) - 1) if len(cases) > 1 else first
        return PreparedCases(
            shapes=[tuple(case["image"].shape[1:]) for case in cases],
            sizes=[sum(v.nbytes for v in case.values() if isinstance(v, torch.Tensor)) for case in cases],
            seconds=seconds,
            first_use=max(0.0, first - seconds),
        )

    def time(self, knobs: Mapping[str, Any], known: Timing) -> Timing:
        """Train for some steps and validate, with all handlers of a real run.

        Args:
            knobs: name -> value.
            known: what was measured before.

        Returns:
            The timing with all parts.
        """
        with quiet():
            workflow = self.build(knobs)
            read = workflow.parser.get_parsed_content
            trainer, evaluator, dataset = read("train#trainer"), read("validate#evaluator"), read("train#dataset")
            for each in (dataset, evaluator.data_loader.dataset):
                each.fill(progress=False)
            device = torch.device(read("device"))
            augment = self._augment_seconds(dataset) if device.type != "cpu" else 0.0
            scores = read("validate#key_metric")["val_mean_dice"]
            validation = ValidationTimes(evaluator, scores, len(self.validation), self.clock)
            steps = StepTimes(self.clock, device, validation.measure)
            steps.attach(trainer)
            begun = self.clock()
            workflow.run()
        first_uses = steps.started - begun + steps.warm_up() + validation.warm_up
        return replace(
            known,
            start=known.start + first_uses,
            train=steps.per_case(),
            wait=steps.per_case(waiting=True),
            augment=augment,
            end_epoch=mean(steps.epoch_ends),
            validate=validation.plain,
            full_scores=validation.full_scores,
        )

    def _augment_seconds(self, dataset: Any) -> float:
        """Return the seconds of one core for a training case."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker process
        try:
            begun = self.clock()
            for index in range(len(dataset)):
                dataset[1, index]
            return (self.clock() - begun) / len(dataset)
        finally:
            torch.set_num_threads(threads)


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


def memory_of(workflow: ConfigWorkflow) -> MemoryNeeds:
    """Return what estimates the memory of a training."""
    read = workflow.parser.get_parsed_content
    return MemoryNeeds(
        read("network_def"),
        read("validate#evaluator"),
        len(read("modalities")),
        read("amp"),
        read("train#trainer"),
        read("largest_patch"),
        read("batch_size") * read("patches_per_case"),
    )


def remove_handlers(workflow: ConfigWorkflow, names: Sequence[str]) -> None:
    """Remove handlers of the trainer from a config that has not been resolved yet, by the names of their classes."""
    handlers = workflow.parser["train"]["handlers"]
    handlers[:] = [each for each in handlers if str(each["_target_"]).rpartition(".")[2] not in names]


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what a trial logs; a real run logs it again."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

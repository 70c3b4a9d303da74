"""A short training of a few cases, built from the real configs, whose parts are timed."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import torch

from brats3d.bundle import build_workflow
from brats3d.plan.estimate import Timing
from brats3d.plan.measured_times import StepTimes, ValidationTimes
from brats3d.training import MemoryNeeds

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

FAR = 10**6
"""Epochs of a trial and between its validations, so that it ends only when enough was measured."""

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class PreparedCases:
    """Some prepared cases.

    Args:
        median_shape: in voxels.
        median_bytes: size of a case.
        seconds: the time that a case took; the first one took ``first_use`` longer.
    """

    median_shape: tuple[int, ...]
    median_bytes: int
    seconds: float
    first_use: float


@dataclass(frozen=True)
class Trial:
    """The settings that all trials of a plan share.

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
        gc.collect()  # the engines of the one before refer to each other, and keep its network in the memory of a GPU
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
        sizes = [sum(v.nbytes for v in case.values() if isinstance(v, torch.Tensor)) for case in cases]
        return PreparedCases(
            median_shape=tuple(
                int(median(axis)) for axis in zip(*(case["image"].shape[1:] for case in cases), strict=True)
            ),
            median_bytes=int(median(sizes)),
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

"""Propose the settings of a training: read the data, measure the machine, time some steps, and choose."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brats3d.bundle import build_workflow
from brats3d.cases import load_folds
from brats3d.errors import UsageError
from brats3d.files import read_header
from brats3d.plan.choice import Choice
from brats3d.plan.estimate import Estimate, Timing
from brats3d.plan.facts import DataFacts, MachineFacts, measure_machine
from brats3d.plan.planner import Planner
from brats3d.plan.trial_run import Trial, memory_of

TRIAL_CASES, GPU_TRIAL_CASES = 4, 16
"""Training cases of a trial; a GPU needs more for a steady state."""

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class TrainingPlan:
    """Settings for a data set on a machine.

    Args:
        data, machine: the facts.
        knobs: name -> value and reason; those that were planned, then those that the user gave.
        timing: the seconds that were measured.
        seconds: the expected duration.
    """

    data: DataFacts
    machine: MachineFacts
    knobs: Mapping[str, Choice]
    timing: Timing
    seconds: Estimate


def make_plan(
    overrides: Mapping[str, Any],
    overlays: Sequence[Path] = (),
    hours: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    begun: float | None = None,
) -> TrainingPlan:
    """Propose patch, batch, loader, cache and schedule for a training. Some steps are trained in a temporary folder.

    Args:
        overrides: id -> value, with ``dataset_dir``. Knobs among them are kept, and the others planned around them.
        overlays: config files that follow train.yaml.
        hours: time that the run of one fold may take; None plans the default number of epochs.
        clock: returns seconds, on which all durations are based.
        begun: the clock's value at the start of the program, to which the start of a run is counted; None = now.

    Raises:
        UsageError: if an argument is wrong, or no plan fits in memory or in the hours.
        DataError: if the data cannot be used.
    """
    if hours is not None and not 0 < hours < math.inf:
        raise UsageError("hours", expected="a number above 0", found=hours)
    if hours is not None and "epochs" in overrides:
        raise UsageError("hours", "not used with --epochs", advice="give one of them")
    begun = clock() if begun is None else begun
    workflow = build_workflow("train", overrides, overlays)
    workflow.initialize()
    read = workflow.parser.get_parsed_content
    knobs, training, validation = read("settings"), read("train#dataset#data"), read("validate#dataset#data")
    with suppress(Exception):  # of a network that needs other patches
        memory_of(workflow).step_bytes()  # a run estimates its memory, too, and the first time takes seconds
    start, device, multiple = clock() - begun, torch.device(read("device")), read("validate#inferer#multiple")
    del workflow, read  # the network leaves the GPU
    with tempfile.TemporaryDirectory(prefix="brats3d-plan-") as folder:
        few = _spread(training, GPU_TRIAL_CASES if device.type == "cuda" else TRIAL_CASES)
        every = [*training, *validation]
        trial = Trial(overrides, overlays, few, _spread(validation, 2), every, Path(folder), clock)
        logger.info("reading %d of %d cases", len(few), len(every))
        prepared = trial.prepare()
        data = DataFacts(
            folds=_count_folds(knobs),
            training=len(training),
            validation=len(validation),
            brain_box=prepared.median_shape,
            spacing_mm=read_header(Path(few[0]["image"][0])).spacing_mm,
            case_bytes=prepared.median_bytes,
        )
        machine = measure_machine(device, Path.cwd())
        prepare = prepared.seconds if knobs["cache"] else 0.0
        timing = Timing(start=start + prepared.first_use, prepare=prepare)
        planner = Planner(data, machine, knobs, overrides, trial, timing, multiple)
        chosen, timing = planner.choose(hours)
    rest = {name: Choice(value, "as given") for name, value in overrides.items() if name not in chosen}
    rest.pop("dataset_dir", None)  # every run names it
    seconds = planner.estimate(timing, chosen["epochs"].value, chosen["val_interval"].value)
    return TrainingPlan(data, machine, {**chosen, **rest}, timing, seconds)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` items at equal distances."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _count_folds(knobs: Mapping[str, Any]) -> int:
    names = ("dataset_dir", "modalities", "datalist", "label_convention")
    return len(load_folds(**{name: knobs[name] for name in names}, warn=False))

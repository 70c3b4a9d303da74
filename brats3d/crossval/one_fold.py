"""Train and evaluate one fold in this process."""

from __future__ import annotations

import gc
from collections.abc import Callable

from brats3d.bundle import command_line, run_workflow
from brats3d.crossval.cross_validation import CrossValidation
from brats3d.crossval.finished_folds import record_evaluation
from brats3d.training import RunState

Echo = Callable[[str], object]
"""Prints a line."""


def run_fold(crossval: CrossValidation, fold: int, made_with: str, minutes: float | None, echo: Echo) -> bool:
    """Train a fold, or resume it, and evaluate its best weights.

    Args:
        crossval: the cross-validation.
        fold: the fold.
        made_with: identifies the settings of the evaluation.
        minutes: time limit of the training; None = none.
        echo: prints the equivalent MONAI commands.

    Returns:
        False if the time limit was reached.

    Raises:
        SystemExit: after a signal, with the state of the training saved.
    """
    training, evaluation = crossval.training(fold), crossval.evaluation(fold)
    echo(command_line("train", training, crossval.overlays))
    workflow = run_workflow("train", {**training, "minutes": minutes}, crossval.overlays)
    run: RunState = workflow.parser.get_parsed_content("state")
    is_trained, late_signal = run.finished, run.late_signal
    del workflow, run
    gc.collect()  # engines and their handlers refer to each other; free the cached cases before the next data set
    if late_signal is not None:
        raise SystemExit(128 + late_signal)
    if is_trained:
        echo(command_line("evaluate", evaluation, crossval.overlays))
        run_workflow("evaluate", evaluation, crossval.overlays)
        gc.collect()
        record_evaluation(crossval, fold, made_with)
    return is_trained

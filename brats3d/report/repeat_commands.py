"""The commands that repeat a run: train, evaluate, report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from brats3d.report.run_results import Run

RepeatCommand = Callable[[str, Mapping[str, Any]], str]
"""(workflow, knobs with the output_dir) -> command line, such as :func:`brats3d.bundle.repeat_command`."""

EVALUATION_KNOBS = (
    "fold",
    "modalities",
    "datalist",
    "label_convention",
    "patch_size",
    "window",
    "overlap",
    "threshold",
    "score_rules",
    "amp",
    "started_with",
)
"""Settings that an evaluation must share with the training."""


def evaluate_command(run: Run, repeat: RepeatCommand) -> str:
    """Return the command that writes the scores and segmentations of the run, or of all folds."""
    if run.folds:
        return repeat("crossval", {**run.settings, "output_dir": str(run.folder)})
    knobs = {name: run.settings[name] for name in EVALUATION_KNOBS if name in run.settings}
    return repeat("evaluate", {"dataset_dir": run.settings.get("dataset_dir"), **knobs, "output_dir": str(run.folder)})


def repeat_commands(run: Run, repeat: RepeatCommand) -> list[str]:
    """Return the commands that train, evaluate and report the run again."""
    knobs = {**run.settings, "output_dir": str(run.folder)}
    report = f"brats3d report {shlex.quote(str(run.folder))}"
    if not run.settings:
        return [report]
    if run.folds:
        return [evaluate_command(run, repeat), report]
    if "dataset_dir" not in run.settings:  # a pretraining makes its cases and scores them by itself
        return [repeat("pretrain", knobs), report]
    return [repeat("train", knobs), evaluate_command(run, repeat), report]

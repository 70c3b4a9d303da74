"""Check a cross-validation before any fold is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from brats3d.bundle import build_workflow, read_overlay
from brats3d.cases import Case, load_folds, natural_key
from brats3d.crossval.cross_validation import OF_A_CALL, CrossValidation
from brats3d.crossval.finished_folds import identify
from brats3d.errors import DataError, UsageError
from brats3d.networks import load_member, single_checkpoint
from brats3d.training import RunState, find_record, refuse_changes, run_record


@dataclass(frozen=True)
class Checked:
    """The facts about a cross-validation that are known before it starts.

    Args:
        folds: the cases of each fold.
        made_with: identifies the settings of the evaluations.
        settings: knob -> value of the trainings, without :data:`brats3d.crossval.cross_validation.OF_A_CALL`; and what
            else they were started with.
    """

    folds: Sequence[Sequence[Case]] = field(hash=False)
    made_with: str
    settings: Mapping[str, Any] = field(hash=False)


def check(crossval: CrossValidation, fold: int | None = None, minutes: float | None = None) -> Checked:
    """Build the training of one fold without running it, and compare it with the folds that were trained already.

    Args:
        crossval: the cross-validation. Nothing is written to its folder.
        fold: the only fold of this call; None = all folds.
        minutes: time limit of this call.

    Raises:
        UsageError: if a knob is wrong, there is no such fold, a config file sets what a call sets, the weights to start
            from do not fit, or the folder holds folds of other settings or data.
        DataError: if the data cannot be used, such as those of a single patient.
    """
    _refuse_ids_of_a_call(crossval)
    workflow = build_workflow("train", {**crossval.training(fold or 0), "minutes": minutes}, crossval.overlays)
    workflow.initialize()
    run: RunState = workflow.parser.get_parsed_content("state")
    record = run_record(run, workflow.parser.get_parsed_content("train#trainer"))
    data = {name: run.settings[name] for name in ("dataset_dir", "modalities", "datalist", "label_convention")}
    folds = load_folds(**data, warn=False)
    resume, start = str(run.settings["resume"]), single_checkpoint(run.settings["checkpoint"])
    for k in range(len(folds)):
        with suppress(DataError):  # damaged: the fold itself reports it, and the others go on
            if saved := find_record(crossval.folder(k), resume):
                earlier = replace(run, output_dir=crossval.folder(k))
                refuse_changes(saved, earlier, {**record, **_of_fold(folds, k)}, resume)
                continue
        if start is not None and fold in (None, k):
            load_member(run.network, start, run.settings["modalities"])
            start = None  # once is enough
    settings = {name: value for name, value in run.settings.items() if name not in OF_A_CALL}
    return Checked(folds, _made_with(crossval, run), {**settings, "started_with": json.loads(run.started_with)})


def _refuse_ids_of_a_call(crossval: CrossValidation) -> None:
    for path in crossval.overlays:
        if found := [name for name in OF_A_CALL if name in read_overlay(path)]:
            problem = f"{path} sets {', '.join(found)}, which a cross-validation sets for each fold"
            raise UsageError("config", problem, advice=f"use {', '.join(f'--{name}' for name in found)} of crossval")


def _of_fold(folds: Sequence[Sequence[Case]], k: int) -> dict[str, Any]:
    """Return the entries of a run's record that differ between the folds."""
    training = [case.case_id for number, cases in enumerate(folds) if number != k for case in cases]
    validation = [case.case_id for case in folds[k]]
    return {"fold": k, "training_cases": sorted(training, key=natural_key), "validation_cases": validation}


def _made_with(crossval: CrossValidation, run: RunState) -> str:
    """Identify the settings that change scores: all but those that only change where and how fast a run computes."""
    free = {*run.free_settings, *OF_A_CALL} - {"score_rules"}
    knobs = {name: value for name, value in crossval.knobs.items() if name not in free}
    return identify([knobs, [read_overlay(path) for path in crossval.overlays]])

"""Learn the ensemble's post-processing and a model of its quality from the out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from brats3d.bundle import default_postprocessing
from brats3d.crossval.check import Checked
from brats3d.crossval.cross_validation import CrossValidation
from brats3d.data import nest_regions
from brats3d.evaluation import PROBABILITIES, RULES
from brats3d.labels import BRATS2020
from brats3d.postprocessing import OutOfFoldCase, PostprocessingChoice, choose_postprocessing, read_out_of_fold
from brats3d.quality import FittingCase, describe_case


def out_of_fold_cases(crossval: CrossValidation, checked: Checked) -> dict[OutOfFoldCase, str]:
    """Return the cases of all folds with their probabilities, and the patient of each."""
    return {
        OutOfFoldCase(
            case_id=case.case_id,
            fold=fold,
            probabilities=crossval.folder(fold) / PROBABILITIES / f"{case.case_id}.npz",
            reference=case.label,
            convention=case.convention or BRATS2020.name,
        ): case.patient_id
        for fold, cases in enumerate(checked.folds)
        for case in cases
        if case.label is not None  # each has one; Case is also the type of unlabelled cases
    }


def choose_for_ensemble(cases: Mapping[OutOfFoldCase, str], settings: Mapping[str, Any]) -> PostprocessingChoice:
    """Choose values of post-processing, starting from the threshold of the trainings and ``inference.yaml``.

    Args:
        cases: case -> patient.
        settings: knobs of the trainings: ``threshold``, and ``score_rules``.

    Raises:
        DataError, OSError: if a file of probabilities or a reference is missing or damaged.
    """
    default = default_postprocessing(settings["threshold"])
    return choose_postprocessing(list(cases), default, RULES[settings["score_rules"]])


def fitting_cases(cases: Mapping[OutOfFoldCase, str], choice: PostprocessingChoice) -> dict[str, FittingCase]:
    """Return case_id -> what the case contributes to the quality model.

    The regions of a case are post-processed with values that were chosen without its fold. The probabilities are those
    of single networks; the average of several networks is smoother.

    Args:
        cases: case -> patient.
        choice: the chosen post-processing.
    """
    return {case.case_id: _describe(case, patient, choice) for case, patient in cases.items()}


def _describe(case: OutOfFoldCase, patient: str, choice: PostprocessingChoice) -> FittingCase:
    probabilities, reference, spacing_mm = read_out_of_fold(case)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    regions = torch.from_numpy(choice.by_fold[case.fold].apply(probabilities.astype(np.float32), voxel_ml))
    return describe_case(patient, probabilities, nest_regions(regions).numpy(), reference, spacing_mm)

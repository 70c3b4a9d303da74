"""Choose the post-processing of the ensemble on the out-of-fold predictions of the folds."""

from __future__ import annotations

from brats3d.bundle import default_postprocessing
from brats3d.crossval.check import Checked
from brats3d.crossval.cross_validation import CrossValidation
from brats3d.evaluation import RULES
from brats3d.labels import BRATS2020
from brats3d.postprocessing import OutOfFoldCase, PostprocessingChoice, choose_postprocessing


def choose_for_ensemble(crossval: CrossValidation, checked: Checked) -> PostprocessingChoice:
    """Choose values of post-processing, starting from those of ``inference.yaml``.

    Args:
        crossval: the cross-validation; every fold is finished.
        checked: what is known of it.

    Raises:
        DataError, OSError: if a file of probabilities or a reference is missing or damaged.
    """
    cases = [
        OutOfFoldCase(
            case_id=case.case_id,
            fold=fold,
            probabilities=crossval.folder(fold) / "probabilities" / f"{case.case_id}.npz",
            reference=case.label,
            convention=case.convention or BRATS2020.name,
        )
        for fold, cases in enumerate(checked.folds)
        for case in cases
        if case.label is not None  # each has one; Case is also the type of unlabelled cases
    ]
    return choose_postprocessing(cases, default_postprocessing(), RULES[checked.settings["score_rules"]])

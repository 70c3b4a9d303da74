"""Split cases by patient into folds of about equal size, from their identifiers alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from brats3d.cases.case import Case
from brats3d.cases.patients_table import PATIENTS_NAME
from brats3d.cases.text import name_some, natural_key
from brats3d.errors import DataError, UsageError

DEFAULT_FOLDS = 5
"""Number of folds, unless there are fewer patients."""


def split_patients(cases: Sequence[Case], folds: int = DEFAULT_FOLDS, seed: int = 0) -> list[list[Case]]:
    """Split cases into folds of about equal size, with all cases of a patient in one fold.

    The split depends only on the identifiers and the seed, not on paths or the order of the cases.

    Args:
        cases: the cases to split.
        folds: the number of folds; reduced to the number of patients if there are fewer.
        seed: the random seed.

    Returns:
        The folds, each in the natural order of its case identifiers.

    Raises:
        UsageError: if ``folds`` is below 2.
        DataError: if there are fewer than two patients.
    """
    check_folds(cases, folds)
    sizes = Counter(case.patient_id for case in cases)
    patients = sorted(sizes)
    random.Random(seed).shuffle(patients)
    patients.sort(key=lambda patient: -sizes[patient])  # stable: ties keep their shuffled order
    fold_of: dict[str, int] = {}
    filled = [0] * min(folds, len(patients))
    for patient in patients:
        fold_of[patient] = filled.index(min(filled))
        filled[fold_of[patient]] += sizes[patient]
    ordered = sorted(cases, key=lambda case: natural_key(case.case_id))
    return [[case for case in ordered if fold_of[case.patient_id] == k] for k in range(len(filled))]


def check_fold_count(folds: int) -> None:
    """Check the number of folds, which needs no cases.

    Raises:
        UsageError: if it is below 2.
    """
    if folds < 2:
        raise UsageError("folds", expected="2 or more: one for validation, the others for training", found=folds)


def check_folds(cases: Sequence[Case], folds: int) -> None:
    """Check that cases can be split.

    Raises:
        UsageError: if the number of folds is below 2.
        DataError: if there are fewer than two patients.
    """
    check_fold_count(folds)
    patients = {case.patient_id for case in cases}
    if len(patients) < 2:
        raise DataError(
            "dataset_dir",
            f"found {len(cases)} case(s) of {len(patients)} patient(s) ({name_some(sorted(patients)) or 'none'})",
            expected="two patients or more: one for training, another for validation",
            advice=f"add cases; if these belong to several patients, list them in a {PATIENTS_NAME} in the data folder"
            if len(cases) > 1
            else "add cases",
        )

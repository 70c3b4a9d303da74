"""Splits by patient into folds of about equal size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from brats3d.cases.case import make_case
from brats3d.cases.folds import split_patients
from brats3d.errors import DataError, UsageError

patients_of_cases = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1)


def cases_of(patients, folder="/data"):
    return [make_case(f"c{i}", {"t1": Path(folder, f"c{i}_t1.nii")}, None, f"p{p}") for i, p in enumerate(patients)]


def case_ids(folds) -> list[list[str]]:
    return [[case.case_id for case in fold] for fold in folds]


@given(patients_of_cases, st.integers(2, 7), st.integers(0, 3))
def test_a_split_is_complete_disjoint_and_by_patient(patients, folds, seed):
    cases = cases_of(patients)
    split = split_patients(cases, folds, seed)
    assert len(split) == min(folds, len(set(patients)))
    assert all(split)
    assert sorted(c.case_id for fold in split for c in fold) == sorted(c.case_id for c in cases)
    assert sum(len({c.patient_id for c in fold}) for fold in split) == len(set(patients))


@given(patients_of_cases, st.integers(2, 7), st.randoms())
def test_a_split_depends_on_neither_order_nor_path(patients, folds, random):
    cases = cases_of(patients, "/elsewhere")
    random.shuffle(cases)
    assert case_ids(split_patients(cases, folds)) == case_ids(split_patients(cases_of(patients), folds))


@pytest.mark.parametrize(("patients", "sizes"), [([0] * 6 + [1, 2, 3, 4, 5, 6], [6, 6]), (range(7), [4, 3])])
def test_folds_are_of_about_equal_size(patients, sizes):
    assert [len(fold) for fold in split_patients(cases_of(patients), 2)] == sizes


def test_a_split_never_changes_and_another_seed_gives_another():
    # A resumed run must not validate on cases that an older version trained on.
    cases = [make_case(f"BraTS20_Training_{i:03d}", {}, None) for i in range(1, 11)]
    numbers = [[int(c.case_id[-3:]) for c in fold] for fold in split_patients(cases, 5)]
    assert numbers == [[5, 8], [3, 9], [1, 2], [6, 10], [4, 7]]
    assert case_ids(split_patients(cases, 5, seed=1)) != case_ids(split_patients(cases, 5))


@pytest.mark.parametrize("patients, folds, kind", [([0, 0], 5, DataError), ([0, 1], 1, UsageError)])
def test_one_patient_or_one_fold_cannot_be_split(patients, folds, kind):
    with pytest.raises(kind):
        split_patients(cases_of(patients), folds)

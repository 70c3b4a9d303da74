"""Write the ``patients.csv`` of a repaired copy, which lacks the folders that grouped the cases of a patient."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from brats3d.audit.whole_dataset import Audit
from brats3d.cases import PATIENTS_COLUMNS, PATIENTS_NAME, is_unknown, read_name_mappings, several_cases, unite_patients


def write_patients(audit: Audit, copied: Collection[str], out: Path) -> bool:
    """Write a ``patients.csv`` with the patients that the user states and those found by name.

    Args:
        audit: the audit of the data set.
        copied: the identifiers of the cases in the copy.
        out: the folder of the copy.

    Returns:
        False, and nothing is written, if the names of the releases define all patients.
    """
    mapping = read_name_mappings(audit.roots)
    groups = [own for own in several_cases(unite_patients(audit.cases, mapping)) if any(map(is_unknown, own))]
    patients = {case.case_id: case.patient_id for own in groups for case in own} | dict(mapping.stated)
    rows = [(case_id, patient) for case_id, patient in patients.items() if case_id in copied]
    if rows:
        with (out / PATIENTS_NAME).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([PATIENTS_COLUMNS, *rows])
    return bool(rows)

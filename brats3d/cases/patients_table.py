"""Read ``patients.csv``, in which a user states the patients of cases whose names do not."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from brats3d.cases.csv_table import read_table
from brats3d.errors import DataError

PATIENTS_NAME = "patients.csv"

PATIENTS_COLUMNS = ("case_id", "patient_id")


def read_patients(folders: Iterable[Path]) -> dict[str, str]:
    """Read the ``patients.csv`` of each folder that has one. Other columns are ignored.

    Returns:
        case_id -> patient_id.

    Raises:
        DataError: if a file cannot be read, lacks a column or a cell, or states two patients for a case.
    """
    stated: dict[str, str] = {}
    for folder in folders:
        if (path := folder / PATIENTS_NAME).is_file():
            for line, case_id, patient_id in _read_rows(path):
                if stated.setdefault(case_id, patient_id) != patient_id:
                    problem = f"line {line}: {case_id} belongs to {patient_id} here and to {stated[case_id]} before"
                    raise DataError(
                        path, problem, expected="one patient_id for each case_id", advice="correct the file"
                    )
    return stated


def _read_rows(path: Path) -> list[tuple[int, str, str]]:
    advice = f"correct it, or rename it if it is another table: {PATIENTS_NAME} states the patient of each case"
    try:
        header, *rows = read_table(path)
    except (OSError, ValueError, csv.Error) as error:
        expected = f"the columns {' and '.join(PATIENTS_COLUMNS)}"
        raise DataError(path, f"cannot be read as CSV: {error}", expected=expected, advice=advice) from error
    columns = [name.casefold() for name in header[1]]
    if not set(columns).issuperset(PATIENTS_COLUMNS):
        expected = f"a first line such as {','.join(PATIENTS_COLUMNS)}"
        raise DataError(path, f"has the columns {', '.join(header[1])[:200]}", expected=expected, advice=advice)
    places = [columns.index(name) for name in PATIENTS_COLUMNS]
    result = []
    for line, row in rows:
        cells = [row[i] if i < len(row) else "" for i in places]
        if not all(cells):
            problem = f"line {line} lacks a {' or a '.join(PATIENTS_COLUMNS)}"
            raise DataError(path, problem, expected="both", advice=advice)
        result.append((line, cells[0], cells[1]))
    return result

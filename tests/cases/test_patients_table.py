"""Reading the patients.csv of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.cases.load import load_fold
from brats3d.cases.name_mapping import read_name_mappings
from brats3d.cases.patients_table import PATIENTS_NAME, read_patients
from brats3d.cases.split import split_dataset
from brats3d.errors import DataError


@pytest.mark.parametrize(
    "content",
    [
        "case_id,patient_id\nA1_FU1,anna\nA1_FU2,anna\n",
        "Patient_ID; Age; Case_ID\nanna; 51; A1_FU1\n\nanna;;A1_FU2\n",
        "\ufeffcase_id\tpatient_id\r\nA1_FU1\tanna\r\nA1_FU2\tanna\r\nA1_FU1\tanna",
    ],
    ids=["commas", "semicolons, other columns", "tabs, byte order mark"],
)
def test_variants_of_the_file_are_read_alike(tmp_path: Path, content: str) -> None:
    (tmp_path / PATIENTS_NAME).write_text(content, encoding="utf-8")
    assert read_patients([tmp_path, tmp_path / "other"]) == {"A1_FU1": "anna", "A1_FU2": "anna"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        ("A1_FU1,anna\n", "has the columns A1_FU1, anna"),
        ("patient_id,age\nanna,51\n", "has the columns patient_id, age"),
        ("case_id,patient_id\nA1_FU1\n", "line 2 lacks"),
        ("case_id,patient_id\nA1_FU1,anna\n,bert\n", "line 3 lacks"),
        ("case_id,patient_id\nA1_FU1,anna\nA1_FU1,bert\n", "line 3: A1_FU1 belongs to bert"),
        ('case_id,patient_id\n"A1_FU1,anna', "cannot be read as CSV"),
        ("PK\0\0", "is not a text file"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / PATIENTS_NAME).write_text(content)
    with pytest.raises(DataError) as error:
        read_name_mappings(tmp_path)
    assert error.value.subject == str(tmp_path / PATIENTS_NAME)
    assert problem in error.value.problem
    assert error.value.expected and error.value.advice


def test_the_file_overrides_names_in_training_and_in_a_split(tmp_path: Path, write_case, log) -> None:
    for seed, name in enumerate(("A1_FU1", "A1_FU2", "A2_FU1")):
        write_case(tmp_path / name, seed=seed)
    (tmp_path / PATIENTS_NAME).write_text("case_id,patient_id\nA1_FU1,A1_FU1\nA1_FU2,A1_FU2\nA3_FU1,A3\n")
    folds = [load_fold(tmp_path, "validation", fold=k) for k in (0, 1, 2)]
    assert sorted(item["patient_id"] for fold in folds for item in fold) == ["A1_FU1", "A1_FU2", "A2_FU1"]
    load_fold(tmp_path, "training")
    (warning,) = log.messages
    assert "A3_FU1" in warning
    notes = split_dataset(tmp_path, tmp_path / "datalist.json", folds=3, progress=False).notes
    assert [note for note in notes if "A3_FU1" in note] == [warning]

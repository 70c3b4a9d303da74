"""Findings about patients, name mappings and the datalist.json."""

from __future__ import annotations

import json
from pathlib import Path

from brats3d.audit.whole_dataset import audit_dataset
from brats3d.cases import load_fold, split_dataset


def test_grades_and_patients_follow_the_name_mapping(make_dataset) -> None:
    root = make_dataset()
    header = "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID"
    rows = ["HGG,Brats18_A_1,BraTS20_Training_001", "LGG,Brats18_B_1,BraTS20_Training_002"]
    rows.append("LGG,Brats18_B_1,BraTS20_Training_003")
    (root / "name_mapping.csv").write_text("\n".join([header, *rows]))
    audit = audit_dataset(root, progress=False)
    assert audit.statistics.grades == {"LGG": 2, "HGG": 1}
    assert audit.statistics.patients == 2
    (finding,) = audit.findings
    assert finding.kind == "several time points"
    assert "BraTS20_Training_002, BraTS20_Training_003" in finding.problem


def test_an_invalid_datalist_is_reported_with_the_reason_of_the_loader(make_dataset, list_cases) -> None:
    root: Path = make_dataset()
    list_cases(root, fold=None)
    (finding,) = audit_dataset(root, progress=False).findings
    assert finding.kind == "invalid datalist"
    assert "training[1]" in finding.problem


def test_the_label_convention_of_a_datalist_is_used(make_dataset, list_cases) -> None:
    root = make_dataset()
    list_cases(root, label_convention="brats2023")
    assert json.loads((root / "datalist.json").read_text())["training"][1]["label_convention"] == "brats2023"
    (finding,) = audit_dataset(root, progress=False).findings
    assert (finding.kind, finding.case_id) == ("unexpected labels", "BraTS20_Training_002")


def test_patients_are_those_of_training_and_of_a_split(tmp_path: Path, write_case) -> None:
    for seed, name in enumerate(("P01/scanA", "P01/scanB", "P02/scanC", "B1_11", "B1_21", "B2_11")):
        write_case(tmp_path / name, seed=seed)
    audit = audit_dataset(tmp_path, progress=False)
    assert (audit.statistics.patients, audit.statistics.patients_with_several_cases) == (4, 2)
    found = [(each.case_id, "patients.csv" in each.problem) for each in audit.findings if "time points" in each.kind]
    assert found == [("B1_11", True), ("scanA", True)]
    split = split_dataset(tmp_path, tmp_path / "s.json", progress=False)
    assert any("2 of 4 patients" in note for note in split.notes)
    trained = {item["case_id"]: item["patient_id"] for k in range(4) for item in load_fold(tmp_path, "validation", k)}
    assert trained == {each.case.case_id: each.case.patient_id for fold in split.folds for each in fold}
    assert trained["scanA"] == trained["scanB"] and trained["B1_11"] == trained["B1_21"]


def test_a_processed_copy_of_a_release_is_no_other_release(tmp_path: Path, write_case) -> None:
    for seed, name in enumerate(("BraTS2021_00001", "BraTS2021_00001_N4", "BraTS2021_00002")):
        write_case(tmp_path / name, seed=seed)
    kinds = [finding.kind for finding in audit_dataset(tmp_path, progress=False).findings]
    assert "several time points" in kinds and "several releases" not in kinds


def test_a_case_in_patients_csv_that_does_not_exist_is_reported(make_dataset) -> None:
    root = make_dataset()
    (root / "patients.csv").write_text("case_id,patient_id\nBraTS20_Training_003,a\nBraTS20_Training_0003,a\n")
    (finding,) = audit_dataset(root, progress=False).findings
    assert finding.kind == "unknown case in patients.csv"
    assert "BraTS20_Training_0003" in finding.problem

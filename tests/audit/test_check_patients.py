"""Findings about patients, name mappings and the datalist.json."""

from __future__ import annotations

import json
from pathlib import Path

from brats3d.audit.whole_dataset import audit_dataset


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

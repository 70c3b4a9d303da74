"""The patients.csv of a repaired copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.audit.repaired_copy import write_repaired_copy
from brats3d.audit.whole_dataset import audit_dataset
from brats3d.cases import load_fold


@pytest.mark.parametrize("stated", ["", "case_id,patient_id\nB1_11,x\nB1_21,y\nnobody,z\n"])
def test_patients_of_the_copy_are_those_of_the_original(tmp_path: Path, write_case, stated: str) -> None:
    root = tmp_path / "data"
    for seed, name in enumerate(("P01/scanA", "P01/scanB", "P02/scanC", "B1_11", "B1_21", "B2_11")):
        write_case(root / name, seed=seed)
    if stated:
        (root / "patients.csv").write_text(stated)
    copy = write_repaired_copy(audit_dataset(root, progress=False), tmp_path / "copy", progress=False)

    def patients(folder: Path) -> dict[str, str]:
        return {item["case_id"]: item["patient_id"] for k in range(4) for item in load_fold(folder, "validation", k)}

    assert patients(copy.folder) == patients(root)
    assert "unknown case in patients.csv" not in {
        finding.kind for finding in audit_dataset(copy.folder, progress=False).findings
    }


def test_a_copy_of_a_release_needs_no_such_file(make_dataset, tmp_path: Path) -> None:
    copy = write_repaired_copy(audit_dataset(make_dataset(), progress=False), tmp_path / "copy", progress=False)
    assert not (copy.folder / "patients.csv").exists()

"""The reading of one case."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.audit import one_case
from brats3d.audit.whole_dataset import audit_dataset

CASE = "BraTS20_Training_002"


def test_an_unexpected_error_is_a_finding_and_the_audit_continues(
    make_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(case_id, path, values, spacing_mm):
        if path.name == f"{CASE}_t2.nii.gz":
            raise MemoryError("no room\nfor 3 TB")
        return original(case_id, path, values, spacing_mm)

    original = one_case.image_findings
    monkeypatch.setattr(one_case, "image_findings", fail)
    root = make_dataset()
    (finding,) = audit_dataset(root, progress=False).findings
    assert (finding.kind, finding.case_id) == ("unreadable file", CASE)
    assert finding.file == root / CASE / f"{CASE}_t2.nii.gz"
    assert "MemoryError: no room for 3 TB" in finding.problem


def test_each_file_is_read_once(make_dataset, opened: list[Path]) -> None:
    root = make_dataset()
    opened.clear()
    audit_dataset(root, progress=False)
    assert sorted(opened) == sorted(root.rglob("*.nii.gz"))


def test_only_files_that_may_be_equal_are_read_twice(make_dataset, spoil, opened: list[Path]) -> None:
    root = make_dataset()
    spoil(root, "image in several cases")
    opened.clear()
    audit_dataset(root, progress=False)
    twice = {path for path in opened if opened.count(path) == 2}
    assert twice == {root / f"BraTS20_Training_00{i}" / f"BraTS20_Training_00{i}_t1.nii.gz" for i in (2, 3)}
    assert len(opened) == 15 + 2


def test_a_label_in_a_cavity_that_holds_0_is_inside_the_brain(make_dataset) -> None:
    root = make_dataset()
    for path in (root / CASE).glob("*[!g].nii.gz"):
        image = nib.load(path)
        values = np.asanyarray(image.dataobj).copy()
        values[7:9, 7:9, 5:7] = 0
        nib.save(nib.Nifti1Image(values, image.affine), path)
    assert audit_dataset(root, progress=False).findings == ()

"""Findings in the names of files and folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from brats3d.audit.whole_dataset import audit_dataset


def test_cases_in_two_folders_are_repairable_only_if_the_folders_are_identical(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    shutil.copytree(root / "BraTS20_Training_002", root / "more" / "BraTS20_Training_002")
    (finding,) = audit_dataset(root, progress=False).findings
    assert finding.kind == "case in several folders"
    assert finding.repair
    (root / "more" / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz").write_bytes(b"broken")
    (finding,) = audit_dataset(root, progress=False).findings
    assert not finding.repair


def test_flat_folders_are_compared_once(make_dataset, opened: list[Path], tmp_path: Path) -> None:
    made = make_dataset(cases=4)
    for folder in (tmp_path / "flat" / "a", tmp_path / "flat" / "b"):
        folder.mkdir(parents=True)
        for path in made.rglob("*.nii.gz"):
            shutil.copy(path, folder)
    opened.clear()
    findings = audit_dataset(tmp_path / "flat", progress=False).findings
    assert [finding.kind for finding in findings] == ["case in several folders"] * 4
    assert max(map(opened.count, opened)) <= 3  # read, its signature, compared

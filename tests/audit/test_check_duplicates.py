"""Findings about equal images."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.audit.whole_dataset import audit_dataset

CASE = "BraTS20_Training_002"


def kinds(root: Path) -> list[str]:
    return sorted(finding.kind for finding in audit_dataset(root, progress=False).findings)


def make_empty(*paths: Path) -> None:
    for path in paths:
        nib.save(nib.Nifti1Image(np.zeros((16, 16, 12), np.uint8), nib.load(path).affine), path)


def store_differently(path: Path, how: str) -> None:
    """Write the same voxels in a file with other bytes."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    if how == "other description":
        content[148:152] = b"copy"
        path.write_bytes(gzip.compress(content))
    elif how == "uncompressed":
        path.unlink()
        path.with_suffix("").write_bytes(content)
    else:
        path.write_bytes(gzip.compress(content, 1))


@pytest.mark.parametrize("how", ["other description", "uncompressed", "other compression"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_copied_case_is_one_finding_however_it_is_stored(make_dataset, spoil, how: str, empty: bool) -> None:
    root = make_dataset()
    if empty:
        make_empty(*root.rglob("*_seg.nii.gz"))
    spoil(root, "copied case")
    for path in (root / "BraTS20_Training_004").iterdir():
        store_differently(path, how)
    findings = audit_dataset(root, progress=False).findings
    (finding,) = [finding for finding in findings if finding.kind not in ("no tumour", "region in no case")]
    assert (finding.kind, finding.case_id) == ("copied case", "BraTS20_Training_004")
    assert CASE in finding.problem


def test_equal_images_with_another_segmentation_are_not_a_copied_case(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "copied case")
    make_empty(root / "BraTS20_Training_004" / "BraTS20_Training_004_seg.nii.gz")
    assert kinds(root) == ["image in several cases"] * 8 + ["no tumour"]


def test_equal_images_with_unreadable_segmentations_are_not_a_copied_case(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "copied case")
    for i in (2, 4):
        (root / f"BraTS20_Training_00{i}" / f"BraTS20_Training_00{i}_seg.nii.gz").write_bytes(b"broken")
    assert set(kinds(root)) == {"image in several cases", "unreadable file"}


def test_identical_sequences_are_found_though_their_headers_differ(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "identical sequences")
    store_differently(root / CASE / f"{CASE}_t1ce.nii.gz", "other description")
    assert kinds(root) == ["identical sequences"]


def test_equal_segmentations_of_different_cases_are_no_finding(make_dataset) -> None:
    root = make_dataset(cases=2)
    shutil.copy(*sorted(root.rglob("*_seg.nii.gz")))
    assert kinds(root) == []


def test_images_that_differ_in_one_voxel_away_from_the_middle_are_not_equal(make_dataset, spoil, write_nifti) -> None:
    root = make_dataset()
    spoil(root, "image in several cases")
    path = root / CASE / f"{CASE}_t1.nii.gz"
    values = np.asanyarray(nib.load(path).dataobj).copy()
    values[4, 4, 2] += 1
    write_nifti(path, values)
    assert kinds(root) == []

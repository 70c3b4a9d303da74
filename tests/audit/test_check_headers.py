"""Findings in headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from brats3d.audit.check_headers import header_findings
from brats3d.files import Header, read_header


def headers(tmp_path: Path, *shapes: tuple[int, ...]) -> list[Header]:
    for i, shape in enumerate(shapes):
        nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), tmp_path / f"{i}.nii")
    return [read_header(tmp_path / f"{i}.nii") for i in range(len(shapes))]


def test_a_different_affine_is_repairable_only_if_most_files_share_a_grid(tmp_path: Path) -> None:
    (header,) = headers(tmp_path, (4, 4, 4))
    moved = replace(header, affine=header.affine + 1e-2)
    (finding,) = header_findings("a", [header, moved])
    assert finding.kind == "different affine"
    assert not finding.repair  # one against one
    (finding,) = header_findings("a", [header, header, moved])
    assert finding.repair


def test_a_different_shape_cannot_be_repaired(tmp_path: Path) -> None:
    (finding,) = header_findings("a", headers(tmp_path, (4, 4, 4), (4, 4, 4), (4, 4, 5)))
    assert finding.kind == "different shape"
    assert not finding.repair


def test_a_qform_that_is_not_a_rotation_is_a_finding(tmp_path: Path) -> None:
    (header,) = headers(tmp_path, (4, 4, 4))
    header.nifti["qform_code"] = 1
    header.nifti["quatern_b"], header.nifti["quatern_c"] = 0.8, 0.61
    (finding,) = header_findings("a", [header])
    assert finding.kind == "sform and qform differ"
    assert "not a rotation" in finding.problem

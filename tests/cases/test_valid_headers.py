"""Checks of NIfTI headers."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brats3d.cases.search import find_cases
from brats3d.cases.valid_headers import header_problems, spacing_warning
from brats3d.files import read_header

ONES = np.ones((16, 16, 12), np.int16)


def test_a_sound_case_has_no_problem(case):
    assert header_problems(case) == []
    assert spacing_warning(read_header(case.images["t1"])) is None


def test_a_4d_file_is_a_problem_unless_it_has_one_frame(case, write_nifti):
    write_nifti(case.images["t1"], ONES[..., None])
    write_nifti(case.images["t2"], np.stack([ONES, ONES], -1))
    (problem,) = header_problems(case)
    assert problem.startswith(f"{case.images['t2']}: is 4-D, of shape (16, 16, 12, 2)")


def test_another_shape_is_a_problem(case, write_nifti):
    write_nifti(case.label, ONES[..., :11])
    (problem,) = header_problems(case)
    assert problem.startswith(f"{case.label}: has shape (16, 16, 11); expected (16, 16, 12)")


def test_another_affine_is_a_problem_beyond_the_tolerance(case, write_nifti):
    affine = nib.load(case.images["t1"]).affine
    affine[0, 3] = 0.0005
    write_nifti(case.images["flair"], ONES, affine)
    assert header_problems(case) == []
    affine[0, 3] = 2
    write_nifti(case.images["flair"], ONES, affine)
    (problem,) = header_problems(case)
    assert problem.startswith(f"{case.images['flair']}: its affine differs")
    assert "by up to 2 " in problem


def test_all_unreadable_files_of_a_case_are_reported(case):
    case.images["t1ce"].write_bytes(b"")
    case.images["t2"].write_bytes(case.images["t2"].read_bytes()[:40])
    case.images["flair"].unlink()
    case.label.write_text("<html>404</html>")
    paths = [case.images[m] for m in ("t1ce", "t2", "flair")] + [case.label]
    for path, problem in zip(paths, header_problems(case), strict=True):
        assert problem.startswith(f"{path}: ")


def test_a_broken_link_is_a_problem(case):
    case.images["t1"].unlink()
    case.images["t1"].symlink_to("gone.nii.gz")
    assert "link" in header_problems(case)[0]


def test_a_truncated_plain_file_is_detected_from_its_size(tmp_path, write_case):
    folder = write_case(tmp_path / "BraTS20_Training_001", ".nii")
    path = folder / "BraTS20_Training_001_t1.nii"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = header_problems(find_cases(tmp_path)[0])
    assert "6,495 bytes; expected 6,496" in problem  # 352 + 2 * 16 * 16 * 12


def test_colour_voxels_are_a_problem(case, write_nifti):
    write_nifti(case.images["t1"], np.zeros((16, 16, 12), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    (colour,) = header_problems(case)
    assert "integer or float voxels" in colour


@pytest.mark.parametrize(("spacing", "warned"), [((1.0, 1.09, 1.1), False), ((1.0, 1.0, 3.0), True)])
def test_a_spacing_more_than_a_tenth_off_1_mm_returns_a_warning(case, write_nifti, spacing, warned):
    path = case.images["t1"]
    write_nifti(path, ONES, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
    warning = spacing_warning(read_header(path))
    assert (warning is not None) == warned
    assert not warned or warning.startswith(f"{path}: voxels are 1.00 x 1.00 x 3.00 mm")

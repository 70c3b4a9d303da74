"""Names of image files: every format's ending, in any case, and no companion file."""

from __future__ import annotations

import pytest

from brats3d.files import IMAGE_ENDINGS, is_image_name, strip_image_ending


@pytest.mark.parametrize("ending", [*IMAGE_ENDINGS, ".NII.GZ", ".Nii", ".MHA"])
def test_an_ending_is_recognised_in_any_case_and_stripped(ending: str) -> None:
    assert is_image_name(f"P.01_t1{ending}")
    assert strip_image_ending(f"P.01_t1{ending}") == "P.01_t1"


@pytest.mark.parametrize("name", ["x_t1.img", "x_t1.raw", "x_t1.zraw", "x.gz", "nii", "x.nii.txt", "x_nrrd", "x.csv"])
def test_other_files_are_no_images(name: str) -> None:
    assert not is_image_name(name)
    assert strip_image_ending(name) == name

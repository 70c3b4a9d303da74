"""MONAI datalist items and the cases that they stand for."""

from __future__ import annotations

import pytest

from brats3d.cases.items import case_to_item, item_to_case
from brats3d.cases.search import find_cases


def test_an_item_is_turned_back_into_its_case(make_dataset):
    for case in find_cases(make_dataset(1)):
        assert item_to_case(case_to_item(case)) == case


def test_names_that_monai_turned_into_paths_are_read():
    item = {"image": ["/data/a/a_t1.nii"], "case_id": "/data/a", "label_convention": "/data/brats2023"}
    case = item_to_case(item)
    assert (case.case_id, case.convention) == ("a", "brats2023")


@pytest.mark.parametrize(
    ("image", "case_id"),
    [
        ("/data/BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz", "BraTS20_Training_001"),
        ("/data/BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n.nii.gz", "BraTS-GLI-00005-000"),
        ("/data/x/BraTS20_Training_001_flair.nii/00000057_brain.nii", "BraTS20_Training_001"),
        ("/data/patient 7/T1.nii.gz", "patient 7"),
        ("/data/patient 7/image.nii.gz", "patient 7"),
    ],
)
def test_an_item_without_case_id_is_named_by_its_first_image(image, case_id):
    assert item_to_case({"image": [image]}).case_id == case_id

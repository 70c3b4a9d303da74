"""Cases, their identifiers and their datalist items."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from brats3d.cases.case import case_to_item, item_to_case, make_case
from brats3d.cases.search import find_cases
from brats3d.errors import DataError


def test_images_are_in_order_and_a_case_can_be_pickled():
    case = make_case("BraTS2021_00001", {"flair": Path("a"), "t1": Path("b")}, None)
    assert list(case.images) == ["t1", "flair"]
    assert case.patient_id == "BraTS-GLI-00001"
    assert pickle.loads(pickle.dumps(case)) == case


@pytest.mark.parametrize("case_id", ["", ".", "..", "a/b", "..\\b", "a\0b"])
def test_a_case_id_is_one_path_component(case_id):
    with pytest.raises(DataError) as error:
        make_case(case_id, {}, None)
    assert (error.value.subject, error.value.found) == ("case_id", case_id)


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
        ("/data/patient 7/brain_4D.nii.gz", "patient 7"),
        ("/data/imagesTr/BRATS_001.nii.gz", "BRATS_001"),
        ("/data/imagesTr/img_002.nrrd", "img_002"),
    ],
)
def test_an_item_without_case_id_is_named_by_its_first_image(image, case_id):
    assert item_to_case({"image": [image]}).case_id == case_id

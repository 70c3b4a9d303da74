"""Case identifiers of folders with bare file names."""

from __future__ import annotations

import pytest

from brats3d.cases.case_folders import folder_case_id, tell_apart


@pytest.mark.parametrize(
    ("folder", "case_id"),
    [
        ("pat01/anat", "pat01_anat"),
        ("pat01/MRI", "pat01_MRI"),
        ("pat01/images", "pat01_images"),
        ("pat01/nifti", "pat01_nifti"),
        ("pat01/20010203", "pat01_20010203"),
        ("pat01/2001-02-03", "pat01_2001-02-03"),
        ("pat01/baseline", "pat01_baseline"),
        ("pat01/0", "pat01_0"),
        ("pat01/scan2/nifti", "pat01_scan2_nifti"),
        ("pat01/data/nifti", "pat01_data_nifti"),
        ("smith/FU2", "smith_FU2"),
        ("001/n4", "001_n4"),
        ("RHUH-0001/2", "RHUH-0001_2"),
        ("Patient-001/week-044-1", "Patient-001_week-044-1"),
        ("sub-01/ses-02/anat", "sub-01_ses-02_anat"),
        ("C3L-00016/01-01-2000-NA-MRI BRAIN-1", "C3L-00016_01-01-2000-NA-MRI BRAIN-1"),
    ],
)
def test_folders_called_alike_get_the_name_of_the_patients_folder(folder: str, case_id: str) -> None:
    assert folder_case_id(f"/data/set/{folder}") == case_id


@pytest.mark.parametrize(
    "folder",
    [
        "set/pat01",
        "set/BraTS20_Training_001",
        "train/1",
        "train/002",
        "site3/12",
        "data/anat",
        "input",
        "HGG/scan3",
        ".",
    ],
)
def test_other_folders_keep_their_name(folder: str) -> None:
    path = f"/data/{folder}" if folder != "." else "/"
    assert folder_case_id(path) == path.rstrip("/").rpartition("/")[2]


def test_as_many_folders_are_added_as_make_the_names_differ() -> None:
    assert tell_apart(["/d/a/P1", "/d/b/P1"]) == ["a_P1", "b_P1"]
    assert tell_apart(["/d/a/x/P1", "/d/b/x/P1", "/d/b/y/P1"]) == ["a_x_P1", "b_x_P1", "b_y_P1"]

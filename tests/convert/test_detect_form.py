"""The form of a data set is detected from the names of its files; unusable folders are refused with the reason."""

from __future__ import annotations

import shutil

import pytest

from brats3d.convert.detect_form import detect_form
from brats3d.errors import DataError


def test_the_form_and_its_cases_are_detected_in_folders_below(originals):
    slices, task = detect_form(originals["h5"]), detect_form(originals["msd"])
    assert [case.case_id for case in slices.cases] == ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert [table.name for table in slices.tables] == ["name_mapping.csv", "survival_info.csv"]
    assert [case.case_id for case in task.cases] == ["BRATS_001", "BRATS_002"]
    assert slices.form != task.form


def test_hidden_files_and_folders_of_macos_are_ignored(h5):
    data = next(h5.rglob("volume_1_slice_0.h5")).parent
    (data / "._volume_1_slice_0.h5").write_bytes(b"macOS")
    shutil.copytree(data, h5 / "__MACOSX")
    assert len(detect_form(h5).cases) == 2


def test_other_folders_are_refused_with_what_they_hold(originals, h5, tmp_path):
    with pytest.raises(DataError) as error:
        detect_form(originals["brats2020"])
    assert error.value.problem.startswith("holds cases such as BraTS20_")
    assert "no conversion" in error.value.advice
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        detect_form(tmp_path / "empty")
    assert error.value.subject == str(tmp_path / "empty")
    assert "no file" in error.value.problem
    shutil.copytree(originals["msd"], h5 / "msd")
    with pytest.raises(DataError) as error:
        detect_form(h5)
    assert "several data sets" in error.value.problem


@pytest.mark.parametrize("name", ["BraTS-GLI-00001-100", "BraTS-GLI-00001-000", "BraTS-PED-00001-000"])
def test_msd_cases_named_like_a_release_with_other_labels_are_refused(originals, tmp_path, name):
    msd = shutil.copytree(originals["msd"], tmp_path / "msd")
    for path in msd.rglob("BRATS_001.nii.gz"):
        path.rename(path.with_name(f"{name}.nii.gz"))
    listing = next(msd.rglob("dataset.json"))
    listing.write_text(listing.read_text().replace("BRATS_001", name))
    with pytest.raises(DataError) as error:
        detect_form(msd)
    assert error.value.subject == str(listing)
    assert name in error.value.problem

"""Formats that are not read."""

from __future__ import annotations

import pytest

from brats3d.cases.other_formats import is_other_volume, other_format_of


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("BraTS2021.tar", "archives"),
        ("x_t1.nii.zip", "archives"),
        ("x_t1.nii.bz2", "archives"),
        ("x_flair.nii.gz.part", "unfinished downloads"),
        ("IM000123", "DICOM files"),
        ("1.2.840.113619.2.5", "DICOM files"),
        ("scan.IMA", "DICOM files"),
        ("DICOMDIR", "DICOM files"),
        ("volume.npz", "NumPy arrays"),
        ("x_t1.mnc", "MINC files"),
        ("slice_1.png", "pictures"),
    ],
)
def test_a_name_states_the_format(file, name):
    other = other_format_of(file)
    assert other is not None
    assert other.name == name
    assert other.advice


@pytest.mark.parametrize("file", ["x_t1.nii.gz", "x.mha", "notes.txt", "name_mapping.csv", "predictions.jsonl"])
def test_other_files_have_no_such_format(file):
    assert other_format_of(file) is None


def test_pictures_are_no_volumes():
    assert is_other_volume("x_flair.dcm")
    assert not is_other_volume("x.png")

"""The DICOM series that tests write have the geometry and the voxels that other libraries read."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk

from tests.scans.dicom_study import oblique_affine, write_series

VALUES = np.random.default_rng(0).integers(0, 4000, (6, 5, 4))
LPS = np.diag([-1, -1, 1, 1])


def test_simpleitk_and_highdicom_read_the_geometry_and_the_voxels(tmp_path: Path) -> None:
    affine = oblique_affine()
    files = write_series(tmp_path, VALUES, affine, "AX T1")
    assert files != sorted(files)
    in_order = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    assert [Path(name) for name in in_order] == files
    image = sitk.ReadImage(in_order)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, VALUES)
    origin_ras = LPS[:3, :3] @ image.GetOrigin()
    assert np.allclose(origin_ras, affine[:3, 3], atol=1e-5)
    direction = LPS[:3, :3] @ np.reshape(image.GetDirection(), (3, 3))
    assert np.allclose(direction * image.GetSpacing(), affine[:3, :3], atol=1e-5)
    volume = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in files])
    voxels = np.array([[0, 0, 0], [5, 4, 3], [2, 1, 3]])
    points_lps = (LPS @ affine @ np.c_[voxels, np.ones(3)].T)[:3].T
    found = np.array([volume.array[tuple(at)] for at in volume.map_reference_to_indices(points_lps, round_output=True)])
    assert np.array_equal(found, VALUES[tuple(voxels.T)])


def test_tags_are_written_and_none_leaves_one_out(tmp_path: Path) -> None:
    file = write_series(tmp_path, VALUES, np.eye(4), "AX T1", ContrastBolusAgent="Gd", PatientID=None)[0]
    image = pydicom.dcmread(file)
    assert (image.ContrastBolusAgent, image.SeriesDescription) == ("Gd", "AX T1")
    assert "PatientID" not in image

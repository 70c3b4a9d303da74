"""The DICOM series that tests write have the geometry and the voxels that other libraries and brats3d read."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from brats3d.files import write_nifti
from brats3d.phantoms import make_raw_phantom
from brats3d.scans import Scan, find_scans, read_scans
from tests.scans.dicom_study import oblique_affine, write_series, write_study

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


@pytest.mark.slow
def test_the_series_of_a_raw_phantom_are_read_as_its_image_files(tmp_path: Path) -> None:
    images = make_raw_phantom(0, "small").images
    write_study(tmp_path / "dicom", images)
    (tmp_path / "nifti").mkdir()
    for modality, (values, affine) in images.items():
        write_nifti(tmp_path / f"nifti/{modality}.nii.gz", values, affine)
    dicom, nifti = (read_scans(find_scans(tmp_path / kind)[0]) for kind in ("dicom", "nifti"))
    assert set(dicom) == set(nifti) == set(images)
    for modality in images:
        one, other = in_one_order(dicom[modality]), in_one_order(nifti[modality])
        assert np.array_equal(one.dataobj, other.dataobj)
        assert np.allclose(one.affine, other.affine, atol=1e-4)


def in_one_order(scan: Scan) -> nib.Nifti1Image:
    """Return a scan in the order closest to RAS. DICOM slices are sorted along their normal, those of files are not."""
    values = np.asarray(scan.volume.values, np.float32)
    return nib.as_closest_canonical(nib.Nifti1Image(values, scan.volume.header.affine))

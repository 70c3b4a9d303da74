"""NIfTI files: plain volumes, and segmentations with the geometry of another file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.errors import DataError
from brats3d.files.nifti_write import marked_convention, write_nifti, write_segmentation

SHAPE = (5, 4, 3)
AFFINES = {
    "RAS": np.array([[1.0, 0, 0, -3], [0, 2, 0, 4], [0, 0, 3, 5], [0, 0, 0, 1]]),
    "LPS": np.array([[-1.0, 0, 0, 3], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "SAR": np.array([[0, 0, 1.0, -9], [0, 1, 0, 8], [1, 0, 0, 7], [0, 0, 0, 1]]),
    "oblique": np.array([[0.8, -0.6, 0, 1], [0.6, 0.8, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]),
}


def write_input(path: Path, affine: np.ndarray, sform: int = 1, qform: int = 2, kind=nib.Nifti1Image) -> Path:
    """A scan of int16 whose header scales its values."""
    image = kind(np.arange(60, dtype=np.int16).reshape(SHAPE), affine)
    image.header.set_slope_inter(0.5, 100)
    image.header["cal_max"] = 130
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 4], SHAPE).astype(np.int64)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("codes", [(1, 2), (1, 0), (0, 1), (4, 4)], ids=str)
def test_the_geometry_is_that_of_the_input_and_the_values_are_plain_uint8(tmp_path, label, affine, codes):
    like = write_input(tmp_path / "in.nii.gz", affine, *codes)
    assert nib.load(like).dataobj.slope == 0.5  # must not be copied to the output
    out = nib.load(write_segmentation(tmp_path / "out" / "a.nii.gz", label, like))
    source = nib.load(like)
    assert out.get_data_dtype() == np.uint8 and (out.dataobj.slope, out.dataobj.inter) == (1, 0)
    assert np.array_equal(np.asanyarray(out.dataobj), label)
    assert np.array_equal(out.affine, source.affine)
    for name in ("get_sform", "get_qform"):
        (a, code_a), (b, code_b) = (getattr(image, name)(coded=True) for image in (out, source))
        assert code_a == code_b and (a is b is None or np.array_equal(a, b))
    assert out.header.get_zooms() == source.header.get_zooms()
    assert out.header.get_xyzt_units()[0] == "mm"
    assert (out.header["cal_min"], out.header["cal_max"]) == (0, 0)


@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_inputs_of_both_suffixes_and_nifti_versions_are_accepted(tmp_path, label, name, kind):
    like = write_input(tmp_path / name, AFFINES["LPS"], kind=kind)
    out = nib.load(write_segmentation(tmp_path / "a.nii.gz", label, like))
    assert np.array_equal(out.affine, AFFINES["LPS"])
    assert np.array_equal(np.asanyarray(out.dataobj), label)


def test_another_shape_is_refused_and_nothing_is_written(tmp_path, label):
    like = write_input(tmp_path / "in.nii.gz", AFFINES["RAS"])
    with pytest.raises(DataError) as caught:
        write_segmentation(tmp_path / "a.nii.gz", label.transpose(1, 0, 2), like)
    assert caught.value.subject == str(tmp_path / "a.nii.gz") and caught.value.found == (4, 5, 3)
    assert not (tmp_path / "a.nii.gz").exists()


def test_equal_input_gives_equal_bytes(tmp_path, label, monkeypatch):
    like = write_input(tmp_path / "in.nii.gz", AFFINES["RAS"])
    first = write_segmentation(tmp_path / "a.nii.gz", label, like).read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert write_segmentation(tmp_path / "b.nii.gz", label, like).read_bytes() == first


def test_the_header_names_the_label_convention(tmp_path, label):
    like = write_input(tmp_path / "in.nii.gz", AFFINES["RAS"])
    assert marked_convention(like) is None
    assert marked_convention(write_segmentation(tmp_path / "a.nii.gz", label, like)) is None
    assert marked_convention(write_segmentation(tmp_path / "b.nii.gz", label, like, "brats2020")) == "brats2020"


def test_a_volume_has_the_affine_as_sform_and_qform(tmp_path):
    affine = np.array([[-1.0, 0, 0, 3], [0, -1, 0, 4], [0, 0, 2, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.int16 and image.header.get_xyzt_units()[0] == "mm"
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    np.testing.assert_array_equal(image.header.get_sform(), affine)
    np.testing.assert_allclose(image.header.get_qform(), affine)

"""Segmentations back in native space: regions keep their shape and stay nested, volumes are those of the raw grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats3d.errors import DataError, UsageError
from brats3d.files import Volume, make_header, read_volume, write_segmentation
from brats3d.labels import BRATS2020
from brats3d.scans import Scan, segmentation_to_native
from brats3d.scans.condition import Condition
from brats3d.scans.itk_images import Grid
from brats3d.scans.native_space import resample_segmentation
from brats3d.scans.preparation import PreparedCase, PreparedSequence
from brats3d.scans.prepared_files import read_native_spaces, write_prepared
from tests.scans.dicom_study import oblique_affine

PREPARED = Grid((64, 64, 48), np.array([[-1.0, 0, 0, 31], [0, -1, 0, 31], [0, 0, 1, -24], [0, 0, 0, 1]]))
RADII_MM = {2: 15.0, 1: 10.0, 4: 6.0}
"""Label -> radius of its ball; the balls are concentric."""


def balls(grid: Grid, centre_mm: tuple[float, float, float]) -> np.ndarray:
    points = nib.affines.apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    distance = np.linalg.norm(points - centre_mm, axis=-1)
    label = np.zeros(grid.shape, np.uint8)
    for value, radius in RADII_MM.items():
        label[distance < radius] = value
    return label


def turn() -> sitk.Euler3DTransform:
    """Return a rigid motion from the prepared space to the native one."""
    transform = sitk.Euler3DTransform()
    transform.SetRotation(0.2, -0.1, 0.3)
    transform.SetTranslation([4.0, -2.5, 3.25])
    return transform


def dice(a: np.ndarray, b: np.ndarray, values: tuple[int, ...]) -> float:
    a, b = np.isin(a, values), np.isin(b, values)
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_label_survives_the_way_to_brats_space_and_back():
    native = Grid((72, 72, 60), oblique_affine((0.9, 0.9, 1.0)))
    native.affine[:3, 3] -= nib.affines.apply_affine(native.affine, (35.5, 35.5, 29.5))
    label, transform = balls(native, (1, 2, 3)), turn()
    there = resample_segmentation(label, native, PREPARED, transform, BRATS2020)
    back = resample_segmentation(there, PREPARED, native, transform.GetInverse(), BRATS2020)
    for values in BRATS2020.regions.values():
        assert dice(back, label, values) > 0.95


def test_no_edema_appears_between_enhancing_tumour_and_background():
    label = np.where(balls(PREPARED, (0, 0, 0)) == 4, 4, 0).astype(np.uint8)
    turned = resample_segmentation(label, PREPARED, PREPARED, turn(), BRATS2020)
    assert set(np.unique(turned)) == {0, 4}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Write a prepared case whose raw T1ce has thick slices and whose raw FLAIR needed no transform."""
    affine = np.diag([0.8, 0.8, 4.0, 1])
    affine[:3, 3] = -32, -32, -32
    zeros = np.zeros(PREPARED.shape, np.int16)
    raw = Volume(make_header(Path("raw.nii.gz"), (80, 80, 16), affine, np.dtype(np.int16)), np.zeros((80, 80, 16)))
    same = Volume(make_header(Path("f.nii.gz"), zeros.shape, PREPARED.affine, zeros.dtype), zeros)
    sequences = {
        "t1ce": PreparedSequence(Scan("t1ce", raw, "AX T1 POST"), zeros, zeros, turn()),
        "flair": PreparedSequence(Scan("flair", same, "AX FLAIR"), zeros, zeros),
    }
    case = PreparedCase(Condition((), False, False, False), PREPARED, sequences)
    write_prepared(tmp_path / "case", "case", case)
    return tmp_path / "case"


def test_a_segmentation_is_written_on_the_grid_of_t1ce_with_its_volumes(prepared: Path, tmp_path: Path):
    label = balls(PREPARED, (0, 0, 0))
    header = make_header(Path("pred.nii.gz"), label.shape, PREPARED.affine, label.dtype)
    write_segmentation(tmp_path / "pred.nii.gz", label, header, "brats2020")
    volumes = segmentation_to_native(tmp_path / "pred.nii.gz", prepared, tmp_path / "native.nii.gz")
    for region, radius in (("WT", 15), ("TC", 10), ("ET", 6)):
        assert volumes[region] == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.1)
    native = read_volume(tmp_path / "native.nii.gz")
    assert native.header.shape == (80, 80, 16)
    assert native.header.spacing_mm == pytest.approx((0.8, 0.8, 4))
    centre = nib.affines.apply_affine(native.header.affine, np.argwhere(native.values == 4)).mean(0)
    assert centre == pytest.approx((-4.0, 2.5, 3.25), abs=0.5)  # where the motion, in LPS, takes the origin


def test_a_scan_that_did_not_move_gets_the_segmentation_unchanged(prepared: Path, tmp_path: Path):
    label = balls(PREPARED, (0, 0, 0))
    header = make_header(Path("pred.nii.gz"), label.shape, PREPARED.affine, label.dtype)
    write_segmentation(tmp_path / "pred.nii.gz", label, header, "brats2020")
    segmentation_to_native(tmp_path / "pred.nii.gz", prepared, tmp_path / "native.nii.gz", "flair")
    assert np.array_equal(read_volume(tmp_path / "native.nii.gz").values, label)


def test_an_absent_sequence_and_a_folder_without_a_record_are_refused(prepared: Path, tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        segmentation_to_native(tmp_path / "pred.nii.gz", prepared, tmp_path / "native.nii.gz", "t2")
    assert (caught.value.subject, caught.value.found) == ("modality", "t2")
    with pytest.raises(DataError) as missing:
        read_native_spaces(tmp_path)
    assert missing.value.subject == str(tmp_path)

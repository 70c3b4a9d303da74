"""Grids of files: the same within the tolerances, and the same up to flips and swaps of axes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from brats3d.files import Header, Volume, same_grid, to_grid

AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1.2, 0, 239], [0, 0, 3, 5], [0, 0, 0, 1]])


def volume(values: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(Header(Path("x.nii"), values.shape, affine, values.dtype, None), values)


@pytest.mark.parametrize(
    ("row", "column", "off_mm", "same"),
    [(0, 3, 0.002, True), (1, 3, -0.04, True), (2, 3, 0.1, False), (0, 0, 5e-4, True), (2, 1, 2e-3, False)],
)
def test_rounded_origins_are_the_same_grid_and_other_spacings_are_not(row, column, off_mm, same) -> None:
    values, moved = np.arange(60).reshape(5, 4, 3), AFFINE.copy()
    moved[row, column] += off_mm
    expected = volume(values, AFFINE).header
    assert same_grid(volume(values, moved).header, expected) == same
    assert (to_grid(volume(values, moved), expected) is not None) == same


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL", "LAS"])
def test_voxels_stored_in_another_order_come_back_in_the_grids_own(axes: str) -> None:
    values = np.arange(60).reshape(5, 4, 3)
    stored = nib.Nifti1Image(values.astype(np.int16), AFFINE)
    stored = stored.as_reoriented(ornt_transform(io_orientation(AFFINE), axcodes2ornt(axes)))
    rounded = stored.affine + np.pad([[0.002]] * 3, ((0, 1), (3, 0)))
    other = volume(np.asanyarray(stored.dataobj), rounded)
    assert np.array_equal(to_grid(other, volume(values, AFFINE).header), values)


def test_another_shape_and_another_place_are_not_brought_onto_the_grid() -> None:
    values = np.zeros((5, 4, 3), np.int16)
    expected = volume(values, AFFINE).header
    assert to_grid(volume(values[:4], AFFINE), expected) is None
    mirrored = inv_ornt_aff(np.array([[0, -1], [1, 1], [2, 1]]), values.shape)
    shifted = mirrored @ np.diag([1, 1, 1, 1]) + np.pad([[1.0]] * 3, ((0, 1), (3, 0)))
    assert to_grid(volume(values, AFFINE @ shifted), expected) is None

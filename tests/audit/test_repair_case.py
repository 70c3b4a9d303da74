"""Repairing an image or a segmentation loses nothing and leaves nothing to repair."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from brats3d.audit.check_images import image_findings, open_background
from brats3d.audit.repair_case import repair_case, repair_image, repair_label
from brats3d.errors import DataError
from brats3d.files import Header, Volume

HERE = Path("x_t1.nii.gz")


@given(
    hnp.arrays(np.int16, (6, 6, 5), elements=st.integers(-20, 200)),
    st.sampled_from(["int16", "int32", "float32", "float64"]),
    st.integers(-3000, 3000),
)
def test_a_repaired_image_has_nothing_left_to_repair(values: np.ndarray, dtype: str, background: int) -> None:
    values[[0, 0, -1, -1], :, 0] = 0
    values[[0, 0, -1, -1], :, -1] = 0
    repaired, changes = repair_image(values.astype(dtype) + np.dtype(dtype).type(background))
    assert not [each for each in image_findings("a", HERE, repaired)[0] if each.repair]
    if background == 0 and (values >= 0).all():
        assert changes == ()
    again, more = repair_image(repaired)
    assert more == ()
    assert np.array_equal(again, repaired)


@pytest.mark.parametrize(
    ("dtype", "background", "voxel", "difference", "widened"),
    [
        ("uint16", 60000, 10, -59990, "int32"),
        ("uint32", 3_000_000_000, 10, -2_999_999_990, "float64"),
        ("uint32", 10, 3_000_000_000, 2_999_999_990, "uint32"),
        ("int32", -2_000_000_000, 2_000_000_000, 4_000_000_000, "float64"),
        ("int64", -(2**40), 2**40, 2**41, "int64"),
        ("int16", -20000, 20000, 40000, "int32"),
    ],
)
def test_a_difference_that_its_dtype_cannot_hold_does_not_wrap(
    dtype: str, background: int, voxel: int, difference: int, widened: str
) -> None:
    values = np.full((5, 5, 5), background, dtype)
    values[2, 2, 2] = voxel
    repaired, changes = repair_image(values)
    assert repaired.dtype == widened
    assert repaired[2, 2, 2] == difference or "below 0" in changes[-1]
    assert repaired[0, 0, 0] == 0


def volume(values: np.ndarray, name: str, shift: int = 0, dtype: str | None = None) -> Volume:
    """1 mm voxels; ``shift`` voxels along x is where the header puts them."""
    affine = np.eye(4)
    affine[0, 3] = shift
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype or values.dtype)
    return Volume(Header(Path(name), values.shape, affine, np.dtype(dtype or values.dtype), header), values)


def box(start: int, stop: int, value: int = 100) -> np.ndarray:
    values = np.zeros((40, 40, 40), np.int16)
    values[start:stop, 5:35, 5:35] = value
    return values


IMAGES = {name: volume(box(5, 35), f"x_{name}.nii") for name in ("t1", "t1ce", "t2")}


@pytest.mark.parametrize("shift", [1, 3])
def test_an_image_that_its_own_affine_aligns_is_not_moved(shift: int) -> None:
    moved = volume(box(5 - shift, 35 - shift), "x_flair.nii", shift)
    with pytest.raises(DataError) as caught:
        repair_case({**IMAGES, "flair": moved}, None)
    assert caught.value.subject == "x_flair.nii"


def test_an_image_that_overlaps_the_others_as_stored_gets_their_header() -> None:
    repaired = repair_case({**IMAGES, "flair": volume(box(5, 35), "x_flair.nii", 3)}, None)
    assert repaired[Path("x_flair.nii")].header is IMAGES["t1"].header


@pytest.mark.parametrize(
    ("start", "stop", "shift"),
    [
        (10, 20, 3),  # within the brain both ways: the voxels say nothing
        (2, 12, 3),  # 7 of 10 as stored, all where the affine puts it
        (3, 13, -3),  # 8 of 10 as stored, 5 where the affine puts it: neither is right
    ],
)
def test_a_label_with_an_ambiguous_position_is_not_moved(start: int, stop: int, shift: int) -> None:
    label = volume(box(start, stop, 1), "x_seg.nii", shift)
    with pytest.raises(DataError) as caught:
        repair_case(IMAGES, label)
    assert caught.value.subject == "x_seg.nii"


def test_a_label_that_fits_only_as_stored_gets_the_header_of_the_images() -> None:
    repaired = repair_case(IMAGES, volume(box(5, 15, 1), "x_seg.nii", -3))
    assert repaired[Path("x_seg.nii")].header is IMAGES["t1"].header


@pytest.mark.parametrize(
    ("stored", "kept"), [("int16", "float32"), ("float32", "float32"), ("int32", "float64"), ("float64", "float64")]
)
def test_a_scaled_image_is_stored_no_wider_than_needed(stored: str, kept: str) -> None:
    scaled = volume(box(5, 35).astype(np.float64) + 7, "x_flair.nii", dtype=stored)
    repaired = repair_case({**IMAGES, "flair": scaled}, None)[Path("x_flair.nii")]
    assert repaired.values.dtype == kept
    assert np.array_equal(repaired.values, box(5, 35))


@given(
    hnp.arrays(np.uint8, (5, 5, 4), elements=st.integers(0, 4)),
    hnp.arrays(np.int16, (5, 5, 4), elements=st.integers(0, 3)),
    st.floats(-9e-4, 9e-4),
)
def test_a_repaired_segmentation_is_whole_and_inside_the_brain(label, image, off: float) -> None:
    image[[0, 0, -1, -1], :, 0] = 0
    image[[0, 0, -1, -1], :, -1] = 0
    repaired, _ = repair_label(label + np.where(label, off, 0), [image])
    assert np.array_equal(repaired, np.where(open_background([image]), 0, label))


def test_labels_in_a_cavity_of_the_brain_stay() -> None:
    image = np.zeros((9, 9, 9), np.int16)
    image[2:7, 2:7, 2:7] = 100
    image[4, 4, 4] = 0
    label = np.zeros((9, 9, 9), np.uint8)
    label[4, 4, 3:5] = 1
    label[0, 0, 0] = 2
    repaired, changes = repair_label(label, [image])
    assert changes == ("set 1 labels outside the brain to 0",)
    assert repaired[4, 4, 4] == 1
    assert repaired[0, 0, 0] == 0


def test_outliers_are_clipped_once() -> None:
    values = np.full((20, 20, 10), 100, np.int16)
    values[0], values[5, 5, 5] = 0, 30000
    repaired, (change,) = repair_image(values)
    assert repaired[5, 5, 5] == 500  # five times the brightest tissue
    assert repaired.dtype == np.int16
    assert change == "clipped 1 outlier to the range from 0 to 500"
    assert repair_image(repaired)[1] == ()

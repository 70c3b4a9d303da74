"""What is found in single headers, images and segmentations, against answers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from brats3d.audit.header_checks import find_in_headers
from brats3d.audit.image_checks import (
    background_of,
    find_in_image,
    fingerprint,
    is_background,
    is_ringing,
    open_background,
)
from brats3d.audit.label_checks import count_tiny_components, find_in_label
from brats3d.cases.label_voxels import labelled_voxels
from brats3d.files.nifti import Header, read_header
from brats3d.labels import BRATS2020, BRATS2024_GLI

SHAPE = (20, 20, 10)
HERE = Path("x_t1.nii.gz")


@pytest.fixture
def brain() -> np.ndarray:
    """A box of 16 x 16 x 8 = 2,048 voxels with values from 100 to 199."""
    values = np.zeros(SHAPE, np.int16, order="F")
    values[2:18, 2:18, 1:9] = np.arange(2048).reshape(16, 16, 8) % 100 + 100
    return values


def image_kinds(values: np.ndarray) -> list[str]:
    return [finding.kind for finding in find_in_image("a", HERE, values)]


def label_kinds(values: np.ndarray, convention=BRATS2020) -> list[str]:
    return [finding.kind for finding in find_in_label("a", HERE, labelled_voxels(values), convention)]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", ">i2", "int32", "float32", "float64"])
def test_a_sound_image_has_no_finding_in_any_dtype(brain, dtype: str) -> None:
    assert image_kinds(brain.astype(dtype)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("count", "few"), [(1, True), (40, True), (41, False)])  # 1 % of 4,000 voxels
def test_nan_and_inf_are_counted_and_mended_where_few(brain, value: float, count: int, few: bool) -> None:
    values = brain.astype(np.float32)
    values.ravel(order="K")[:count] = value
    (finding,) = find_in_image("a", HERE, values)
    assert finding.kind == "NaN or Inf"
    assert finding.what.startswith(f"{count:,} of 4,000 voxels")
    assert (finding.repair is not None) == few


def test_saturation_needs_more_than_a_handful_of_voxels(brain) -> None:
    brain[5, 5, :8] = brain[6, 5, :2] = 32767
    assert image_kinds(brain) == []
    brain[6, 6, 5] = 32767
    assert image_kinds(brain) == ["saturated"]
    assert image_kinds(brain.astype(np.float32)) == ["saturated"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_saturation_is_at_the_highest_value_of_the_type(brain, dtype: str) -> None:
    values = brain.astype(dtype)
    high = np.iinfo(dtype).max
    values[5, 5, :8] = values[6, 5, :3] = high - 1
    assert image_kinds(values) == []
    values[5, 5, :8] = values[6, 5, :3] = high
    assert image_kinds(values) == ["saturated"]


def test_the_lowest_integer_is_no_ringing(brain) -> None:
    brain[5, 5, 5] = -32768
    assert image_kinds(brain) == ["negative"]
    assert not is_ringing(brain, brain.min(), brain.max(), 1)


def test_one_intensity_above_0_is_a_mask_and_a_second_is_not(brain) -> None:
    mask = (brain > 0).astype(np.float64)
    assert image_kinds(mask) == ["constant"]
    assert image_kinds(mask * 1e-60) == ["constant"]  # 0 in float32
    mask[5, 5, 5] = 1 + 1e-12  # 1 in float32
    assert image_kinds(mask) == ["constant"]
    mask[5, 5, 5] = 2
    assert image_kinds(mask) == []


def test_too_large_for_float32_is_an_error_that_cannot_be_mended(brain) -> None:
    (finding,) = find_in_image("a", HERE, brain * 1e300)
    assert finding.kind == "NaN or Inf"
    assert finding.repair is None
    assert image_kinds(brain * 1e30) == []


@pytest.mark.parametrize(("background", "mendable"), [(-500, True), (0, False)])
def test_nothing_above_0_is_mended_only_by_another_background(brain, background: int, mendable: bool) -> None:
    values = np.where(brain > 0, -brain, background).astype(np.int16)
    found = {finding.kind: finding for finding in find_in_image("a", HERE, values)}
    assert (found["nothing above 0"].repair is not None) == mendable


def test_ringing_is_few_and_small_and_everything_else_below_0_is_negative(brain) -> None:
    brain[2, 2:12, 1] = -39  # a fifth of 199 is 39.8; 5 % of 2,048 voxels is 102
    assert image_kinds(brain) == ["ringing"]
    brain[2, 2, 1] = -40
    assert image_kinds(brain) == ["negative"]
    brain[2, 2, 1] = -39
    brain[3:10, 2:18, 1] = -1
    assert image_kinds(brain) == ["negative"]


def test_backgrounds(brain) -> None:
    assert background_of(brain) == 0
    assert background_of(brain + np.int16(7)) == 7
    assert background_of(brain - np.float32(0.25)) == -0.25
    corner = brain.copy()
    corner[0, 0, 0] = 5  # one of 2 x 2 x 1 x 8 = 32 voxels
    assert background_of(corner) == 0
    corner[:2, :2, 0] = 5  # four
    assert background_of(corner) is None
    assert image_kinds(corner) == ["noisy background"]
    where = np.array([0, 2 + 20 * 2 + 400])  # the corner, and the brain's first voxel; x varies fastest
    assert is_background(brain + np.int16(7), where).tolist() == [True, False]


def test_background_in_a_hole_is_not_open_and_one_that_reaches_the_border_is(brain) -> None:
    other = brain.copy()
    brain[8:10, 8:10, 4:6] = 0
    other[8:10, 8:10, 5] = np.nan if other.dtype.kind == "f" else 0  # the hole that both have
    box = np.ones(SHAPE, bool)
    box[2:18, 2:18, 1:9] = False
    assert np.array_equal(open_background([brain, other]), box)
    assert np.array_equal(open_background(iter([brain])), box)
    for values in (brain, other):
        values[8, 8, 5:] = 0  # a way out
    assert open_background([brain, other])[8, 8, 5]
    assert open_background([brain, other])[9, 9, 5]
    assert not open_background([brain, other])[8, 8, 4]
    with pytest.raises(ValueError, match="at least one"):
        open_background([])


def test_a_brain_at_the_volumes_border_is_not_background(brain) -> None:
    brain[2:18, 2:18, 9] = 5
    assert np.array_equal(open_background([brain]), brain == 0)


@given(hnp.arrays(np.int16, (7, 6, 5), elements=st.integers(0, 2)))
def test_fingerprints_are_equal_for_equal_voxels_in_whatever_order_they_lie(values: np.ndarray) -> None:
    assert fingerprint(values) == fingerprint(np.asfortranarray(values))
    assert fingerprint(values) != fingerprint(values.astype(np.float32))
    changed = values.copy()
    changed[3, 2, 2] += 1  # the 101st and 102nd of 210 voxels are in the middle: x + 7 y + 42 z
    assert fingerprint(changed) != fingerprint(values)


# --- headers


def headers(tmp_path: Path, *shapes: tuple[int, ...]) -> list[Header]:
    for i, shape in enumerate(shapes):
        nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), tmp_path / f"{i}.nii")
    return [read_header(tmp_path / f"{i}.nii") for i in range(len(shapes))]


def test_a_grid_can_be_taken_over_only_where_most_files_have_it(tmp_path: Path) -> None:
    found = find_in_headers("a", headers(tmp_path, (4, 4, 4), (4, 4, 4), (4, 4, 5)))
    assert [finding.kind for finding in found] == ["shape"]
    moved = [*headers(tmp_path, (4, 4, 4)), *[replace(h, affine=h.affine + 1e-2) for h in headers(tmp_path, (4, 4, 4))]]
    (finding,) = find_in_headers("a", moved)
    assert finding.kind == "affine"
    assert finding.repair is None  # one against one
    (finding,) = find_in_headers("a", [moved[0], *moved])
    assert finding.repair is not None


def test_a_qform_that_is_no_rotation_is_a_finding_of_its_file(tmp_path: Path) -> None:
    (header,) = headers(tmp_path, (4, 4, 4))
    header.nifti["qform_code"] = 1
    header.nifti["quatern_b"], header.nifti["quatern_c"] = 0.8, 0.61
    (finding,) = find_in_headers("a", [header])
    assert finding.kind == "two affines"
    assert finding.what.startswith("its qform is no rotation (w2 should be positive")


# --- segmentations


def test_equal_labels_have_one_fingerprint_in_every_dtype() -> None:
    marks = {labelled_voxels(tumour(dtype)).fingerprint() for dtype in ("uint8", "int16", "float32", "float64")}
    assert len(marks) == 1
    assert labelled_voxels(np.roll(tumour(), 1, 0)).fingerprint() not in marks
    assert labelled_voxels(tumour() * 2).fingerprint() not in marks


def test_labels_a_rounding_off_whole_are_whole() -> None:
    assert label_kinds(tumour() * np.float64(np.float32(1 / 60)) * 60) == []
    label = tumour("float64")
    label[0, 0, 0] = 1e-7
    assert np.array_equal(labelled_voxels(label).where, labelled_voxels(tumour()).where)


def tumour(dtype: str = "uint8") -> np.ndarray:
    label = np.zeros(SHAPE, dtype, order="F")
    label[5:15, 5:15, 3:7] = 2
    label[7:12, 7:12, 4:6] = 4
    label[9, 9, 4:6] = 1
    return label


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_a_sound_segmentation_has_no_finding_in_any_dtype(dtype: str) -> None:
    assert label_kinds(tumour(dtype)) == []


def test_volumes_are_those_of_the_boxes() -> None:
    counts = labelled_voxels(tumour()).counts(BRATS2020)
    assert counts == {"WT": 10 * 10 * 4, "TC": 5 * 5 * 2, "ET": 5 * 5 * 2 - 2}


@pytest.mark.parametrize(
    ("off", "kinds", "repair"),
    [
        (4e-4, ["fractional labels"], True),
        (-4e-4, ["fractional labels"], True),
        (0.3, ["fractional labels"], False),
        (np.nan, ["label values"], False),
        (3.0, ["label values"], False),
    ],
)
def test_labels_that_are_not_the_conventions(off: float, kinds: list[str], repair: bool) -> None:
    label = tumour("float32")
    label[5, 5, 3] += off
    found = find_in_label("a", HERE, labelled_voxels(label), BRATS2020)
    assert [finding.kind for finding in found] == kinds
    assert (found[0].repair is not None) == repair


def test_a_label_that_rounds_to_another_conventions_is_named_too() -> None:
    label = np.where(tumour("float32") == 4, 3.0004, 0).astype(np.float32)
    assert label_kinds(label) == ["fractional labels", "label values"]
    assert label_kinds(label, None) == ["fractional labels"]


def test_empty_regions_are_named_together() -> None:
    label = tumour()
    label[label == 4] = 1
    (finding,) = find_in_label("a", HERE, labelled_voxels(label), BRATS2020)
    assert finding.what == "no voxel lies in ET"
    label[label == 1] = 2
    (finding,) = find_in_label("a", HERE, labelled_voxels(label), BRATS2020)
    assert finding.what == "no voxel lies in TC and ET"
    assert label_kinds(label * 0) == ["no tumour"]
    assert label_kinds(label * 2, BRATS2024_GLI) == ["no tumour"]  # the resection cavity alone


@given(hnp.arrays(np.bool_, (7, 6, 5)))
def test_tiny_components_are_those_that_scipy_finds_in_the_whole_volume(mask: np.ndarray) -> None:
    parts, n = ndimage.label(mask, np.ones((3, 3, 3)))
    expected = sum(np.count_nonzero(parts == i) < 10 for i in range(1, n + 1))
    assert count_tiny_components(labelled_voxels(mask.astype(np.uint8)).where, mask.shape) == expected


def test_ten_voxels_are_no_tiny_component_and_corners_touch() -> None:
    label = tumour()
    label[0, 0:9, 0] = 2
    assert label_kinds(label) == ["tiny components"]
    label[1, 9, 1] = 2
    assert label_kinds(label) == []

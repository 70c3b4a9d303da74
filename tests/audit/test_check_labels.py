"""Findings in segmentations, against answers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from brats3d.audit.check_labels import count_tiny_components, label_findings
from brats3d.cases import labelled_voxels, region_voxels
from brats3d.labels import BRATS2020, BRATS2024_GLI

SHAPE = (20, 20, 10)
HERE = Path("x_seg.nii.gz")


def label_kinds(values: np.ndarray, convention=BRATS2020) -> list[str]:
    return [finding.kind for finding in label_findings("a", HERE, labelled_voxels(values), convention)]


def test_equal_labels_have_the_same_fingerprint_in_every_dtype() -> None:
    marks = {labelled_voxels(tumour(dtype)).fingerprint() for dtype in ("uint8", "int16", "float32", "float64")}
    assert len(marks) == 1
    assert labelled_voxels(np.roll(tumour(), 1, 0)).fingerprint() not in marks
    assert labelled_voxels(tumour() * 2).fingerprint() not in marks


def test_labels_within_float_rounding_are_whole_numbers() -> None:
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


def test_region_counts_are_those_of_the_boxes() -> None:
    counts = region_voxels(tumour(), BRATS2020)
    assert counts == {"WT": 10 * 10 * 4, "TC": 5 * 5 * 2, "ET": 5 * 5 * 2 - 2}


@pytest.mark.parametrize(
    ("off", "kinds", "repair"),
    [
        (4e-4, ["fractional labels"], True),
        (-4e-4, ["fractional labels"], True),
        (0.3, ["fractional labels"], False),
        (np.nan, ["unexpected labels"], False),
        (3.0, ["unexpected labels"], False),
    ],
)
def test_fractional_and_unexpected_labels_are_found(off: float, kinds: list[str], repair: bool) -> None:
    label = tumour("float32")
    label[5, 5, 3] += off
    found = label_findings("a", HERE, labelled_voxels(label), BRATS2020)
    assert [finding.kind for finding in found] == kinds
    assert bool(found[0].repair) == repair


def test_labels_that_round_to_another_convention_are_two_findings() -> None:
    label = np.where(tumour("float32") == 4, 3.0004, 0).astype(np.float32)
    assert label_kinds(label) == ["fractional labels", "unexpected labels"]
    assert label_kinds(label, None) == ["fractional labels"]


def test_empty_regions_are_one_finding() -> None:
    label = tumour()
    label[label == 4] = 1
    (finding,) = label_findings("a", HERE, labelled_voxels(label), BRATS2020)
    assert finding.problem == "no voxel is in ET"
    label[label == 1] = 2
    (finding,) = label_findings("a", HERE, labelled_voxels(label), BRATS2020)
    assert finding.problem == "no voxel is in TC or ET"
    assert label_kinds(label * 0) == ["no tumour"]
    assert label_kinds(label * 2, BRATS2024_GLI) == ["no tumour"]  # the resection cavity alone


@given(hnp.arrays(np.bool_, (7, 6, 5)))
def test_tiny_components_equal_those_of_scipy_in_the_whole_volume(mask: np.ndarray) -> None:
    parts, n = ndimage.label(mask, np.ones((3, 3, 3)))
    expected = sum(np.count_nonzero(parts == i) < 10 for i in range(1, n + 1))
    assert count_tiny_components(labelled_voxels(mask.astype(np.uint8)).where, mask.shape) == expected


def test_components_of_ten_voxels_connected_by_corners_are_not_tiny() -> None:
    label = tumour()
    label[0, 0:9, 0] = 2
    assert label_kinds(label) == ["tiny components"]
    label[1, 9, 1] = 2
    assert label_kinds(label) == []

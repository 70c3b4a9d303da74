"""Summaries of segmentations, against counts worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from brats3d.cases.label_summary import labelled_voxels, summarise_labels


def summarise(values: np.ndarray):
    return summarise_labels(labelled_voxels(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_voxels_and_faces_of_a_row_are_counted(dtype) -> None:
    row = np.zeros((5, 1, 1), dtype)
    row[:, 0, 0] = (0, 2, 2, 4, 0)
    summary = summarise(row)
    assert summary.voxels == {2: 2, 4: 1}
    # Each voxel has four faces beside the row; the ends of the row have one more.
    assert summary.faces == {(2, 0): 9, (2, 4): 1, (4, 2): 1, (4, 0): 5}


def test_labels_that_fill_the_volume_end_at_its_border() -> None:
    assert summarise(np.full((2, 2, 2), 255, np.uint8)).faces == {(255, 0): 24}


@given(hnp.arrays(np.uint8, (4, 3, 5), elements={"min_value": 0, "max_value": 4}))
def test_every_face_of_every_labelled_voxel_is_counted_unless_both_sides_are_equal(values) -> None:
    padded = np.pad(values, 1)
    expected: dict[tuple[int, int], int] = {}
    for axis in range(3):
        for step in (-1, 1):
            other = np.roll(padded, step, axis)
            for a, b in zip(padded[padded > 0].tolist(), other[padded > 0].tolist(), strict=True):
                if a != b:
                    expected[a, b] = expected.get((a, b), 0) + 1
    summary = summarise(values)
    assert summary.faces == expected
    assert summary.voxels == {v: int((values == v).sum()) for v in np.unique(values).tolist() if v}


@pytest.mark.parametrize("values", [np.nan, np.inf, 0.5], ids=str)
def test_values_that_are_no_labels_have_no_summary(values) -> None:
    assert summarise(np.full((2, 2, 2), values, np.float32)) is None
    assert summarise(np.arange(64).reshape(4, 4, 4)) is None


def test_an_empty_segmentation_has_an_empty_summary() -> None:
    summary = summarise(np.zeros((3, 3, 3), np.uint8))
    assert (summary.voxels, summary.faces) == ({}, {})

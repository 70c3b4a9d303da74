"""Checks of label values."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.cases.valid_labels import check_labels, whole_labels
from brats3d.errors import DataError
from brats3d.labels import BRATS2020, BRATS2023


def refusal(values) -> DataError:
    with pytest.raises(DataError) as error:
        check_labels(np.asarray(values), BRATS2020, "x")
    assert error.value.subject == "x"
    assert error.value.expected == "brats2020's labels {0, 1, 2, 4}"
    assert len(str(error.value)) < 1000
    return error.value


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_the_convention_pass_in_every_dtype(dtype):
    check_labels(np.array([0, 1, 2, 4], dtype), BRATS2020, "x")
    check_labels(np.array([[[0, 1, 2, 3]]], dtype), BRATS2023, "x")


def test_labels_of_another_convention_are_counted_and_recognised():
    error = refusal([0] * 9 + [1] * 3 + [2] * 4 + [3] * 5)
    assert error.problem == "contains labels {0, 1, 2, 3}, 3 in 5 voxels"
    assert "brats2023 {0, 1, 2, 3} or brats2024-gli {0, 1, 2, 3, 4}" in error.advice


def test_labels_outside_every_convention_are_counted():
    error = refusal([0, 7, 7])
    assert (error.problem, error.advice) == ("contains labels {0, 7}, 7 in 2 voxels", "")
    refusal(np.arange(5000))


def test_a_probability_map_is_recognised():
    assert "2 voxels are not whole numbers (from 0.25 to 0.75)" in refusal([0, 0.25, 0.75, 1]).problem
    assert "1 voxels are NaN or Inf" in refusal([0, np.nan]).problem


def test_labels_within_a_rounding_error_of_a_whole_number_pass():
    scaled = np.array([0, 60, 120, 240], np.uint8) * np.float64(np.float32(1 / 60))
    assert (scaled != np.round(scaled)).any()
    for dtype in (np.float32, np.float64):
        check_labels(scaled.astype(dtype), BRATS2020, "x")
        assert whole_labels(scaled.astype(dtype)).tolist() == [0, 1, 2, 4]
    assert whole_labels(np.array([1.999999, 1.99999, np.nan])).tolist()[:2] == [2, 1.99999]
    assert whole_labels(np.array([2], np.uint8)).dtype == np.uint8
    assert "1 voxels are not whole numbers" in refusal([0, 1.99999]).problem
    assert "3 in 1 voxels" in refusal([0, 2.9999999]).problem

from __future__ import annotations

import numpy as np
import pytest

from brats3d.quality import Calibration, calibration_error
from brats3d.quality.calibration import BINS, count_border, fit_calibration


def counts_of(temperature: float, shift: float) -> np.ndarray:
    inside = np.rint(10_000 * Calibration(temperature, shift).apply(BINS)).astype(int)
    return np.stack([10_000 - inside, inside])


def test_the_temperature_and_the_shift_of_simulated_voxels_are_found() -> None:
    found = fit_calibration(counts_of(2, -0.5))
    assert (found.temperature, found.shift) == (pytest.approx(2, abs=0.02), pytest.approx(-0.5, abs=0.02))


def test_a_temperature_alone_has_no_shift() -> None:
    found = fit_calibration(counts_of(3, 0), with_shift=False)
    assert (found.temperature, found.shift) == (pytest.approx(3, abs=0.05), 0)


def test_calibration_removes_the_calibration_error() -> None:
    counts = counts_of(3, 1)
    assert calibration_error(counts, Calibration()) > 0.1
    assert calibration_error(counts, fit_calibration(counts)) < 0.01


def test_the_calibration_error_of_two_bins_is_that_worked_out_by_hand() -> None:
    counts = np.zeros((2, len(BINS)), int)
    counts[:, BINS == 0] = [[30], [10]]  # a probability of 0.5, and a quarter is inside
    assert calibration_error(counts, Calibration()) == pytest.approx(0.25)
    counts[:, BINS == -7.5] = [[40], [0]]  # certain and right
    assert calibration_error(counts, Calibration()) == pytest.approx(0.125, abs=1e-3)


@pytest.mark.parametrize("inside", [0, 1])
def test_voxels_of_one_class_change_nothing(inside: int) -> None:
    counts = np.zeros((2, len(BINS)), int)
    counts[inside] = 5
    assert fit_calibration(counts) == Calibration()


def test_a_network_worse_than_chance_changes_nothing() -> None:
    assert fit_calibration(counts_of(2, 0)[::-1]) == Calibration()


def test_voxels_near_the_border_are_counted_by_logit_and_reference() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[20, 20, 20] = True
    logits, reference = np.where(mask, 2.0, -2.0), np.zeros_like(mask)
    counts = count_border(logits, mask, reference, (1, 1, 1))
    offsets = np.indices(mask.shape) - 20
    near = int((np.square(offsets).sum(0) <= 100).sum())
    assert counts[0, BINS == 2] == 1
    assert counts[0, BINS == -2] == near - 1 == counts.sum() - 1
    assert count_border(logits, mask, ~reference, (1, 1, 1))[1].sum() == near
    assert count_border(logits, mask, reference, (1, 1, 5)).sum() < near / 4  # millimetres, not voxels


def test_an_empty_segmentation_has_no_border() -> None:
    empty = np.zeros((5, 5, 5), bool)
    assert not count_border(np.zeros(empty.shape), empty, empty, (1, 1, 1)).any()

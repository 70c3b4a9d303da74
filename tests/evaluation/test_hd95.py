"""HD95 of shapes worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from monai.metrics import compute_hausdorff_distance

from brats3d.evaluation.hd95 import hd95_mm


def box(*sides: tuple[int, int], shape: tuple[int, int, int] = (20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


CUBE = box((4, 10), (4, 10), (4, 10))


def test_a_mask_has_distance_0_from_itself():
    assert hd95_mm(CUBE, CUBE) == 0


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_plate_shifted_along_its_normal_is_that_far_away(steps):
    plate = box((3, 4), (2, 18), (2, 18))
    assert hd95_mm(np.roll(plate, steps, 0), plate) == pytest.approx(steps)
    assert hd95_mm(np.roll(plate, steps, 0), plate, (2.5, 1, 1)) == pytest.approx(2.5 * steps)


def test_a_needle_counts_once_it_has_more_than_5_percent_of_the_surface():
    """A needle of 4 mm² per mm length on a cube of 6 * 36 mm²: 5 % of the surface is 11 mm², about 3 mm of needle."""
    needle = [CUBE | box((10, 10 + mm), (6, 7), (6, 7)) for mm in (1, 2, 9)]
    far = [hd95_mm(pred, CUBE) for pred in needle]
    assert far[0] <= 1
    assert 4 < far[2] < 9


def test_an_empty_mask_is_infinitely_far_from_a_mask_and_equal_to_an_empty_one():
    empty = np.zeros_like(CUBE)
    assert hd95_mm(empty, CUBE) == hd95_mm(CUBE, empty) == math.inf
    assert hd95_mm(empty, empty) == 0
    assert hd95_mm(np.zeros((0, 0, 0), bool), np.zeros((0, 0, 0), bool)) == 0


def test_monais_unweighted_percentile_differs():
    x, y, z = (axis - middle for axis, middle in zip(np.ogrid[:20, :20, :20], (9.5, 8, 11), strict=True))
    pred, ref = x**2 + y**2 + z**2 < 30, x**2 + 2 * y**2 + (z + 2) ** 2 < 40
    theirs = compute_hausdorff_distance(*(torch.from_numpy(m)[None, None] for m in (pred, ref)), True, percentile=95)
    assert abs(float(theirs) - hd95_mm(pred, ref)) > 0.05


@pytest.mark.parametrize(
    ("seed", "theirs_mm"),
    [(300, 2), (692, 2.692582), (2691, 1.414214), (2762, 5.09902), (3050, 0.5), (3602, 2.236068), (3833, 1)],
)
def test_a_percentile_between_two_elements_agrees_with_surface_distance(seed, theirs_mm):
    """On these small masks float32 areas select another element. The expected values are from surface-distance."""
    rng = np.random.default_rng(seed)
    shape, spacing_mm = tuple(rng.integers(1, 6, 3)), [(1, 1, 1), (1, 2, 3), (0.5, 1, 2.5)][seed % 3]
    ref, pred = rng.random(shape) < 0.4, rng.random(shape) < 0.4
    assert hd95_mm(pred, ref, spacing_mm) == pytest.approx(theirs_mm, abs=1e-6)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3), st.sampled_from([(0, 1, 2), (2, 0, 1), (1, 0, 2)]))
def test_it_is_symmetric_and_invariant_to_shifts_and_axis_order(shift, order):
    pred = box((5, 9), (3, 10), (4, 8)) | box((9, 10), (5, 6), (5, 6))
    here = hd95_mm(pred, CUBE)
    assert hd95_mm(CUBE, pred) == here
    a, b = (np.roll(mask, shift, (0, 1, 2)).transpose(order) for mask in (pred, CUBE))
    assert hd95_mm(a, b) == pytest.approx(here, abs=1e-5)

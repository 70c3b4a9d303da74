"""HD95 by area, of geometry worked by hand."""

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


def test_a_mask_is_no_distance_from_itself():
    assert hd95_mm(CUBE, CUBE) == 0


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_thin_plate_that_is_moved_along_its_normal_is_as_far_away(steps):
    plate = box((3, 4), (2, 18), (2, 18))
    assert hd95_mm(np.roll(plate, steps, 0), plate) == pytest.approx(steps)
    assert hd95_mm(np.roll(plate, steps, 0), plate, (2.5, 1, 1)) == pytest.approx(2.5 * steps)


def test_what_sticks_out_counts_once_it_is_more_than_a_twentieth_of_the_surface():
    """A needle of 4 faces a millimetre on a cube of 6 * 36 mm²: 5 % of it all is 11 mm², so about 3 mm of it."""
    needle = [CUBE | box((10, 10 + mm), (6, 7), (6, 7)) for mm in (1, 2, 9)]
    far = [hd95_mm(pred, CUBE) for pred in needle]
    assert far[0] <= 1
    assert 4 < far[2] < 9


def test_missing_masks_are_infinitely_far_and_two_of_them_are_equal():
    empty = np.zeros_like(CUBE)
    assert hd95_mm(empty, CUBE) == hd95_mm(CUBE, empty) == math.inf
    assert hd95_mm(empty, empty) == 0
    assert hd95_mm(np.zeros((0, 0, 0), bool), np.zeros((0, 0, 0), bool)) == 0


def test_monais_percentile_over_voxels_is_another_number():
    x, y, z = (axis - middle for axis, middle in zip(np.ogrid[:20, :20, :20], (9.5, 8, 11), strict=True))
    pred, ref = x**2 + y**2 + z**2 < 30, x**2 + 2 * y**2 + (z + 2) ** 2 < 40
    theirs = compute_hausdorff_distance(*(torch.from_numpy(m)[None, None] for m in (pred, ref)), True, percentile=95)
    assert abs(float(theirs) - hd95_mm(pred, ref)) > 0.05


@pytest.mark.parametrize(
    ("seed", "theirs_mm"),
    [(300, 2), (692, 2.692582), (2691, 1.414214), (2762, 5.09902), (3050, 0.5), (3602, 2.236068), (3833, 1)],
)
def test_where_95_percent_falls_between_two_elements_it_is_surface_distances_number(seed, theirs_mm):
    """Masks of a few voxels, of which areas in float32 gave another element; the figures are surface-distance's own."""
    rng = np.random.default_rng(seed)
    shape, spacing_mm = tuple(rng.integers(1, 6, 3)), [(1, 1, 1), (1, 2, 3), (0.5, 1, 2.5)][seed % 3]
    ref, pred = rng.random(shape) < 0.4, rng.random(shape) < 0.4
    assert hd95_mm(pred, ref, spacing_mm) == pytest.approx(theirs_mm, abs=1e-6)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3), st.sampled_from([(0, 1, 2), (2, 0, 1), (1, 0, 2)]))
def test_it_is_the_same_either_way_round_and_wherever_the_masks_lie(shift, order):
    pred = box((5, 9), (3, 10), (4, 8)) | box((9, 10), (5, 6), (5, 6))
    here = hd95_mm(pred, CUBE)
    assert hd95_mm(CUBE, pred) == here
    a, b = (np.roll(mask, shift, (0, 1, 2)).transpose(order) for mask in (pred, CUBE))
    assert hd95_mm(a, b) == pytest.approx(here, abs=1e-5)

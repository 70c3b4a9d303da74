"""Undoing the z-score: integers are recovered exactly up to a common factor, anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from brats3d.convert.undo_zscore import MIN_DISTINCT, SCALE_SPREAD, choose_factor, recover_integers, zscore
from brats3d.errors import DataError


def test_a_slice_worked_by_hand_is_recovered():
    # 12 pixels of 0, then 2, 4, 4, 6: their mean is 1, the mean of their squares 72 / 16 = 4.5, so sd = sqrt(3.5).
    values = (np.array([0] * 12 + [2, 4, 4, 6], float).reshape(4, 4) - 1) / np.sqrt(3.5)
    integers, distinct = recover_integers(values)
    np.testing.assert_array_equal(integers.ravel(), [0] * 12 + [1, 2, 2, 3])  # the common factor 2 is lost
    assert distinct == 3


@settings(deadline=None, max_examples=300)
@given(
    foreground=hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(-300, 32767)),
    background=st.integers(42, 200),
)
def test_random_integers_are_recovered_up_to_their_common_factor(foreground, background):
    original = np.concatenate([foreground, np.zeros(background, np.int64)])[:, None]
    integers, distinct = recover_integers(zscore(original))
    factor = np.gcd.reduce(original.ravel())
    np.testing.assert_array_equal(integers, original // max(factor, 1))
    assert distinct == len(set(foreground.tolist()) - {0})


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), top=st.sampled_from([40, 300, 3000, 30_000, 100_000]), n=st.integers(40, 3000))
def test_slices_with_many_values_are_recovered_exactly(seed, top, n):
    original = np.zeros(2 * n, np.int64)
    original[:n] = np.random.default_rng(seed).integers(-top // 10, top, n)
    original[0] = 1  # no common factor
    integers, _ = recover_integers(zscore(original[:, None]))
    np.testing.assert_array_equal(integers.ravel(), original)


def test_an_empty_slice_stays_empty():
    integers, distinct = recover_integers(np.zeros((5, 5)))
    assert not integers.any()
    assert distinct == 0


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.random.default_rng(0).normal(size=(20, 20)), "covers 0.2%"),
        (np.where(np.arange(400) < 300, -0.5, np.random.default_rng(0).normal(size=400)), "integers"),
        (np.where(np.arange(400) < 300, 0, np.arange(400.0)), "integers"),  # integers, but not z-scored
        (np.full((4, 4), 0.3), "everywhere"),
        (np.where(np.arange(16) < 12, 0, np.nan), "NaN"),
    ],
)
def test_anything_but_z_scored_integers_is_refused(values, problem):
    with pytest.raises(DataError) as error:
        recover_integers(values, "slice_3.h5: t1")
    assert error.value.subject == "slice_3.h5: t1"
    assert problem in error.value.problem


def test_single_precision_is_refused():
    with pytest.raises(DataError) as error:
        recover_integers(zscore(np.arange(16) // 12).astype(np.float32))
    assert error.value.found == "float32"


def test_the_factor_balances_chance_against_brightness():
    assert choose_factor(scale=500, pixels=10, reference=520) == 1
    mode = round(500 * np.exp(-(SCALE_SPREAD**2)))  # of the product of 1/k and the log-normal, by hand
    assert choose_factor(scale=1, pixels=1, reference=500) == mode
    assert choose_factor(scale=5, pixels=2, reference=500) > 1
    assert choose_factor(scale=5, pixels=MIN_DISTINCT, reference=500) == 1
    assert choose_factor(scale=5, pixels=2, reference=None) == 1

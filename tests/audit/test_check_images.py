"""Findings in images, against answers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from brats3d.audit.check_images import (
    fingerprint,
    image_findings,
    is_background,
    is_ringing,
    open_background,
)
from brats3d.cases import background_of

SHAPE = (20, 20, 10)
HERE = Path("x_t1.nii.gz")


@pytest.fixture
def brain() -> np.ndarray:
    """A box of 16 x 16 x 8 = 2,048 voxels with values from 100 to 199."""
    values = np.zeros(SHAPE, np.int16, order="F")
    values[2:18, 2:18, 1:9] = np.arange(2048).reshape(16, 16, 8) % 100 + 100
    return values


def image_kinds(values: np.ndarray) -> list[str]:
    return [finding.kind for finding in image_findings("a", HERE, values)[0]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", ">i2", "int32", "float32", "float64"])
def test_a_sound_image_has_no_finding_in_any_dtype(brain, dtype: str) -> None:
    assert image_kinds(brain.astype(dtype)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("count", "few"), [(1, True), (40, True), (41, False)])  # 1 % of 4,000 voxels
def test_nan_and_inf_are_counted_and_repairable_if_few(brain, value: float, count: int, few: bool) -> None:
    values = brain.astype(np.float32)
    values.ravel(order="K")[:count] = value
    ((finding,), _) = image_findings("a", HERE, values)
    assert finding.kind == "NaN or Inf"
    assert finding.problem.startswith(f"{count:,} of 4,000 voxels")
    assert bool(finding.repair) == few


def test_saturation_needs_more_than_a_handful_of_voxels(brain) -> None:
    brain[5, 5, :8] = brain[6, 5, :2] = 32767
    assert image_kinds(brain) == []
    brain[6, 6, 5] = 32767
    assert image_kinds(brain) == ["saturated"]
    assert image_kinds(brain.astype(np.float32)) == ["saturated"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_saturation_is_at_the_maximum_of_the_dtype(brain, dtype: str) -> None:
    values = brain.astype(dtype)
    high = np.iinfo(dtype).max
    values[5, 5, :8] = values[6, 5, :3] = high - 1
    assert image_kinds(values) == []
    values[5, 5, :8] = values[6, 5, :3] = high
    assert image_kinds(values) == ["saturated"]


def test_the_lowest_integer_is_not_ringing(brain) -> None:
    brain[5, 5, 5] = -32768
    assert image_kinds(brain) == ["negative intensities"]
    assert not is_ringing(brain, brain.min(), brain.max(), 1)


def test_an_image_with_one_positive_intensity_is_a_mask(brain) -> None:
    mask = (brain > 0).astype(np.float64)
    assert image_kinds(mask) == ["constant image"]
    assert image_kinds(mask * 1e-60) == ["constant image"]  # 0 in float32
    mask[5, 5, 5] = 1 + 1e-12  # 1 in float32
    assert image_kinds(mask) == ["constant image"]
    mask[5, 5, 5] = 2
    assert image_kinds(mask) == []


def test_intensities_that_overflow_float32_cannot_be_repaired(brain) -> None:
    ((finding,), _) = image_findings("a", HERE, brain * 1e300)
    assert finding.kind == "NaN or Inf"
    assert not finding.repair
    assert image_kinds(brain * 1e30) == []


@pytest.mark.parametrize(("background", "repairable"), [(-500, True), (0, False)])
def test_an_image_below_0_is_repairable_only_by_its_background(brain, background: int, repairable: bool) -> None:
    values = np.where(brain > 0, -brain, background).astype(np.int16)
    findings = {finding.kind: finding for finding in image_findings("a", HERE, values)[0]}
    assert bool(findings["no positive voxels"].repair) == repairable


def test_ringing_is_few_small_negative_voxels(brain) -> None:
    brain[2, 2:12, 1] = -39  # a fifth of 199 is 39.8; 5 % of 2,048 voxels is 102
    assert image_kinds(brain) == ["ringing"]
    brain[2, 2, 1] = -40
    assert image_kinds(brain) == ["negative intensities"]
    brain[2, 2, 1] = -39
    brain[3:10, 2:18, 1] = -1
    assert image_kinds(brain) == ["negative intensities"]


def test_the_background_is_the_value_of_most_corner_voxels(brain) -> None:
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


def test_only_background_connected_to_the_border_is_open(brain) -> None:
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


def test_a_brain_at_the_border_of_the_volume_is_not_background(brain) -> None:
    brain[2:18, 2:18, 9] = 5
    assert np.array_equal(open_background([brain]), brain == 0)


@given(hnp.arrays(np.int16, (7, 6, 5), elements=st.integers(0, 2)))
def test_fingerprints_depend_on_the_voxels_not_on_their_memory_order(values: np.ndarray) -> None:
    assert fingerprint(values) == fingerprint(np.asfortranarray(values))
    assert fingerprint(values) != fingerprint(values.astype(np.float32))
    changed = values.copy()
    changed[3, 2, 2] += 1  # the 101st and 102nd of 210 voxels are in the middle: x + 7 y + 42 z
    assert fingerprint(changed) != fingerprint(values)

"""Small components are removed and small holes filled; regions stay nested."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor

from brats3d.data import labels_to_regions, nest_regions, regions_to_labels
from brats3d.errors import UsageError
from brats3d.labels import BRATS2020, REGIONS
from brats3d.postprocessing import ApplyRegionRulesd, RegionRules, apply_region_rules

TC, WT, ET = (REGIONS.index(region) for region in ("TC", "WT", "ET"))
CORE, EDEMA, ENHANCING = 1, 2, 4
SHAPE = (12, 12, 12)


def labels(*boxes: tuple[int, tuple[slice, ...]]) -> torch.Tensor:
    """Labels (1, H, W, D) with a value in each box; later ones overwrite earlier ones."""
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for value, box in boxes:
        label[(0, *box)] = value
    return label


def box(*start: int, size: int = 1) -> tuple[slice, ...]:
    return tuple(slice(a, a + size) for a in start)


def processed(label: torch.Tensor, voxel_ml: float = 0.001, **rules: float) -> torch.Tensor:
    """Apply rules to labels."""
    regions = apply_region_rules(labels_to_regions(label, BRATS2020), RegionRules(**rules), voxel_ml)
    return regions_to_labels(regions, BRATS2020)


TUMOUR = (EDEMA, box(1, 1, 1, size=7)), (CORE, box(2, 2, 2, size=4)), (ENHANCING, box(2, 2, 2, size=2))
"""WT of 343 voxels, TC of 64, ET of 8."""


def test_a_small_component_of_wt_becomes_background_with_the_core_in_it():
    speck = (EDEMA, box(9, 9, 9, size=3)), (CORE, box(9, 9, 9, size=2)), (ENHANCING, box(9, 9, 9))
    assert torch.equal(processed(labels(*TUMOUR, *speck), min_wt_ml=0.028), labels(*TUMOUR))
    kept = labels(*TUMOUR, *speck)
    assert torch.equal(processed(kept, min_wt_ml=0.027), kept), "27 voxels are not smaller than 0.027 ml"


def test_a_small_component_of_tc_becomes_edema_with_the_enhancing_tumour_in_it():
    speck = (CORE, box(7, 7, 7)), (ENHANCING, box(7, 7, 6))
    found = processed(labels(*TUMOUR, *speck), min_tc_ml=0.003)
    assert torch.equal(found, labels(*TUMOUR))


def test_a_small_component_of_et_becomes_core():
    speck = (ENHANCING, box(5, 5, 5))
    assert torch.equal(processed(labels(*TUMOUR, speck), min_et_ml=0.002), labels(*TUMOUR))


def test_voxels_that_share_a_corner_are_one_component():
    pair = labels(*TUMOUR, (EDEMA, box(9, 9, 9)), (EDEMA, box(10, 10, 10)))
    assert torch.equal(processed(pair, min_wt_ml=0.002), pair)
    assert torch.equal(processed(pair, min_wt_ml=0.003), labels(*TUMOUR))


def test_scattered_foci_stay_if_they_add_up():
    foci = [(ENHANCING, box(2, 2, 2)), (ENHANCING, box(2, 2, 4)), (ENHANCING, box(4, 4, 2))]
    scattered, without = labels(*TUMOUR[:2], *foci), labels(*TUMOUR[:2])
    assert torch.equal(processed(scattered, min_et_ml=0.003), scattered)
    assert torch.equal(processed(scattered, min_et_ml=0.004), without)


def test_all_enhancing_tumour_becomes_core_below_a_total_volume():
    foci = labels(*TUMOUR[:2], (ENHANCING, box(2, 2, 2)), (ENHANCING, box(4, 4, 4, size=2)))
    assert torch.equal(processed(foci, min_et_total_ml=0.009), foci), "9 voxels are not less than 0.009 ml"
    assert torch.equal(processed(foci, min_et_total_ml=0.010), labels(*TUMOUR[:2]))
    assert torch.equal(processed(foci, voxel_ml=0.002, min_et_total_ml=0.018), foci)


def test_the_total_is_that_of_the_components_that_are_left():
    foci = labels(*TUMOUR[:2], (ENHANCING, box(2, 2, 2)), (ENHANCING, box(4, 4, 4, size=2)))
    assert torch.equal(processed(foci, min_et_ml=0.002, min_et_total_ml=0.009), labels(*TUMOUR[:2]))


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("min_wt_ml", labels()),
        ("min_tc_ml", labels(TUMOUR[0])),
        ("min_et_ml", labels(*TUMOUR[:2])),
        ("min_et_total_ml", labels(*TUMOUR[:2])),
    ],
)
def test_a_whole_region_can_be_removed(rule, left):
    assert torch.equal(processed(labels(*TUMOUR), **{rule: 1}), left)


@pytest.mark.parametrize("value", [EDEMA, CORE])
def test_small_holes_are_filled_with_the_value_around_them(value):
    solid = labels((EDEMA, box(1, 1, 1, size=9)), (value, box(2, 2, 2, size=7)))
    pierced, hollow = solid.clone(), solid.clone()
    pierced[0, 4, 4, 4:6] = 0
    hollow[(0, *box(4, 4, 4, size=3))] = 0
    assert torch.equal(processed(pierced, max_hole_ml=0.002), solid)
    assert torch.equal(processed(hollow, max_hole_ml=0.026), hollow)
    assert torch.equal(processed(hollow, max_hole_ml=0.027), solid)


def test_edema_within_core_is_a_hole_and_core_within_enhancing_tumour_is_none():
    ring = labels((EDEMA, box(1, 1, 1, size=9)), (ENHANCING, box(2, 2, 2, size=5)))
    filled, necrotic = ring.clone(), ring.clone()
    ring[0, 4, 4, 4], filled[0, 4, 4, 4], necrotic[0, 4, 4, 4] = EDEMA, CORE, CORE
    assert torch.equal(processed(ring, max_hole_ml=1), filled)
    assert torch.equal(processed(necrotic, max_hole_ml=1), necrotic)


def test_background_that_is_open_or_at_the_edge_is_no_hole():
    tunnel, bay = labels((EDEMA, box(0, 0, 0, size=9))), labels((EDEMA, box(0, 0, 0, size=9)))
    tunnel[0, 4, 4, 4:9] = 0
    bay[0, 0, 4, 4] = 0
    for label in (tunnel, bay):
        assert torch.equal(processed(label, max_hole_ml=1), label)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1, 1, 3), (0.5, 0.5, 5)])
def test_volumes_follow_from_the_voxel_size(spacing_mm):
    label = labels(*TUMOUR, (EDEMA, box(9, 9, 9, size=2)))
    affine = np.diag([*spacing_mm, 1.0])[[1, 0, 2, 3]]  # axes in another order
    regions = MetaTensor(labels_to_regions(label, BRATS2020).float(), affine=affine)
    speck_ml = 8 * math.prod(spacing_mm) / 1000
    for min_ml, expected in ((0.99 * speck_ml, label), (1.01 * speck_ml, labels(*TUMOUR))):
        found = ApplyRegionRulesd("pred", RegionRules(min_wt_ml=min_ml))({"pred": regions})["pred"]
        assert torch.equal(regions_to_labels(found.as_tensor(), BRATS2020), expected)
        assert torch.equal(found.affine, regions.affine)


def test_a_tensor_without_an_affine_has_voxels_of_1_mm3():
    regions = labels_to_regions(labels(*TUMOUR, (EDEMA, box(9, 9, 9, size=2))), BRATS2020)
    found = ApplyRegionRulesd(["pred", "none"], RegionRules(min_wt_ml=0.009), allow_missing_keys=True)(
        {"pred": regions}
    )
    assert torch.equal(regions_to_labels(found["pred"], BRATS2020), labels(*TUMOUR))


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray])
def test_arrays_and_tensors_are_not_changed_in_place(kind):
    regions = labels_to_regions(labels(*TUMOUR), BRATS2020)
    given = regions.numpy().copy() if kind is np.ndarray else regions.clone()
    found = apply_region_rules(given, RegionRules(min_wt_ml=1))
    assert isinstance(found, kind) and not found.any()
    assert np.array_equal(given, regions)


def test_regions_need_three_channels():
    with pytest.raises(ValueError, match="3 channels"):
        apply_region_rules(torch.zeros(1, 2, 2, 2), RegionRules())


REGION_ARRAYS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5).map(lambda shape: (3, *shape)))
RULES = st.builds(RegionRules, *[st.sampled_from([0, 0.001, 0.002, 0.003, 0.01])] * 5)


@given(REGION_ARRAYS, RULES)
def test_regions_are_nested_and_stay_the_same_when_processed_again(regions, rules):
    found = apply_region_rules(torch.from_numpy(regions), rules)
    assert torch.equal(nest_regions(found).bool(), found)
    assert torch.equal(apply_region_rules(found, rules), found)


@given(REGION_ARRAYS)
def test_without_rules_regions_are_only_nested(regions):
    found = apply_region_rules(torch.from_numpy(regions), RegionRules())
    assert torch.equal(found, nest_regions(torch.from_numpy(regions)).bool())


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "0.1", None])
@pytest.mark.parametrize("name", ["min_wt_ml", "max_hole_ml"])
def test_volumes_must_be_numbers_from_0(name, value):
    with pytest.raises(UsageError) as caught:
        RegionRules(**{name: value})
    assert caught.value.subject == name

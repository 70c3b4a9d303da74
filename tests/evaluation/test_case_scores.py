"""The scores of one case, from masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import DiceMetric

from brats3d.errors import DataError, UsageError
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.challenge_rules import RULES, get_rules
from brats3d.labels import REGIONS

MM = (1.0, 1.0, 1.0)


def test_dice_and_volumes_of_shifted_masks(samples):
    ref = samples.masks(tc=4, wt=8, et=2)
    pred = samples.masks(tc=4, wt=8, et=2, start=1)  # the overlaps are 3, 7 and 1 voxels
    rows = score_case(pred, ref, "a", (2.0, 5.0, 1.0))
    assert [(row.case_id, row.region) for row in rows] == [("a", "WT"), ("a", "TC"), ("a", "ET")]
    assert samples.by_region(rows) == pytest.approx({"WT": 14 / 16, "TC": 6 / 8, "ET": 2 / 4})
    volumes = {"WT": 0.08, "TC": 0.04, "ET": 0.02}  # 10 mm³ per voxel
    assert samples.by_region(rows, "ref_volume_ml") == pytest.approx(volumes)


@pytest.mark.parametrize(
    ("pred", "ref", "dice"),
    [(0, 0, 1.0), (128, 0, 0.0), (0, 128, 0.0), (128, 128, 1.0)],
    ids=["both empty", "spurious", "missed", "equal"],
)
def test_empty_regions_follow_the_brats_rule(samples, pred, ref, dice):
    rows = score_case(samples.masks(et=pred), samples.masks(et=ref), "a", MM)
    assert samples.by_region(rows) == {"WT": 1.0, "TC": 1.0, "ET": dice}


def test_a_missed_region_has_the_distance_of_the_challenge(samples):
    hd95 = {}
    for name in RULES:
        rows = score_case(samples.masks(), samples.masks(et=9), "a", MM, get_rules(name))
        assert samples.by_region(rows, "hd95_mm")["WT"] == 0
        hd95[name] = samples.by_region(rows, "hd95_mm")["ET"]
    expected = {"brats2023": 374, "brats2023-men": 374, "brats2023-met": 374, "brats2020": 373.12866}
    assert hd95 == pytest.approx(expected)


def test_unknown_rules_are_refused():
    with pytest.raises(UsageError) as error:
        get_rules("brats2019", "score_rules")
    assert (error.value.subject, error.value.found) == ("score_rules", "brats2019")
    assert "brats2023" in error.value.expected


def test_sensitivity_and_specificity_are_ratios_of_voxel_counts(samples):
    row = score_case(samples.masks(wt=10, start=4), samples.masks(wt=8), "a", MM, rules=None)[0]
    assert row.sensitivity == 4 / 8
    assert row.specificity == (512 - 14) / (512 - 8)
    assert row.volume_error_ml == pytest.approx(0.002)
    assert row.hd95_mm is None and row.lesion_dice is None


def test_monai_ignores_128_false_positive_voxels_by_default_and_we_do_not(samples):
    ref, pred = samples.masks(tc=8, wt=16), samples.masks(tc=8, wt=16, et=128)
    theirs = DiceMetric(include_background=True)
    theirs(pred[None].float(), ref[None].float())
    assert theirs.aggregate().item() == 1.0  # MONAI issue 7504
    assert samples.by_region(score_case(pred, ref, "a", MM)) == {"WT": 1.0, "TC": 1.0, "ET": 0.0}


@given(
    array_shapes(min_dims=3, max_dims=3, max_side=3).flatmap(
        lambda s: st.tuples(arrays(np.bool_, (3, *s)), arrays(np.bool_, (3, *s)))
    )
)
def test_dice_equals_the_formula_on_sets_of_voxels(pair):
    pred, ref = pair
    rows = score_case(torch.from_numpy(pred), torch.from_numpy(ref), "a", MM, rules=None)
    for row in rows:
        channel = REGIONS.index(row.region)
        a, b = set(np.flatnonzero(pred[channel])), set(np.flatnonzero(ref[channel]))
        assert row.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)) if a | b else 1.0)


@pytest.mark.parametrize(
    ("pred", "ref"), [((3, 2, 2, 2), (3, 2, 2, 1)), ((3, 4, 4), (3, 4, 4)), ((2, 4, 4, 4), (2, 4, 4, 4))]
)
def test_wrong_shapes_are_refused(pred, ref):
    with pytest.raises(DataError) as error:
        score_case(torch.zeros(pred), torch.zeros(ref), "case_7", MM)
    assert (error.value.subject, error.value.found) == ("case_7", (pred, ref))


def test_probabilities_are_refused(samples):
    with pytest.raises(DataError) as error:
        score_case(samples.masks(et=8) * 0.3, samples.masks(et=8), "a", MM)
    assert error.value.subject == "a" and "threshold" in error.value.advice

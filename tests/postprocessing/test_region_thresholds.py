"""Probabilities become regions by one threshold, or by one for each region."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from brats3d.errors import UsageError
from brats3d.labels import REGIONS
from brats3d.postprocessing import ThresholdRegionsd

PROBS = torch.tensor([0.25, 0.5, 0.75]).expand(3, 1, 1, 3)


def test_one_threshold_holds_for_all_regions_as_in_monai():
    probs = MetaTensor(torch.rand(3, 4, 5, 6), affine=np.diag([1, 2, 3, 1]))
    probs[:, 0, 0, 0] = 0.4
    expected = AsDiscreted("pred", threshold=0.4)({"pred": probs})["pred"]
    found = ThresholdRegionsd("pred", 0.4)({"pred": probs})["pred"]
    assert torch.equal(found, expected) and found.dtype == expected.dtype == torch.float32
    assert torch.equal(found.affine, probs.affine)


def test_each_region_has_its_threshold_whatever_the_order_of_the_mapping():
    found = ThresholdRegionsd("pred", {"WT": 0.5, "ET": 0.8, "TC": 0.2})({"pred": PROBS})["pred"]
    expected = {"TC": [1, 1, 1], "WT": [0, 1, 1], "ET": [0, 0, 0]}
    assert found[:, 0, 0].tolist() == [expected[region] for region in REGIONS]


def test_missing_keys_may_be_skipped():
    assert set(ThresholdRegionsd(["pred", "none"], allow_missing_keys=True)({"pred": PROBS})) == {"pred"}


@pytest.mark.parametrize(
    "threshold", [0, 1, True, "0.5", None, [0.5, 0.5, 0.5], {"WT": 0.5}, {"TC": 0.5, "WT": 0.5, "ET": 2}]
)
def test_other_thresholds_are_refused(threshold):
    with pytest.raises(UsageError) as caught:
        ThresholdRegionsd("pred", threshold)
    assert caught.value.subject == "threshold" and "each of TC, WT, ET" in caught.value.expected

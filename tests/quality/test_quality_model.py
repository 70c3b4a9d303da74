from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from brats3d.errors import DataError
from brats3d.quality import QualityModel, RegionQuality, calibrate, describe_case, fit_quality, review_reason
from brats3d.quality.fitting_case import FittingCase


@pytest.fixture(scope="module")
def content(many_cases: list[FittingCase]) -> dict[str, Any]:
    return fit_quality(many_cases)


def test_a_case_gets_a_dice_and_an_interval_of_each_region(content: dict[str, Any]) -> None:
    probabilities = np.zeros((3, 30, 30, 30), np.float16)
    probabilities[:, 5:20, 5:20, 5:20] = 0.9
    found = QualityModel.from_json(content, "card").predict(probabilities, probabilities > 0.5)
    assert list(found) == ["WT", "TC", "ET"]
    for quality in found.values():
        low, high = quality.volume_interval_ml
        assert 0 <= quality.predicted_dice <= 1
        assert 0 <= low < high
    wt, tc, et = (quality.volume_interval_ml[1] for quality in found.values())
    assert wt >= tc >= et


def test_calibration_moves_probabilities_and_keeps_zeros(content: dict[str, Any]) -> None:
    probabilities = np.array([0, 0.2, 0.5, 0.8], np.float16).reshape(1, 4, 1, 1).repeat(3, axis=0)
    found = calibrate(probabilities, {"quality": content})
    assert found.dtype == np.float32
    # a temperature of 2: the odds of 4 become 2
    assert found[1].ravel() == pytest.approx([0, 1 / 3, 0.5, 2 / 3], abs=0.01)


def test_weights_without_a_calibration_are_refused() -> None:
    with pytest.raises(DataError) as error:
        calibrate(np.zeros((3, 1, 1, 1)), {})
    assert error.value.subject == "quality"


@pytest.mark.parametrize("path", [("features",), ("calibration", "WT"), ("dice", "ET"), ("volume", "TC", "factors")])
@pytest.mark.parametrize("value", [None, [], -1, "x"])
def test_damaged_content_is_refused(content: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    damaged = copy.deepcopy(content)
    inner = damaged
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(DataError) as error:
        QualityModel.from_json(damaged, "a/card.json")
    assert error.value.subject == "a/card.json"


@pytest.mark.parametrize(("dice", "expected"), [(0.75, ""), (0.4, "the predicted Dice of WT, 0.40, is below 0.7")])
def test_a_low_dice_of_the_whole_tumour_is_a_reason_for_review(dice: float, expected: str) -> None:
    regions = {"WT": RegionQuality(dice, (1, 2)), "ET": RegionQuality(0, (0, 0))}
    assert review_reason(regions) == expected


def test_a_description_compares_with_the_reference() -> None:
    reference = np.zeros((3, 20, 20, 20), bool)
    reference[:2, 5:15, 5:15, 5:15] = True  # TC and WT; no ET
    regions = np.roll(reference, 5, axis=1)
    case = describe_case("patient", regions * 0.8, regions, reference, (1, 1, 2))
    assert case.dice.tolist() == [0.5, 0.5, 1]
    assert case.volume_ml.tolist() == case.reference_ml.tolist() == [2, 2, 0]
    assert case.border[1, 1].sum() > 0
    assert case.border[2].sum() == 0


def test_volumes_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError) as error:
        describe_case("patient", np.zeros((3, 4, 4, 4)), np.zeros((3, 4, 4, 4)), np.zeros((3, 4, 4, 5)), (1, 1, 1))
    assert error.value.subject == "patient"

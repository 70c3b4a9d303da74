from __future__ import annotations

import numpy as np
import pytest

from brats3d.quality import FEATURES, case_features


def cube(probability: float, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and regions of a cube of 10 ml in a volume of 40 voxels along each axis, for all regions."""
    probabilities = np.full((3, 40, 40, 40), low, np.float32)
    probabilities[:, 5:25, 5:25, 5:30] = probability
    return probabilities, probabilities > 0.5


def named(probabilities: np.ndarray, regions: np.ndarray, voxel_ml: float = 0.001) -> dict[str, float]:
    """Return the features of WT by name."""
    return dict(zip(FEATURES, case_features(probabilities, regions, voxel_ml)[1], strict=True))


def test_features_of_a_cube_are_those_worked_out_by_hand() -> None:
    found = named(*cube(0.9))
    assert found["log_volume"] == pytest.approx(1, abs=0.01)  # 10 ml
    for name in ("mean_logit", "largest_logit"):
        assert found[name] == pytest.approx(np.log(9), abs=1e-5)
    assert found["expected_dice_1"] == pytest.approx(2 * 0.9 / 1.9, abs=1e-3)
    assert found["entropy"] == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=1e-3)
    assert found["volume_above_2"] == pytest.approx(0)
    assert found["volume_above_3"] == pytest.approx(np.log(0.02 / 10.02))
    assert (found["components"], found["largest_component"]) == (0, 1)
    surface = 20 * 20 * 25 - 18 * 18 * 23
    assert found["surface"] == pytest.approx(np.log(surface / 10_000 ** (2 / 3)))
    assert found["tc_in_wt"] == found["et_in_tc"] == 1


def test_a_less_certain_segmentation_has_a_lower_expected_dice() -> None:
    assert named(*cube(0.95))["expected_dice_1"] > named(*cube(0.7))["expected_dice_1"]


def test_features_depend_on_volume_and_not_on_voxel_count_or_orientation() -> None:
    probabilities, regions = cube(0.9)
    fine = [np.repeat(array, 2, axis=1) for array in (probabilities, regions)]
    shape = {"surface"}  # measured in voxels
    coarse, finer = named(probabilities, regions, 0.002), named(*fine, 0.001)
    assert {k: v for k, v in coarse.items() if k not in shape} == pytest.approx(
        {k: v for k, v in finer.items() if k not in shape}, abs=1e-4
    )
    turned = named(probabilities.transpose(0, 3, 1, 2)[:, ::-1], regions.transpose(0, 3, 1, 2)[:, ::-1])
    assert turned == pytest.approx(named(probabilities, regions))


def test_float16_and_unlikely_voxels_far_away_change_nothing() -> None:
    probabilities, regions = cube(0.9)
    expected = case_features(probabilities, regions)
    probabilities[:, 38:] = 0.1
    assert case_features(probabilities.astype(np.float16), regions) == pytest.approx(expected, abs=2e-3)


def test_an_empty_case_has_finite_features() -> None:
    empty = np.zeros((3, 8, 8, 8))
    assert np.isfinite(case_features(empty, empty)).all()

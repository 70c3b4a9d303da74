from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from brats3d.errors import DataError
from brats3d.labels import REGIONS
from brats3d.quality import QualityModel, calibrate, fit_quality, predict_out_of_fold
from brats3d.quality.fitting_case import FittingCase
from tests.quality.conftest import fitting_cases


def test_the_fit_predicts_the_dice_and_the_volumes_of_new_cases(many_cases: list[FittingCase]) -> None:
    content = json.loads(json.dumps(fit_quality(many_cases)))
    model = QualityModel.from_json(content, "card")
    new = fitting_cases(100, seed=1)
    features = np.stack([case.features for case in new])
    for channel, region in enumerate(REGIONS):
        dice = np.array([case.dice[channel] for case in new])
        assert np.abs(model.dice[region].predict(features[:, channel]) - dice).mean() < 0.08
        volumes, references = (
            np.array([getattr(case, name)[channel] for case in new]) for name in ("volume_ml", "reference_ml")
        )
        low, high = model.volume[region].interval(features[:, channel], volumes).T
        assert 0.8 < np.mean((low <= references) & (references <= high)) <= 1
        assert model.calibration[region].temperature == pytest.approx(2, abs=0.05)


def test_few_patients_give_a_temperature_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        content = fit_quality(fitting_cases(5))
    assert "5 patients" in caplog.text
    model = QualityModel.from_json(content, "card")
    assert not model.dice and not model.volume
    assert model.predict(np.zeros((3, 4, 4, 4)), np.zeros((3, 4, 4, 4))) == {}
    assert model.calibration["WT"].temperature == pytest.approx(2, abs=0.05)
    assert model.calibration["WT"].shift == 0
    assert calibrate(np.full((3, 1, 1, 1), 0.9), {"quality": content})[1].item() == pytest.approx(0.75, abs=0.01)


def test_many_scans_of_few_patients_are_few_cases() -> None:
    cases = [FittingCase("one patient", *list(vars(case).values())[1:]) for case in fitting_cases(30)]
    assert not fit_quality(cases)["dice"]


def test_no_case_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        fit_quality([])
    assert error.value.subject == "cases"


def test_out_of_fold_predictions_are_near_the_truth_and_never_saw_the_case() -> None:
    cases = fitting_cases(30)
    found = predict_out_of_fold(cases)
    errors = [abs(each["WT"].predicted_dice - case.dice[1]) for each, case in zip(found, cases, strict=True)]
    assert np.mean(errors) < 0.15  # 0.18 for the mean
    changed = [*cases[:-1], replace(cases[-1], dice=np.zeros(3))]
    assert predict_out_of_fold(changed)[-1] == found[-1]


def test_few_patients_are_not_predicted_out_of_fold() -> None:
    assert predict_out_of_fold(fitting_cases(5)) == []

"""Post-processing and quality model of the ensemble, from out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.bundle import default_postprocessing
from brats3d.cases import load_folds
from brats3d.crossval import CrossValidation
from brats3d.crossval.check import Checked
from brats3d.crossval.out_of_fold import choose_for_ensemble, fitting_cases, out_of_fold_cases
from brats3d.data import labels_to_regions
from brats3d.evaluation import write_probabilities
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ
from brats3d.postprocessing import OutOfFoldCase, PostprocessingChoice, PostprocessingValues, RegionRules
from brats3d.quality import QualityModel, fit_quality

NO_RULES = PostprocessingValues((0.5,) * len(REGIONS), RegionRules())
NOTHING_LEFT = PostprocessingValues((0.5,) * len(REGIONS), RegionRules(min_wt_ml=100))


@pytest.fixture
def cases(make_dataset: Callable[..., Path], tmp_path: Path) -> dict[OutOfFoldCase, str]:
    """Three cases in three folds, each with the probabilities .9 within its reference and .2 outside."""
    folds = load_folds(make_dataset(3))
    crossval = CrossValidation(tmp_path / "out", {})
    for fold, (case,) in enumerate(folds):
        label = torch.from_numpy(np.asarray(nib.load(str(case.label)).dataobj, np.uint8))
        probabilities = np.where(labels_to_regions(label[None], BRATS2020).numpy() > 0, 0.9, 0.2)
        write_probabilities(crossval.folder(fold) / "probabilities" / f"{case.case_id}.npz", probabilities)
    return out_of_fold_cases(crossval, Checked(folds, "", {}))


def test_each_case_has_its_fold_patient_and_files(cases: dict[OutOfFoldCase, str]) -> None:
    assert [case.fold for case in cases] == [0, 1, 2] and len(set(cases.values())) == 3
    assert all(case.probabilities.is_file() and case.reference.is_file() for case in cases)
    assert {case.convention for case in cases} == {"brats2020"}


def test_predictions_without_mistakes_keep_the_default(cases: dict[OutOfFoldCase, str]) -> None:
    choice = choose_for_ensemble(cases, {"threshold": 0.5, "score_rules": "brats2023"})
    assert choice.values == choice.default and choice.cases == 3
    assert all(choice.scores["none"][region].dice == 1 for region in REGIONS_TO_READ)


def test_the_choice_starts_from_the_threshold_of_the_trainings(cases: dict[OutOfFoldCase, str]) -> None:
    threshold = {"TC": 0.4, "WT": 0.6, "ET": 0.3}
    choice = choose_for_ensemble(cases, {"threshold": threshold, "score_rules": "brats2023"})
    assert choice.default.thresholds == choice.values.thresholds == (0.4, 0.6, 0.3)
    assert choice.default.rules == default_postprocessing().rules


def test_the_quality_is_fitted_to_regions_with_the_values_of_the_other_folds(
    cases: dict[OutOfFoldCase, str],
) -> None:
    by_fold = {0: NO_RULES, 1: NOTHING_LEFT, 2: NO_RULES}
    fitted = fitting_cases(cases, PostprocessingChoice(NO_RULES, NO_RULES, by_fold, 3, scores={}))
    assert list(fitted) == [case.case_id for case in cases]
    assert [each.group for each in fitted.values()] == list(cases.values())
    np.testing.assert_allclose([each.dice for each in fitted.values()], [[1] * 3, [0] * 3, [1] * 3])


def test_the_fitted_model_can_be_read_from_a_card(cases: dict[OutOfFoldCase, str]) -> None:
    choice = PostprocessingChoice(NO_RULES, NO_RULES, dict.fromkeys(range(3), NO_RULES), 3, {})
    content = fit_quality(list(fitting_cases(cases, choice).values()))
    assert QualityModel.from_json(content, "card").cases == 3

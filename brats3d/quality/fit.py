"""Fit the quality model of weights on segmented cases with references that the weights were not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.labels import REGIONS
from brats3d.quality.additive_model import fit_additive
from brats3d.quality.calibration import fit_calibration
from brats3d.quality.fitting_case import FittingCase
from brats3d.quality.quality_model import QualityModel, RegionQuality
from brats3d.quality.volume_model import fit_volume, patient_folds

logger = logging.getLogger("brats3d")

MIN_CASES = 20
"""With fewer cases only a temperature is fitted: nine of ten conformal intervals of 19 cases would be unbounded."""


def fit_quality(cases: Sequence[FittingCase]) -> dict[str, Any]:
    """Fit the prediction of Dice and volume, and the calibration.

    Args:
        cases: see :func:`brats3d.quality.describe_case`. With fewer than :data:`MIN_CASES` patients, only
            the temperatures are fitted.

    Returns:
        The content of a card's ``quality``: plain JSON values, see :class:`brats3d.quality.QualityModel`.

    Raises:
        DataError: if there is no case.
    """
    if not cases:
        raise DataError("cases", expected="at least one case", found=0)
    groups = [case.group for case in cases]
    enough = len(set(groups)) >= MIN_CASES
    if not enough:
        text = "Dice and volumes cannot be predicted from %d patients (%d are needed); only a temperature was fitted"
        logger.warning(text, len(set(groups)), MIN_CASES)
    return _fit(cases, enough).to_json()


def predict_out_of_fold(cases: Sequence[FittingCase]) -> list[dict[str, RegionQuality]]:
    """Predict the quality of each case with a model that was fitted without its patient.

    Args:
        cases: as for :func:`fit_quality`.

    Returns:
        region -> predicted quality of each case; none at all with fewer than :data:`MIN_CASES` patients.
    """
    groups = [case.group for case in cases]
    if len(set(groups)) < MIN_CASES:
        return []
    found: dict[int, dict[str, RegionQuality]] = {}
    for fitted, left_out in patient_folds(groups):
        model = _fit([cases[i] for i in fitted], with_models=True)
        found |= {i: model.predict_features(cases[i].features, cases[i].volume_ml) for i in left_out}
    return [found[i] for i in range(len(cases))]


def _fit(cases: Sequence[FittingCase], with_models: bool) -> QualityModel:
    features, dice, volumes, references = (
        np.stack([getattr(case, name) for case in cases]) for name in ("features", "dice", "volume_ml", "reference_ml")
    )
    border, groups = np.sum([case.border for case in cases], axis=0), [case.group for case in cases]
    channels = dict(enumerate(REGIONS))
    modelled = channels if with_models else {}
    return QualityModel(
        cases=len(cases),
        calibration={region: fit_calibration(border[i], with_shift=with_models) for i, region in channels.items()},
        dice={region: fit_additive(features[:, i], dice[:, i]) for i, region in modelled.items()},
        volume={
            region: fit_volume(features[:, i], volumes[:, i], references[:, i], groups)
            for i, region in modelled.items()
        },
    )

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
from brats3d.quality.quality_model import QualityModel
from brats3d.quality.volume_model import fit_volume

logger = logging.getLogger("brats3d")

MIN_CASES = 20
"""With fewer cases only a temperature is fitted: nine of ten conformal intervals of 19 cases would be unbounded."""


def fit_quality(cases: Sequence[FittingCase]) -> dict[str, Any]:
    """Fit the prediction of Dice and volume, and the calibration.

    Args:
        cases: see :func:`brats3d.quality.describe_case`. With less than :data:`MIN_CASES` patients, the temperatures
            alone are fitted.

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
    features, dice, volumes, references = (
        np.stack([getattr(case, name) for case in cases]) for name in ("features", "dice", "volume_ml", "reference_ml")
    )
    border = np.sum([case.border for case in cases], axis=0)
    channels = list(enumerate(REGIONS))
    model = QualityModel(
        cases=len(cases),
        calibration={region: fit_calibration(border[i], with_shift=enough) for i, region in channels},
        dice={region: fit_additive(features[:, i], dice[:, i]) for i, region in channels if enough},
        volume={
            region: fit_volume(features[:, i], volumes[:, i], references[:, i], groups)
            for i, region in channels
            if enough
        },
    )
    return model.to_json()

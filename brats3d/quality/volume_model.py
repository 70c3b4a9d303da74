"""Intervals that contain the true volume of a region in nine of ten cases, by conformal prediction.

The cube root of the volume is predicted, which grows as the radius and is not extreme for regions that are almost or
entirely missed: how far that of the reference lies from that of the segmentation, and the size of the error of this
prediction. Errors out of fold, divided by their predicted size, give the factors for the wanted coverage on each side
(J. Lei et al., Distribution-Free Predictive Inference for Regression, JASA 113, 2018, section 5.2). The coverage holds
for cases like those of the fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats3d.quality.additive_model import AdditiveModel, fit_additive

COVERAGE = 0.9
FOLDS = 10
_LEAST_SPREAD = 0.02  # in cube roots of ml


@dataclass(frozen=True, eq=False)
class VolumeModel:
    """Predicts an interval for the volume of a region.

    Args:
        shift: predicts the cube root of the true volume minus that of the predicted volume, in ml.
        spread: predicts the size of its error.
        factors: the interval's extent below and above the shifted volume, in units of the spread.
    """

    shift: AdditiveModel
    spread: AdditiveModel
    factors: tuple[float, float]

    def interval(self, features: np.ndarray, volume_ml: np.ndarray) -> np.ndarray:
        """Return lower and upper limits in ml, shape (cases, 2).

        Args:
            features: shape (cases, features).
            volume_ml: predicted volumes, shape (cases,).
        """
        middle = np.cbrt(volume_ml) + self.shift.predict(features)
        spread = np.maximum(self.spread.predict(features), _LEAST_SPREAD)
        below, above = self.factors
        limits = np.stack([middle - below * spread, middle + above * spread], axis=1)
        return np.maximum(limits, 0) ** 3

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        factors = [round(factor, 4) for factor in self.factors]
        return {"shift": self.shift.to_json(), "spread": self.spread.to_json(), "factors": factors}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], features: int) -> VolumeModel:
        """Return the model that :meth:`to_json` described.

        Raises:
            ValueError, TypeError, KeyError: if a number is missing or outside its range.
        """
        shift, spread = (AdditiveModel.from_json(content[name], features) for name in ("shift", "spread"))
        below, above = map(float, content["factors"])
        if not (np.isfinite([below, above]).all() and -below < above):
            raise ValueError(f"expected two factors of an interval, got {below} and {above}")
        return cls(shift, spread, (below, above))


def fit_volume(
    features: np.ndarray, volume_ml: np.ndarray, reference_ml: np.ndarray, groups: Sequence[str]
) -> VolumeModel:
    """Fit the intervals of a region.

    Args:
        features: shape (cases, features).
        volume_ml: predicted volumes, shape (cases,).
        reference_ml: true volumes, shape (cases,).
        groups: the patient of each case.
    """
    shifts = np.cbrt(reference_ml) - np.cbrt(volume_ml)
    errors = shifts - out_of_fold(features, shifts, groups)
    spread = np.maximum(out_of_fold(features, np.abs(errors), groups), _LEAST_SPREAD)
    relative = errors / spread
    level = min((1 + 1 / len(errors)) * (1 + COVERAGE) / 2, 1)
    below, above = (float(np.quantile(each, level, method="higher")) for each in (-relative, relative))
    return VolumeModel(fit_additive(features, shifts), fit_additive(features, np.abs(errors)), (below, above))


def out_of_fold(features: np.ndarray, target: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return the predictions of a cross-validation, shape (cases,)."""
    predicted = np.empty(len(target))
    for fitted, left_out in patient_folds(groups):
        predicted[left_out] = fit_additive(features[fitted], target[fitted]).predict(features[left_out])
    return predicted


def patient_folds(groups: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the indices of the cases to fit and of those to leave out, for each fold; no patient is on both sides."""
    from sklearn.model_selection import GroupKFold

    return GroupKFold(min(FOLDS, len(set(groups)))).split(groups, groups=groups)

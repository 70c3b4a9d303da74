"""A regression whose prediction is a sum over features of piecewise linear functions; plain numbers, readable as JSON.

Beyond the smallest and the largest value that a feature had in the fit, its function is constant, so that an unusual
case gets no extreme prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

KNOTS = (0.0, 0.5, 1.0)
"""Quantiles of a feature at which the slope of its function may change. More knots predicted no better."""

PENALTY = 0.03
"""``C`` of scikit-learn's ``LinearSVR``. The penalty matters less the more cases there are."""

TOLERANCE = 0.02
"""Errors up to this do not count in the fit."""


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """Predicts ``offset`` plus, for each feature, its function at the feature's value.

    Args:
        offset: a number.
        knots: increasing values of each feature, shape (features, knots).
        values: what each feature adds there, same shape; linear in between.
    """

    offset: float
    knots: np.ndarray
    values: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the predictions, shape (cases,), for features of shape (cases, features)."""
        functions = zip(features.T, self.knots, self.values, strict=True)
        return self.offset + sum(np.interp(*each) for each in functions)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers with five digits."""
        content = {"offset": self.offset, "knots": self.knots.tolist(), "values": self.values.tolist()}
        return {name: _rounded(value) for name, value in content.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], features: int) -> AdditiveModel:
        """Return the model that :meth:`to_json` described.

        Raises:
            ValueError, TypeError, KeyError: if a number is missing or not finite, or the shapes do not fit.
        """
        knots, values = (np.array(content[name], np.float64) for name in ("knots", "values"))
        offset = float(content["offset"])
        if knots.ndim != 2 or knots.shape != values.shape or len(knots) != features:
            raise ValueError(f"expected knots and values of {features} features, got {knots.shape} and {values.shape}")
        if not (np.isfinite(knots).all() and np.isfinite(values).all() and np.isfinite(offset)):
            raise ValueError("expected finite numbers")
        return cls(offset, knots, values)


def fit_additive(features: np.ndarray, target: np.ndarray) -> AdditiveModel:
    """Fit a model with the absolute error as loss and a penalty on the square of all values (a linear SVR).

    Args:
        features: shape (cases, features).
        target: shape (cases,).
    """
    from sklearn.svm import LinearSVR

    knots = np.quantile(features, KNOTS, axis=0).T
    basis = [np.interp(x, at, one) for x, at in zip(features.T, knots, strict=True) for one in np.eye(len(KNOTS))]
    model = LinearSVR(C=PENALTY, epsilon=TOLERANCE, max_iter=20_000, random_state=0)
    model.fit(np.array(basis).T, target)
    return AdditiveModel(float(model.intercept_.item()), knots, model.coef_.reshape(knots.shape))


def _rounded(value: Any) -> Any:
    return [_rounded(each) for each in value] if isinstance(value, list) else float(f"{value:.5g}")

from __future__ import annotations

import numpy as np
import pytest

from brats3d.quality.additive_model import AdditiveModel, fit_additive


def test_a_prediction_is_the_sum_of_piecewise_linear_functions() -> None:
    model = AdditiveModel(1.0, np.array([[0.0, 1, 2], [0, 5, 10]]), np.array([[0.0, 10, 0], [0, 0, 1]]))
    found = model.predict(np.array([[0.5, 0], [1.5, 7.5], [99, 99]]))
    assert found.tolist() == [6, 6.5, 2]  # 1 + 5, 1 + 5 + 0.5, and constant beyond the knots: 1 + 0 + 1


def test_a_curved_relation_is_found_in_spite_of_outliers() -> None:
    x = np.linspace(-1, 1, 200)
    y = np.abs(x)
    y[::20] += 5
    model = fit_additive(x[:, None], y)
    assert model.predict(np.array([[-1.0], [0], [1]])) == pytest.approx([1, 0, 1], abs=0.1)


def test_a_constant_feature_is_harmless() -> None:
    assert np.isfinite(fit_additive(np.ones((30, 2)), np.arange(30.0)).predict(np.zeros((1, 2)))).all()


def test_few_cases_are_shrunk_towards_their_middle() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 20)), generator.uniform(0, 1, 6)
    assert np.abs(fit_additive(x, y).predict(generator.normal(size=(50, 20))) - np.median(y)).max() < 0.5


def test_json_keeps_the_predictions() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    model = fit_additive(x, x[:, 0])
    assert AdditiveModel.from_json(model.to_json(), 3).predict(x) == pytest.approx(model.predict(x), abs=1e-3)


@pytest.mark.parametrize("change", [{"knots": [[0, 1]]}, {"values": [[0, float("nan")]] * 3}, {"offset": None}])
def test_damaged_numbers_are_refused(change: dict) -> None:
    content = {"offset": 0, "knots": [[0, 1]] * 3, "values": [[0, 1]] * 3}
    AdditiveModel.from_json(content, 3)
    with pytest.raises((ValueError, TypeError)):
        AdditiveModel.from_json(content | change, 3)

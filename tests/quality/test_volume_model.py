from __future__ import annotations

import numpy as np

from brats3d.quality.additive_model import AdditiveModel
from brats3d.quality.volume_model import VolumeModel, fit_volume, out_of_fold


def simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, predicted and true volumes; the second feature is the size of the error."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(size=(count, 2))
    volumes = generator.uniform(10, 100, count)
    shifts = features[:, 0] + generator.normal(size=count) * (0.05 + 0.3 * features[:, 1])
    return features, volumes, np.maximum(np.cbrt(volumes) + shifts, 0) ** 3


def test_intervals_hold_nine_of_ten_new_volumes() -> None:
    features, volumes, references = simulated(300, 0)
    model = fit_volume(features, volumes, references, [str(i) for i in range(300)])
    features, volumes, references = simulated(2000, 1)
    low, high = model.interval(features, volumes).T
    assert 0.86 < np.mean((low <= references) & (references <= high)) < 0.94
    uncertain = features[:, 1] > 0.5
    relative = (high - low) / references
    assert np.median(relative[uncertain]) > 1.4 * np.median(relative[~uncertain])


def test_an_interval_is_that_worked_out_by_hand() -> None:
    def constant(value: float) -> AdditiveModel:
        return AdditiveModel(value, np.zeros((1, 1)), np.zeros((1, 1)))

    model = VolumeModel(constant(1.0), constant(0.5), factors=(2, 4))
    features = np.zeros((2, 1))
    assert model.interval(features, np.array([8.0, 0.0])).tolist() == [[8, 125], [0, 27]]
    low = VolumeModel(constant(-5.0), constant(0.5), factors=(2, 4)).interval(features, np.array([8.0, 0.0]))
    assert low.tolist() == [[0, 0], [0, 0]]  # no negative volumes


def test_cases_of_a_patient_are_never_predicted_from_each_other() -> None:
    x = np.arange(40.0)[:, None]
    groups = [str(i // 20) for i in range(40)]
    y = np.repeat([0.0, 1.0], 20)  # known exactly from the own group, and wrongly from the other
    assert ((out_of_fold(x, y, groups) > 0.5) == (y < 0.5)).all()

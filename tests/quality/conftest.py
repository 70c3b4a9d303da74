"""Cases whose predictions grow less certain as they grow worse."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.quality import FEATURES
from brats3d.quality.calibration import BINS
from brats3d.quality.fitting_case import FittingCase


def fitting_cases(count: int, seed: int = 0) -> list[FittingCase]:
    """Return cases of which one feature is the Dice, and another the difference of the cube roots of volumes."""
    generator = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        features = generator.normal(size=(3, len(FEATURES)))
        features[:, 0] = dice = generator.uniform(0.2, 0.9, 3)
        features[:, 1] = shift = generator.uniform(-0.5, 0.5, 3)
        volume_ml = generator.uniform(20, 100, 3)
        reference_ml = (np.cbrt(volume_ml) + shift + generator.normal(0, 0.05, 3)) ** 3
        inside = np.rint(1000 / (1 + np.exp(-BINS / 2))).astype(int)  # overconfident: a temperature of 2
        border = np.stack([np.stack([1000 - inside, inside])] * 3)
        cases.append(FittingCase(f"patient{number}", features, dice, volume_ml, reference_ml, border))
    return cases


@pytest.fixture(scope="session")
def many_cases() -> list[FittingCase]:
    return fitting_cases(60)

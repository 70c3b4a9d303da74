"""Random contrasts: no order of healthy tissues, and tumours that can still be told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.contrast import TISSUES, draw_contrast
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.random_contrast import MIN_DIFFERENCE
from brats3d.phantoms.random_numbers import RandomStream

ALWAYS = replace(SETTINGS["varied"], random_contrast=1)


def draw_many(low_grade: bool, cases: int = 500) -> dict[str, dict[str, np.ndarray]]:
    """Return sequence -> tissue -> brightness in each case."""
    values = [draw_contrast(RandomStream(seed, torch.device("cpu")), ALWAYS, low_grade) for seed in range(cases)]
    assert all(list(case) == list(MODALITIES) for case in values)
    return {name: dict(zip(TISSUES, np.transpose([case[name] for case in values]), strict=True)) for name in MODALITIES}


def test_healthy_tissues_come_in_every_order() -> None:
    v = draw_many(False)
    for name in ("t1", "t2", "flair"):
        order = np.argsort([v[name][tissue] for tissue in ("csf", "gm", "wm")], axis=0)
        assert len(np.unique(order, axis=1).T) == 6
    assert np.corrcoef(v["t1"]["gm"], v["t2"]["gm"])[0, 1] < 0.2


@pytest.mark.parametrize("low_grade", [False, True])
def test_tumours_differ_from_what_they_lie_in(low_grade: bool) -> None:
    v = draw_many(low_grade)
    least = MIN_DIFFERENCE - 1e-9
    for tumour in ("core", "edema"):
        for healthy in ("gm", "wm"):
            assert (v["t2"][tumour] - v["t2"][healthy] >= least).all()
            assert (v["flair"]["edema"] - v["flair"][healthy] >= least).all()
        from_fluid = [np.abs(v[name][tumour] - v[name]["csf"]) >= least for name in ("t1", "t2", "flair")]
        assert (np.sum(from_fluid, axis=0) >= 2).all()
    assert (v["t1"]["core"] <= np.minimum(v["t1"]["gm"], v["t1"]["wm"]) + 1e-9).all()
    assert all((values > 0).all() for tissues in v.values() for values in tissues.values())


def test_only_enhancing_tissue_differs_between_t1_and_t1ce() -> None:
    v = draw_many(False)
    for tissue in TISSUES:
        difference = v["t1ce"][tissue] - v["t1"][tissue]
        if tissue == "enhancing":
            assert (v["t1ce"]["enhancing"] - np.maximum(v["t1ce"]["core"], v["t1ce"]["edema"]) >= 0.1 - 1e-9).all()
            assert (difference > 0.1 - 1e-9).all()
        else:
            assert np.abs(difference).max() < 0.15


def test_the_step_is_drawn_with_its_chance_and_leaves_other_cases_alone() -> None:
    rng = lambda seed: RandomStream(seed, torch.device("cpu"))  # noqa: E731
    half, never = replace(ALWAYS, random_contrast=0.5), replace(ALWAYS, random_contrast=0)
    same = [draw_contrast(rng(seed), half, False) == draw_contrast(rng(seed), never, False) for seed in range(200)]
    assert 0.4 < np.mean(same) < 0.6

"""Contrasts from relaxation physics: the signal equations, and the order that they give each sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.contrast import TISSUES, draw_contrast
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.relaxation import Tissues, draw_relaxation_contrast, spin_echo, spoiled_gradient_echo

ONE = Tissues(np.array([1000.0]), np.array([100.0]), np.array([0.8]))


def draw_many(cases: int = 500) -> dict[str, dict[str, np.ndarray]]:
    """Return sequence -> tissue -> brightness in each case."""
    values = [draw_relaxation_contrast(RandomStream(seed, torch.device("cpu"))) for seed in range(cases)]
    assert all(list(case) == list(MODALITIES) for case in values)
    return {name: dict(zip(TISSUES, np.transpose([case[name] for case in values]), strict=True)) for name in MODALITIES}


def test_a_spin_echo_recovers_with_t1_and_decays_with_t2() -> None:
    assert spin_echo(ONE, tr=1000, te=100)[0] == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))
    assert spin_echo(ONE, tr=1e6, te=0)[0] == pytest.approx(0.8)


def test_an_inversion_suppresses_tissue_at_its_null() -> None:
    null = 1000 * np.log(2)
    assert spin_echo(ONE, tr=1e6, te=10, ti=null)[0] == pytest.approx(0, abs=1e-9)
    assert spin_echo(ONE, tr=1e6, te=0, ti=0)[0] == pytest.approx(0.8)  # the magnitude of the inverted signal


def test_a_gradient_echo_is_strongest_at_the_ernst_angle() -> None:
    ernst = np.rad2deg(np.arccos(np.exp(-20 / 1000)))
    best, *others = (spoiled_gradient_echo(ONE, 20, 0, angle)[0] for angle in (ernst, ernst - 3, ernst + 3, 90))
    assert best > max(others)
    assert others[-1] == pytest.approx(0.8 * (1 - np.exp(-20 / 1000)))


def test_every_sequence_has_its_order_and_shows_the_tumour() -> None:
    v = draw_many()
    for name in ("t1", "t1ce"):
        assert (v[name]["csf"] < v[name]["gm"]).all()
        assert (v[name]["gm"] < v[name]["wm"]).all()
    assert (v["t2"]["wm"] < v["t2"]["gm"]).all()
    assert (v["t2"]["gm"] < v["t2"]["csf"]).all()
    assert (v["flair"]["csf"] < v["flair"]["wm"]).mean() > 0.9
    for healthy in ("gm", "wm"):
        assert (v["t2"]["core"] - v["t2"][healthy] > 0.079).all()
        assert (v["flair"]["edema"] - v["flair"][healthy] > 0.079).all()
    assert (v["t1ce"]["enhancing"] > v["t1ce"]["core"]).all()
    assert (v["t1ce"]["enhancing"] > v["t1ce"]["wm"]).mean() > 0.8
    for name in MODALITIES:
        middle = (v[name]["gm"] + v[name]["wm"]) / 2
        assert ((middle > 0.4 - 1e-9) & (middle < 0.7 + 1e-9)).all()


def test_sequences_are_correlated_as_independent_draws_are_not() -> None:
    """Tissue of long T1 usually has a long T2: edema that is darker in T1 is brighter in T2 and FLAIR."""
    v = draw_many()
    t2, flair = (v[name]["edema"] / v[name]["wm"] for name in ("t2", "flair"))
    assert np.corrcoef(t2, flair)[0, 1] > 0.6


def test_the_step_is_drawn_with_its_chance_and_before_random_contrasts() -> None:
    rng = lambda seed: RandomStream(seed, torch.device("cpu"))  # noqa: E731
    both = replace(SETTINGS["varied"], relaxation=0.5, random_contrast=1)
    neither = replace(both, relaxation=0, random_contrast=0)
    assert all(draw_contrast(rng(seed), both, False) != draw_contrast(rng(seed), neither, False) for seed in range(20))
    first, second = (
        [draw_contrast(rng(seed), setting, False) for seed in range(100)]
        for setting in (both, replace(both, random_contrast=0))
    )
    assert 0.3 < np.mean([a == b for a, b in zip(first, second, strict=True)]) < 0.7

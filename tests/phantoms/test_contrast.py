"""The brightness of tissues: each sequence keeps its order in every draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.contrast import TISSUES, draw_contrast
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Contrasts, Setting


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def brightness(seed: int, setting: str, low_grade: bool = False) -> dict[str, dict[str, float]]:
    values = draw_contrast(stream(seed), SETTINGS[setting], low_grade)
    assert list(values) == list(MODALITIES)
    return {name: dict(zip(TISSUES, column, strict=True)) for name, column in values.items()}


def test_t1ce_repeats_t1_in_tissue_without_contrast_agent():
    for seed in range(20):
        values = draw_contrast(stream(seed), replace(Setting(), contrasts=replace(Contrasts(), t1ce_shift=0)), False)
        same = [i for i, name in enumerate(TISSUES) if name != "enhancing"]
        assert [values["t1ce"][i] for i in same] == [values["t1"][i] for i in same]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s != "wide"])  # which breaks the order in some cases
@pytest.mark.parametrize("low_grade", [False, True])
def test_every_order_holds_in_thousands_of_draws(setting, low_grade):
    values = [draw_contrast(stream(seed), SETTINGS[setting], low_grade) for seed in range(1500)]
    v = {name: dict(zip(TISSUES, np.transpose([case[name] for case in values]), strict=True)) for name in MODALITIES}
    for name in ("t1", "t1ce"):
        assert (v[name]["csf"] < v[name]["gm"]).all()
        assert (v[name]["gm"] < v[name]["wm"]).all()
    assert (v["t2"]["wm"] < v["t2"]["gm"]).all()
    assert (v["t2"]["gm"] < v["t2"]["csf"]).all()
    assert (v["flair"]["csf"] < v["flair"]["wm"]).all()
    assert (v["flair"]["wm"] <= v["flair"]["gm"]).all()
    for tissue in ("csf", "gm", "wm", "core"):
        assert (v["t1ce"]["enhancing"] > v["t1ce"][tissue]).all()
    for name in ("t2", "flair"):
        assert (v[name]["edema"] > v[name]["gm"]).all()
    assert (v["t2"]["core"] > v["t2"]["gm"]).all()
    assert (v["t1"]["blood"] >= v["t1"]["wm"]).all()
    assert (v["t1"]["cyst"] < v["t1"]["csf"] + 0.13).all()
    assert (v["t2"]["cyst"] > 0.8 * v["t2"]["csf"]).all()


def test_another_t1ce_is_drawn_from_the_ranges_of_t1_and_changes_no_other_sequence():
    far = 0
    for seed in range(200):
        same, other = (
            draw_contrast(stream(seed), replace(Setting(), contrasts=replace(Contrasts(), t1ce_other=chance)), False)
            for chance in (0, 1)
        )
        assert all(same[name] == other[name] for name in ("t1", "t2", "flair"))
        v, k = dict(zip(TISSUES, other["t1ce"], strict=True)), Contrasts()
        assert k.t1_csf[0] <= v["csf"] <= k.t1_csf[1]
        assert k.t1_gm[0] <= v["gm"] <= k.t1_gm[1]
        assert k.t1_wm[0] <= v["wm"] - v["gm"] <= k.t1_wm[1] + 1e-9
        darker_in_t1, darker = other["t1"][1] - other["t1"][3], v["gm"] - v["core"]
        assert 0.6 * darker_in_t1 <= darker + 1e-9 <= 1.5 * darker_in_t1 + 2e-9
        assert v["enhancing"] > max(v["gm"], v["wm"])
        far += abs(v["gm"] - other["t1"][1]) > 3 * k.t1ce_shift
    assert far > 30


def test_low_grade_cores_are_mostly_darker_in_t1_and_brighter_in_t2_than_edema():
    darker, brighter = [], []
    for seed in range(200):
        v = brightness(seed, "varied", low_grade=True)
        darker.append(v["t1"]["core"] < v["t1"]["edema"])
        brighter.append(v["t2"]["core"] > v["t2"]["edema"])
    assert np.mean(darker) > 0.8
    assert np.mean(brighter) > 0.75


def test_weak_uptake_lies_above_the_core_and_often_below_white_matter():
    setting = replace(Setting(), contrasts=Contrasts(weak_uptake=1))
    below = 0
    for seed in range(200):
        t1ce, strong = (draw_contrast(stream(seed), s, False)["t1ce"] for s in (setting, Setting()))
        assert t1ce[:5] == strong[:5]
        assert t1ce[3] + 0.1 <= t1ce[5] <= min(t1ce[3] + 0.4, strong[5])
        below += t1ce[5] < t1ce[2]
    assert below > 50

"""Atrophy: ventricles and sulci grow together."""

from __future__ import annotations

import numpy as np
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.atrophy import draw_atrophy
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


def draw(seed: int, setting: Setting) -> Setting:
    return draw_atrophy(RandomStream(seed, torch.device("cpu")), setting)


def test_wider_ventricles_come_with_wider_sulci():
    drawn = [draw(seed, Setting(atrophic=1)) for seed in range(30)]
    ventricle_mm, csf_weight, gyri = (
        np.array([getattr(s, name)[0] for s in drawn]) for name in ("ventricle_mm", "csf_weight", "gyri")
    )
    assert 3 <= ventricle_mm.min() < 5
    assert 10 < ventricle_mm.max() <= 12
    order = ventricle_mm.argsort()
    assert (np.diff(csf_weight[order]) > 0).all()
    assert (np.diff(gyri[order]) > 0).all()
    assert all(s.ventricle_mm[0] == s.ventricle_mm[1] for s in drawn)


def test_other_heads_keep_the_setting():
    some = Setting(atrophic=0.25)
    assert 3 < sum(draw(seed, some) is not some for seed in range(40)) < 18
    assert draw(0, Setting()) == Setting()


def test_an_atrophic_head_has_more_fluid_in_the_same_brain(still_case):
    t2 = MODALITIES.index("t2")
    for seed in range(3):
        off, on = still_case(seed, ventricle_level=(0.4, 0.4)), still_case(seed, ventricle_level=(0.4, 0.4), atrophic=1)
        assert torch.equal(off.image != 0, on.image != 0)
        healthy = (off.image[t2] != 0) & (off.label == 0) & (on.label == 0)
        bright = [
            (case.image[t2][healthy] > 0.8 * case.image[t2][healthy].quantile(0.999)).float().mean()
            for case in (off, on)
        ]
        assert bright[1] > 1.15 * bright[0]

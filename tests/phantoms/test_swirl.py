"""The flow that stirs a tumour's shape."""

from __future__ import annotations

from dataclasses import replace

import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.swirl import swirl_mm
from brats3d.phantoms.tumour_focus import Focus

COORDS = torch.zeros(3, 40, 40, 30)
FOCUS = Focus(torch.zeros(3), 24, torch.ones(3), 0, 0)


def swirl(seed: int, strength: float, focus: Focus = FOCUS) -> torch.Tensor:
    return swirl_mm(RandomStream(seed, torch.device("cpu")), Setting(swirl=(strength, strength)), COORDS, focus)


def test_the_distance_changes_both_ways_by_the_given_share_of_the_radius():
    for seed in range(4):
        change = swirl(seed, 0.5)
        assert change.shape == COORDS.shape[1:]
        assert change.min() < -3 and change.max() > 3
        assert change.abs().mean() < 0.5 * FOCUS.radius_mm
        assert swirl(seed, 0.01).abs().max() < 1.5


def test_the_flow_keeps_volumes():
    axes = torch.meshgrid(*[(torch.arange(n) - (n - 1) / 2) * 4 for n in COORDS.shape[1:]], indexing="ij")
    distance = sum(a**2 for a in axes).sqrt()
    ball = (distance < 40).sum()
    for seed in range(6):
        assert 0.85 < (distance + swirl(seed, 0.5) < 40).sum() / ball < 1.15


def test_a_tiny_focus_is_stirred_little():
    tiny = replace(FOCUS, radius_mm=4)
    assert swirl(0, 0.5, tiny).abs().max() < 10

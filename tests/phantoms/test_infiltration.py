"""Infiltration: the path from a focus through tissue, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from brats3d.phantoms import infiltration
from brats3d.phantoms.atlas import COARSE_MM
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour_focus import Focus


@pytest.fixture
def painted_atlas(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """``painted_atlas(gm, wm)``: replace the atlas by these fractions; return coordinates 100 mm off the midline."""

    def paint(gm: torch.Tensor, wm: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(infiltration, "sample_atlas", lambda *_: torch.stack([gm, wm, torch.full_like(gm, 8)]))
        axes = [(torch.arange(n) - (n - 1) / 2) * COARSE_MM for n in gm.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")) + torch.tensor([100.0, 0, 0]).view(3, 1, 1, 1)

    return paint


def detour_mm(coords: torch.Tensor, **steps: object) -> torch.Tensor:
    focus = Focus(torch.zeros(3), radius_mm=6, stretch=torch.ones(3), push_mm=0, edema_mm=20)
    return infiltration.detour_mm(RandomStream(0, torch.device("cpu")), Setting(**steps), coords, focus)


def test_there_is_no_detour_through_white_matter(painted_atlas):
    wm = torch.ones(21, 21, 21)
    assert detour_mm(painted_atlas(torch.zeros_like(wm), wm)).max() == 0


def test_grey_matter_is_slower_by_the_factor_of_the_setting(painted_atlas):
    gm = torch.ones(21, 21, 21)
    detour = detour_mm(painted_atlas(gm, torch.zeros_like(gm)), slow_in_gm=(2, 2))
    assert detour[10, 10, 10] == 0
    # By hand, along an axis: the radius of 6 mm covers the central and the next voxel; each further step costs 8
    # instead of 4.
    np.testing.assert_allclose(detour[10, 10, 10:18], [0, 0, 4, 8, 12, 16, 20, 24], atol=1e-4)


def test_fluid_lengthens_the_path_unless_there_is_a_gap(painted_atlas):
    wm = torch.ones(21, 21, 21)
    wm[:, :, 13:15] = 0
    behind = detour_mm(painted_atlas(torch.zeros_like(wm), wm))[10, 10, 12:17]
    # By hand: into the fluid (1 + 5) / 2 x 4 = 12 instead of 4, through it 20 instead of 4, out of it 12 instead of 4.
    np.testing.assert_allclose(behind, [0, 8, 24, 32, 32], atol=1e-4)
    wm[11, 10, 13:15] = 1
    with_gap = detour_mm(painted_atlas(torch.zeros_like(wm), wm))[10, 10, 15:17]
    assert (with_gap < 10).all()

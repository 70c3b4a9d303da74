"""Satellites of a tumour: tiny enhancing foci within its edema."""

from __future__ import annotations

import torch

from brats3d.phantoms.head import Box
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.satellites import add_satellites
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import CORE, EDEMA, ENHANCING, Tumour

BOX = Box(start=(0, 0, 0), shape=(60, 60, 60), grid_shape=(60, 60, 60), voxel_mm=1)


def half_edema(core: int) -> Tumour:
    """Return a tumour of a little core and half a volume of edema."""
    tissue = torch.zeros(BOX.shape, dtype=torch.uint8)
    tissue[30:] = EDEMA
    tissue[40:44, 30:34, 30:34] = core
    return Tumour(tissue, torch.zeros(BOX.shape))


def with_satellites(seed: int, tumour: Tumour, **steps: object) -> torch.Tensor:
    rng = RandomStream(seed, torch.device("cpu"))
    return add_satellites(rng, Setting(satellites=1, **steps), BOX, tumour).tissue


def test_satellites_are_tiny_and_replace_only_edema():
    tumour = half_edema(ENHANCING)
    kinds = set()
    for seed in range(8):
        tissue = with_satellites(seed, tumour)
        changed = tissue != tumour.tissue
        assert 8 <= changed.sum() < 6 * 1000
        assert (tumour.tissue[changed] == EDEMA).all()
        kinds |= set(tissue[changed].tolist())
    assert kinds == {CORE, ENHANCING}


def test_tumours_without_enhancement_or_edema_have_no_satellites():
    dark, bare = half_edema(CORE), half_edema(ENHANCING)
    bare.tissue[bare.tissue == EDEMA] = 0
    for tumour in (dark, bare, Tumour(torch.zeros(BOX.shape, dtype=torch.uint8), torch.zeros(BOX.shape))):
        assert torch.equal(with_satellites(0, tumour), tumour.tissue)

"""Resection cavities."""

from __future__ import annotations

from dataclasses import replace

import torch

from brats3d.phantoms.cavity import resect
from brats3d.phantoms.head import Head
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import CORE, EDEMA, ENHANCING, Tumour
from brats3d.phantoms.tumour_focus import Focus, distance_mm

FOCUS = Focus(torch.zeros(3), 20, torch.ones(3), 0, 10)
ON = Setting(resected=1, cavity_mm=(15, 15))


def tumour_in(head: Head) -> Tumour:
    """Return a ball of core within edema, in the middle of the head."""
    distance = distance_mm(FOCUS, head.box)[1]
    tissue = torch.where(distance < 20, CORE, torch.where(distance < 30, EDEMA, 0)).to(torch.uint8) * head.brain
    return Tumour(tissue, torch.zeros(tissue.shape))


def cut(head: Head, tumour: Tumour, seed: int = 0, setting: Setting = ON) -> tuple[Head, Tumour]:
    return resect(RandomStream(seed, torch.device("cpu")), setting, head, tumour, [FOCUS])


def test_a_cavity_is_unlabelled_fluid(atlas_head):
    tumour = tumour_in(atlas_head)
    for seed in range(4):
        head, left = cut(atlas_head, tumour, seed)
        removed = (tumour.tissue > 0) & (left.tissue == 0)
        assert 2000 < removed.sum() * 64 < 40000  # mm³; a ball of 15 mm has 14 ml
        assert head.tissue[0][removed].mean() > 0.85
        assert torch.allclose(head.tissue.sum(0), atlas_head.tissue.sum(0), atol=1e-5)
        kept = (left.tissue > 0) & (left.tissue != ENHANCING)
        assert torch.equal(left.tissue[kept], tumour.tissue[kept])


def test_some_walls_enhance_where_tumour_was_left(atlas_head):
    tumour = tumour_in(atlas_head)
    walls = [cut(atlas_head, tumour, seed)[1].tissue == ENHANCING for seed in range(12)]
    assert 2 <= sum(bool(wall.any()) for wall in walls) <= 10
    assert all((tumour.tissue[wall] > 0).all() for wall in walls)


def test_a_tumour_that_would_vanish_is_not_resected(atlas_head):
    tumour = tumour_in(atlas_head)
    head, left = cut(atlas_head, tumour, setting=replace(ON, cavity_mm=(60, 60)))
    assert head is atlas_head
    assert left is tumour


def test_most_heads_are_not_resected(atlas_head):
    tumour = tumour_in(atlas_head)
    assert cut(atlas_head, tumour, setting=Setting()) == (atlas_head, tumour)

"""Resection cavities: fluid where a surgeon has removed a part of the tumour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from brats3d.phantoms.head import Head
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import ENHANCING, MIN_TUMOUR_ML, Tumour, drop_specks
from brats3d.phantoms.tumour_focus import Focus, distance_mm
from brats3d.phantoms.volume_ops import volume_ml

_HAS_REMNANT = 0.5
"""Chance that patches of the cavity's wall enhance."""


def resect(
    rng: RandomStream, setting: Setting, head: Head, tumour: Tumour, foci: Sequence[Focus]
) -> tuple[Head, Tumour]:
    """Replace a part of the first focus and of the brain around it by fluid, which has no label.

    A wall of 1 to 3 mm may enhance in patches, where tumour was left. Nothing is removed if less than
    :data:`brats3d.phantoms.tumour.MIN_TUMOUR_ML` would remain.

    Returns:
        The head and the tumour, changed or as they were.
    """
    rng = rng.substream("cavity")
    if not foci or not rng.chance(setting.resected):
        return head, tumour
    focus, voxel_mm = foci[0], head.box.voxel_mm
    centre_mm = focus.centre_mm + rng.vector(-0.5, 0.5) * focus.radius_mm
    cavity = replace(focus, centre_mm=centre_mm, stretch=rng.vector(*setting.stretch))
    rough = rng.fractal_noise(head.brain.shape, (20, 10), voxel_mm)
    depth = rng.uniform(*setting.cavity_mm) + 2 * rough - distance_mm(cavity, head.box)[1]
    tissue = torch.where(depth > 0, 0, tumour.tissue)
    if rng.chance(_HAS_REMNANT):
        wall = (tissue > 0) & (depth > -rng.uniform(1, 3)) & (rough.roll(7, 0) > rng.uniform(-0.5, 1))
        tissue = drop_specks(torch.where(wall, ENHANCING, tissue).to(torch.uint8), voxel_mm)
    if volume_ml(tissue > 0, voxel_mm) < MIN_TUMOUR_ML:
        return head, tumour
    fluid = (depth / voxel_mm + 0.5).clamp(0, 1)
    csf, gm, wm = head.tissue
    mixed = torch.stack([csf + (1 - csf) * fluid, gm * (1 - fluid), wm * (1 - fluid)])
    return replace(head, tissue=mixed), replace(tumour, tissue=tissue)

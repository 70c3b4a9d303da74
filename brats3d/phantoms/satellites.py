"""Satellites: tiny enhancing foci that share the edema of a larger one."""

from __future__ import annotations

from dataclasses import replace

import torch

from brats3d.phantoms.head import Box
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import CORE, EDEMA, ENHANCING, Tumour
from brats3d.phantoms.tumour_focus import Focus, distance_mm

_MOST = 6


def add_satellites(rng: RandomStream, setting: Setting, box: Box, tumour: Tumour) -> Tumour:
    """Place satellites within the edema of a tumour that enhances; every second one is necrotic inside.

    Returns:
        The tumour with its satellites; the same tumour if it has none.
    """
    rng = rng.substream("satellites")
    tissue = tumour.tissue
    if not rng.chance(setting.satellites) or not (tissue == EDEMA).any() or not (tissue == ENHANCING).any():
        return tumour
    places, tissue = (tissue == EDEMA).nonzero(), tissue.clone()
    edges = rng.fractal_noise(tissue.shape, (8, 4), box.voxel_mm)
    axes_mm = [axis.flatten() for axis in box.axes_mm(rng.device)]
    for number in range(1 + rng.integer(_MOST)):
        place = places[rng.integer(len(places))]
        centre = torch.stack([axis[i] for axis, i in zip(axes_mm, place, strict=True)])
        focus = Focus(centre, rng.uniform(*setting.satellite_mm), rng.vector(*setting.stretch), 0, 0)
        depth = focus.radius_mm * (1 + 0.2 * edges) - distance_mm(focus, box)[1]
        inside = (depth > 0) & (tissue == EDEMA)
        tissue[inside] = ENHANCING
        if number % 2:
            tissue[inside & (depth > rng.uniform(*setting.thin_rim_mm))] = CORE
    return replace(tumour, tissue=tissue)

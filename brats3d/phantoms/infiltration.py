"""The spread of a tumour along tissue: fast in white matter, slower in grey matter, hardly through fluid.

Glioma cells were measured to migrate faster in white matter: Swanson et al., "A quantitative model for differential
motility of gliomas in grey and white matter", Cell Proliferation 33 (2000), 317-329,
https://doi.org/10.1046/j.1365-2184.2000.00177.x.
"""

from __future__ import annotations

from itertools import product

import torch

from brats3d.phantoms.atlas import COARSE_MM, sample_atlas, to_mni
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour_focus import Focus, coarse_box, distance_mm
from brats3d.phantoms.volume_ops import bounding_box


def detour_mm(rng: RandomStream, setting: Setting, coords: torch.Tensor, focus: Focus) -> torch.Tensor:
    """Compute how much longer the path from a focus through tissue is than a straight line.

    This is the difference of two shortest paths on the coarse grid with 26 neighbours. In the first, a millimetre of
    grey matter counts ``slow_in_gm``, of CSF 5, and outside the brain or across the midline 12, except in white matter
    (the corpus callosum, the brain stem). In the second, every millimetre counts once.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        (x, y, z) mm on the coarse grid, at least 0.
    """
    slow = _slowness(rng, setting, coords)
    _, straight = distance_mm(focus, coarse_box(coords))
    reach = focus.radius_mm + focus.edema_mm + 30
    box = bounding_box(straight < reach)
    slowness = torch.stack([slow[box], torch.ones_like(slow[box])])
    start = straight[box] <= max(1.5 * COARSE_MM, float(straight.min()))
    time = torch.where(start, straight[box], 1e6).expand_as(slowness).contiguous()
    _relax(time, slowness, focus.stretch.cpu())
    detour = torch.full_like(straight, reach)
    detour[box] = (time[0] - time[1]).clamp(0, reach)
    return detour


def _slowness(rng: RandomStream, setting: Setting, coords: torch.Tensor) -> torch.Tensor:
    """Return how many millimetres of white matter a millimetre counts at each coarse voxel, (x, y, z)."""
    gm, wm, depth = sample_atlas(coords, COARSE_MM)
    csf = (1 - gm - wm).clamp(0, 1)
    slow = wm + gm * rng.uniform(*setting.slow_in_gm) + 5 * csf
    falx = (to_mni(coords)[0].abs() < COARSE_MM) & (wm < 0.35)
    return torch.where(falx | (depth <= 0), 12.0, slow.clamp(min=1))


def _relax(time: torch.Tensor, slowness: torch.Tensor, stretch: torch.Tensor) -> None:
    """Lower arrival times in place until every voxel is reached by the shortest path from its neighbours.

    Args:
        time: (C, x, y, z), final at the starting voxels and large elsewhere.
        slowness: (C, x, y, z), time per millimetre.
        stretch: (3,) factors by which the focus's axes are longer.
    """
    moves = []
    for step in (step for step in product((-1, 0, 1), repeat=3) if any(step)):
        length = float(torch.tensor([k * COARSE_MM for k in step]).div(stretch).norm())
        target, source = (
            (slice(None), *(slice(max(0, s * k), n + min(0, s * k)) for k, n in zip(step, time.shape[1:], strict=True)))
            for s in (1, -1)
        )
        moves.append((target, source, (slowness[target] + slowness[source]) * (length / 2)))
    while True:
        before = time.clone()
        for target, source, cost in moves:
            time[target] = torch.minimum(time[target], time[source] + cost)
        if torch.equal(before, time):
            return

"""Irregular shapes: a smooth flow stirs the tumour as it grows, which folds its surface and draws out lobes.

The flow is the curl of smooth noise, so that it keeps volumes. UNA advects the shapes of its lesions in this way: Liu
et al., https://arxiv.org/abs/2501.13370.
"""

from __future__ import annotations

import torch

from brats3d.phantoms.atlas import COARSE_MM, look_up
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour_focus import Focus, coarse_box, distance_mm
from brats3d.phantoms.volume_ops import blur

_STEPS = 4


def swirl_mm(rng: RandomStream, setting: Setting, coords: torch.Tensor, focus: Focus) -> torch.Tensor:
    """Compute how much further from a focus the flow has come to each place.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        (x, y, z) mm on the coarse grid, to add to the distance from the focus; of either sign.
    """
    shape = coords.shape[1:]
    length_mm = max(rng.uniform(0.6, 1.2) * focus.radius_mm, 2.5 * COARSE_MM)
    step = _flow(rng, shape, length_mm) * (rng.uniform(*setting.swirl) * focus.radius_mm / _STEPS)
    box = coarse_box(coords)
    points = torch.stack(torch.broadcast_tensors(*box.axes_mm(coords.device)))
    moved = torch.zeros_like(step)
    for _ in range(_STEPS):
        moved = moved + look_up(step, points + moved, COARSE_MM)
    offsets, straight = distance_mm(focus, box)
    return sum(((o + m) / s) ** 2 for o, m, s in zip(offsets, moved, focus.stretch, strict=True)).sqrt() - straight


def _flow(rng: RandomStream, shape: torch.Size, length_mm: float) -> torch.Tensor:
    """Return a smooth velocity without divergence, (3, x, y, z), of unit root mean square."""
    potential = torch.stack([rng.smooth_noise(shape, length_mm / COARSE_MM) for _ in "xyz"])
    slope = [torch.stack(torch.gradient(part)) for part in blur(potential, [1, 1, 1])]
    flow = torch.stack([slope[2][1] - slope[1][2], slope[0][2] - slope[2][0], slope[1][0] - slope[0][1]])
    return flow / flow.square().sum(0).mean().sqrt()

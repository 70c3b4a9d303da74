"""The part of the brain that each sequence covers."""

from __future__ import annotations

import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting

_OFTEN_PARTIAL = ("t1", "t1", "t1", "t2", "t2", "t2", "t1ce", "flair")
"""The sequences from which the partial one is drawn."""

_TOP_OR_BOTTOM = 0.6
"""Chance that the top or the bottom is missing: most slices are axial. Otherwise each axis is equally likely."""

_SLOPE = 0.2
"""Maximum slope of the last slice against the grid (11 degrees), since heads are turned to the atlas after the scan."""


def draw_coverage(rng: RandomStream, setting: Setting, inside: torch.Tensor) -> dict[str, torch.Tensor]:
    """Draw the part of the brain that each sequence covers.

    All sequences cover all of it, except that one sequence of some cases lacks everything beyond a plane: the top, the
    bottom, or one side.

    Args:
        inside: (X, Y, Z) bool, what skull-stripping has left.

    Returns:
        Sequence -> (X, Y, Z) bool.
    """
    covered = dict.fromkeys(MODALITIES, inside)
    if rng.chance(setting.partial):
        name = _OFTEN_PARTIAL[rng.integer(len(_OFTEN_PARTIAL))]
        normal = rng.vector(-_SLOPE, _SLOPE)
        normal[2 if rng.chance(_TOP_OR_BOTTOM) else rng.integer(3)] = 1 if rng.chance(0.5) else -1
        i, j, k = (torch.arange(n, device=rng.device) * slope for n, slope in zip(inside.shape, normal, strict=True))
        along = i[:, None, None] + j[:, None] + k
        voxels = along[inside]
        rank = round((1 - rng.uniform(*setting.uncovered)) * len(voxels))
        covered[name] = inside & (along <= voxels.kthvalue(rank).values)
    return covered

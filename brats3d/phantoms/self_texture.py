"""Texture of tumours from healthy tissue elsewhere in the same head, mirrored and warped.

Noise has no structure, but what lies in a tumour does: remains of gyri, tracts, clefts of fluid. UNA (Liu et al. 2025,
https://arxiv.org/abs/2501.13370) fills lesions in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.volume_ops import bounding_box

_MOST = 0.3
"""Largest difference of a patch from its mean: fluid beside tissue would outshine the tumour."""


def draw_self_texture(
    rng: RandomStream, setting: Setting, fractions: torch.Tensor, healthy: Mapping[str, torch.Tensor]
) -> tuple[tuple[slice, ...], dict[str, torch.Tensor]]:
    """Fill a tumour with the structure of a patch of healthy brain; T1ce has that of T1.

    Args:
        fractions: (K, X, Y, Z) fractions of the tumour's tissues.
        healthy: sequence -> (X, Y, Z) brightness of the healthy head.

    Returns:
        The box around the tumour, and sequence -> what to add in it; both are empty without a tumour or texture.
    """
    opacity = fractions.sum(0)
    visible = opacity > 1e-3
    if not any(setting.self_texture) or not visible.any():
        return (), {}
    box = bounding_box(visible)
    weight = opacity[box] * rng.uniform(*setting.self_texture)
    patches = _warp_patch(rng, [healthy[name] for name in ("t1", "t2", "flair")], weight.shape)
    patches -= patches.mean((1, 2, 3), keepdim=True)
    t1, t2, flair = patches.clamp_(-_MOST, _MOST) * weight
    return box, dict(zip(MODALITIES, (t1, t1, t2, flair), strict=True))


def _warp_patch(rng: RandomStream, volumes: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    """Cut a random patch out of all volumes alike, and mirror, scale and bend it to a shape: (C, *shape)."""
    wholes = volumes[0].shape
    sides = [min(max(2, round(n * rng.uniform(0.6, 1.2))), whole) for n, whole in zip(shape, wholes, strict=True)]
    starts = [rng.integer(whole - n + 1) for n, whole in zip(sides, wholes, strict=True)]
    source = tuple(slice(start, start + n) for start, n in zip(starts, sides, strict=True))
    patch = torch.stack([volume[source] for volume in volumes])
    patch = patch.flip([axis for axis in (1, 2, 3) if rng.chance(0.5)])
    axes = [torch.linspace(-1, 1, n, device=patch.device) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1)  # grid_sample expects the last axis first
    bend = F.interpolate(rng.white_noise((1, 3, 4, 4, 4)) * 0.12, tuple(shape), mode="trilinear", align_corners=True)
    grid = grid + bend[0].movedim(0, -1)
    return F.grid_sample(patch[None], grid[None], padding_mode="reflection", align_corners=True)[0]

"""Operations on volumes that several steps of the generator share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def resize(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Resample (X, Y, Z) to another shape by linear interpolation; the corner voxels keep their values."""
    return F.interpolate(volume[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def blur(volume: torch.Tensor, sigma_voxels: Sequence[float]) -> torch.Tensor:
    """Apply a Gaussian blur along the last three axes.

    Each axis is one matrix product, which on a CPU is many times faster than conv3d.
    """
    for axis, sigma in enumerate(sigma_voxels, start=volume.ndim - 3):
        if sigma < 0.1:  # a neighbouring voxel would have a weight of 2e-22
            continue
        i = torch.arange(volume.shape[axis], device=volume.device)
        weights = torch.exp(-0.5 * ((i[:, None] - i) / max(sigma, 1e-3)) ** 2)
        volume = torch.tensordot(volume, weights / weights.sum(0), dims=([axis], [0])).movedim(-1, axis)
    return volume


def bounding_box(mask: torch.Tensor) -> tuple[slice, ...]:
    """Return the smallest box that contains every voxel of a mask; the mask must not be empty."""
    voxels = mask.nonzero()
    return tuple(slice(int(lo), int(hi) + 1) for lo, hi in zip(voxels.amin(0), voxels.amax(0), strict=True))


def volume_ml(mask: torch.Tensor, voxel_mm: int) -> float:
    """Return the volume of a mask in ml."""
    return int(mask.sum()) * voxel_mm**3 / 1000

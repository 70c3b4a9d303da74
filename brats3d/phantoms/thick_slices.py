"""Thick slices: their orientation, thickness, gaps and tilt."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


def acquire_slices(rng: RandomStream, setting: Setting, image: torch.Tensor, voxel_mm: int) -> torch.Tensor:
    """Resample an image as if it was acquired in thick slices, along an axis of its own.

    Args:
        rng: the sequence's own stream.
        setting: thickness, gaps, orientation and tilt of the slices.
        image: (X, Y, Z).
        voxel_mm: edge of a voxel.
    """
    axis = 2 if rng.chance(setting.axial) else rng.integer(3)
    thickness = max(1, round(rng.uniform(*setting.slice_mm) / voxel_mm))
    start = rng.integer(thickness)
    rng = rng.substream("gap and tilt")
    gap = round(rng.uniform(*setting.slice_gap_mm) / voxel_mm)
    if not any(setting.slice_tilt):
        return resample_slices(image, axis, thickness, start, gap)
    u, v = (torch.arange(n, device=image.device) for k, n in enumerate(image.shape) if k != axis)
    starts = start + u[:, None] * rng.uniform(*setting.slice_tilt) + v * rng.uniform(*setting.slice_tilt)
    return tilt_slices(image, axis, thickness, starts.round().long(), gap)


def resample_slices(image: torch.Tensor, axis: int, thickness: int, start: int = 0, gap: int = 0) -> torch.Tensor:
    """Average over slices ``thickness`` voxels thick, then interpolate linearly back to the grid.

    Args:
        image: (X, Y, Z), or any other shape.
        axis: the axis across the slices.
        thickness: of the slices, in voxels.
        start: number of voxels by which the first slice begins before the image, so that the slices of different
            sequences do not coincide.
        gap: number of voxels between two slices, which are in neither; half of a gap precedes the first slice.
    """
    length, period = image.shape[axis], thickness + gap
    lines = image.movedim(axis, -1)
    flat = lines.reshape(1, -1, length)
    padded = F.pad(flat, (start, -(length + start) % period), mode="replicate")
    slices = F.avg_pool1d(padded[..., gap // 2 :], thickness, stride=period)
    back = F.interpolate(slices, size=slices.shape[-1] * period, mode="linear", align_corners=False)
    return back[..., start : start + length].reshape(lines.shape).movedim(-1, axis)


def tilt_slices(image: torch.Tensor, axis: int, thickness: int, starts: torch.Tensor, gap: int = 0) -> torch.Tensor:
    """Do the same with slices that are tilted, so that each line along the axis has a ``start`` of its own.

    Args:
        image: (X, Y, Z).
        axis: the axis across the slices.
        thickness: of the slices, in voxels.
        starts: integers in the shape of the other two axes.
        gap: between the slices, in voxels.
    """
    lines = image.movedim(axis, -1)
    resampled = torch.empty_like(lines)
    unit = torch.eye(image.shape[axis], device=image.device)
    phases = starts % (thickness + gap)
    for phase in phases.unique().tolist():
        here = phases == phase
        resampled[here] = lines[here] @ resample_slices(unit, 1, thickness, phase, gap)
    return resampled.movedim(-1, axis)

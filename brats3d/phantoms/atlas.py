"""The atlas that phantoms are made from: tissue fractions, and landmarks computed from them.

The ICBM 2009 atlas, the average of 152 healthy adults, as distributed by nilearn: Fonov et al., "Unbiased average
age-appropriate atlases for pediatric studies", NeuroImage 54 (2011), 313-327,
https://doi.org/10.1016/j.neuroimage.2010.07.033. Coordinates are millimetres from the middle of the atlas, in BraTS's
LPS order, unless a name says MNI.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.phantoms.volume_ops import blur

COARSE_MM = 4
"""Spacing of the grid on which deformations are computed. They are smooth, so a finer grid makes no difference."""

TISSUE, DEPTH = slice(0, 2), slice(2, 3)
"""Channels of the atlas: fractions of grey and white matter; depth."""

VENTRICLES, VENTRICLE_SLOPE, MM_OUTSIDE, MM_INSIDE = slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 6)
"""Channels of the landmarks: nearness of the ventricles, its gradient, mm outside the brain, mm below its surface."""

MNI_MIDDLE_MM = (-1.5, -18.5, 5.5)
"""MNI coordinates (right, anterior, superior) of the middle of the atlas."""


@lru_cache(maxsize=4)
def load_atlas(voxel_mm: int, device: torch.device) -> torch.Tensor:
    """Load the atlas, cropped to the brain, in LPS order.

    Args:
        voxel_mm: 1, or the edge of the blocks over which to average.

    Returns:
        (3, X, Y, Z) float32: fractions of grey and white matter, and depth in mm below the brain's surface (0
        outside, capped at 8). The origin of atlas coordinates is the middle of the array.
    """
    gm, wm, depth, _ = _read_atlas()
    atlas = torch.from_numpy(np.stack([gm, wm, depth.clip(max=8)]).astype(np.float32))
    return F.avg_pool3d(atlas, voxel_mm).to(device)


@lru_cache(maxsize=2)
def load_landmarks(device: torch.device) -> torch.Tensor:
    """Compute where each voxel lies relative to the lateral ventricles and the brain's surface.

    Returns:
        (6, x, y, z) float32 on a grid of :data:`COARSE_MM`: nearness of the lateral ventricles (1 inside, falling off
        over about 8 mm), the three components of its gradient (scaled to a maximum length of 1), distance in mm
        outside the brain (0 inside), and depth in mm below its surface (0 outside).
    """
    from scipy import ndimage

    gm, wm, depth, position = _read_atlas()
    x, y, z = position  # MNI millimetres, right, anterior and superior positive
    box = (np.abs(x) < 36) & (y > -50) & (y < 36) & (z > -8) & (z < 34)
    fluid = box & (depth > 18) & (1 - gm - wm > 0.5)
    numbers, _ = ndimage.label(fluid)
    ventricles = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    maps = torch.from_numpy(
        np.stack([ventricles, ndimage.distance_transform_edt(depth == 0), depth]).astype(np.float32)
    )
    inside, outside, depth = F.avg_pool3d(maps, COARSE_MM)
    near = blur(inside, [8 / COARSE_MM / 2] * 3)
    near = near / near.max()
    slope = torch.stack(torch.gradient(blur(inside, [8 / COARSE_MM] * 3)))
    slope = slope / slope.square().sum(0).sqrt().max()
    return torch.cat([near[None], slope, outside[None], depth[None]]).to(device)


def sample_atlas(coords: torch.Tensor, voxel_mm: int, channels: slice = slice(None)) -> torch.Tensor:
    """Look up channels of the atlas, averaged over blocks of ``voxel_mm``, at (3, X, Y, Z) coordinates in mm."""
    return look_up(load_atlas(voxel_mm, coords.device)[channels], coords, voxel_mm)


def to_mni(coords: torch.Tensor) -> torch.Tensor:
    """Convert (3, ...) atlas coordinates to MNI coordinates in mm (right, anterior and superior positive)."""
    signs, origin = (
        torch.tensor(v, dtype=torch.float32, device=coords.device).view(3, *[1] * (coords.ndim - 1))
        for v in ((-1, -1, 1), MNI_MIDDLE_MM)
    )
    return coords * signs + origin


def sample_landmarks(coords: torch.Tensor, channels: slice) -> torch.Tensor:
    """Look up channels of :func:`load_landmarks` at (3, x, y, z) coordinates in mm."""
    return look_up(load_landmarks(coords.device)[channels], coords, COARSE_MM)


def look_up(volume: torch.Tensor, coords: torch.Tensor, voxel_mm: int) -> torch.Tensor:
    """Interpolate (C, X, Y, Z) at (3, ...) coordinates in mm from its middle; values at the edges extend outwards."""
    half_mm = torch.tensor(volume.shape[1:], dtype=torch.float32, device=coords.device) * voxel_mm / 2
    grid = (coords / half_mm.view(3, 1, 1, 1)).flip(0).permute(1, 2, 3, 0)  # grid_sample expects the last axis first
    return F.grid_sample(volume[None], grid[None], padding_mode="border", align_corners=False)[0]


@lru_cache(maxsize=1)
def _read_atlas() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return GM, WM and depth in mm, (X, Y, Z) at 1 mm in LPS order, and the voxels' MNI coordinates."""
    from nilearn import datasets
    from scipy import ndimage

    loaders = (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template, datasets.load_mni152_brain_mask)
    images = [load(resolution=1) for load in loaders]
    gm, wm, mask = (image.get_fdata().astype(np.float32)[::-1, ::-1] for image in images)  # RAS -> LPS
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    # at least 6 mm around the brain, and a shape divisible into blocks of 4 mm
    pad = [(6, 6 + -(s.stop - s.start + 12) % COARSE_MM) for s in box]
    shape, origin = mask.shape, images[2].affine[:3, 3]
    steps = [np.arange(s.start - a, s.stop + b) for s, (a, b) in zip(box, pad, strict=True)]
    mni = [(n - 1 - k if axis < 2 else k) + origin[axis] for axis, (n, k) in enumerate(zip(shape, steps, strict=True))]
    gm, wm, mask = (np.pad(volume[box], pad) for volume in (gm * mask, wm * mask, mask))
    mask = ndimage.binary_fill_holes(mask > 0)  # a few single voxels, which skull-stripping would enlarge
    return gm, wm, ndimage.distance_transform_edt(mask), list(np.meshgrid(*mni, indexing="ij", sparse=True))

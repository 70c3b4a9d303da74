"""The head of a phantom: the atlas deformed into an individual head, its tissues, and the stripping of its skull.

All lengths are in millimetres of the head unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.errors import UsageError
from brats3d.phantoms.atlas import (
    COARSE_MM,
    DEPTH,
    MM_INSIDE,
    MM_OUTSIDE,
    TISSUE,
    VENTRICLE_SLOPE,
    VENTRICLES,
    look_up,
    sample_atlas,
    sample_landmarks,
    to_mni,
)
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range, Setting
from brats3d.phantoms.volume_ops import bounding_box

_SQUARINGS = 6
"""Doublings of a step of 1/64 of the time; a step of less than 0.5 mm."""


@dataclass(frozen=True)
class Size:
    """The number of voxels of a case, and the edge of a voxel in millimetres of the head."""

    shape: tuple[int, int, int]
    voxel_mm: int


SIZES: Mapping[str, Size] = MappingProxyType({"full": Size((240, 240, 155), 1), "small": Size((48, 48, 40), COARSE_MM)})
"""``small`` is the same head sampled every 4 mm. Its files still state 1 mm, so that they are accepted as BraTS cases:
volumes and distances read from them are 1/64 and 1/4 of the head's."""


def get_size(size: str) -> Size:
    """Return the size of that name.

    Raises:
        UsageError: if there is none.
    """
    if size not in SIZES:
        raise UsageError("size", expected=f"one of {', '.join(SIZES)}", found=size)
    return SIZES[size]


@dataclass(frozen=True)
class Box:
    """A box within a case's grid: first voxel, shape, and the shape of the whole grid, in voxels of ``voxel_mm``."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    grid_shape: tuple[int, ...]
    voxel_mm: int

    def axes_mm(self, device: torch.device) -> list[torch.Tensor]:
        """Return the voxels' positions along each axis, from the middle of the whole grid, shaped to broadcast."""
        axes = [
            (torch.arange(a, a + n, device=device) - (whole - 1) / 2) * self.voxel_mm
            for a, n, whole in zip(self.start, self.shape, self.grid_shape, strict=True)
        ]
        return [axis.view([-1 if i == k else 1 for i in range(3)]) for k, axis in enumerate(axes)]


@dataclass(frozen=True)
class Head:
    """A deformed head.

    Args:
        box: the box around the brain, in which the arrays lie.
        brain: (X, Y, Z) bool, the brain that skull-stripping has left.
        skull: (X, Y, Z) bool, what skull-stripping has left outside the brain; empty in most heads.
        tissue: (3, X, Y, Z) fractions of CSF, grey and white matter, which add up to 1.
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid, which spans the whole case.
    """

    box: Box
    brain: torch.Tensor
    skull: torch.Tensor
    tissue: torch.Tensor
    coords: torch.Tensor


def place_head(rng: RandomStream, setting: Setting, size: Size) -> torch.Tensor:
    """Map each coarse voxel of the case to a point of the atlas: a random affine map and smooth random deformations.

    Returns:
        (3, x, y, z) atlas coordinates in mm, on the grid of :data:`COARSE_MM`. The middle of the brain lies in the
        middle of BraTS's grid from left to right, and a few mm behind and below it, as in the SRI24 space.
    """
    shape = [-(-n * size.voxel_mm // COARSE_MM) for n in size.shape]
    middle = torch.tensor([-0.5, 7.0, -4.0] if size.voxel_mm == 1 else [0.0, 0.0, 0.0], device=rng.device)
    axes = [(torch.arange(n, device=rng.device) - (n - 1) / 2) * COARSE_MM for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    points = grid - middle.view(3, 1, 1, 1)
    if any(setting.bend_mm):
        points += _bend(rng.substream("bend"), setting, grid)
    # Cosines and sines have separate angles, so the rotation shears the head a little. Drawing the angles once would
    # change the phantoms of every seed; `rigid_rotation_deg` does so.
    cx, cy, cz = np.cos(np.deg2rad([rng.uniform(*setting.rotation_deg) for _ in "xyz"]))
    sx, sy, sz = np.sin(np.deg2rad([rng.uniform(*setting.rotation_deg) for _ in "xyz"]))
    rotation = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
    if any(setting.rigid_rotation_deg):
        rotation = draw_rotation(rng.substream("rotation"), setting.rigid_rotation_deg)
    affine = rotation @ np.diag([1 / rng.uniform(*setting.scale) for _ in "xyz"])
    points = torch.einsum("ij,jxyz->ixyz", torch.as_tensor(affine, dtype=torch.float32, device=rng.device), points)
    points += rng.vector(*setting.shift_mm).view(3, 1, 1, 1)
    points += _random_warp(rng, shape, setting.warp_mm, setting.warp_length_mm)
    if any(setting.fold_mm):
        points += _random_warp(rng.substream("fold"), shape, setting.fold_mm, setting.fold_length_mm)
    return points


def draw_rotation(rng: RandomStream, angle_deg: Range) -> np.ndarray:
    """Draw a (3, 3) rotation: about the first, the second and the third axis, each by an angle from this range."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", [rng.uniform(*angle_deg) for _ in "xyz"], degrees=True).as_matrix()


def move_ventricles(rng: RandomStream, setting: Setting, coords: torch.Tensor) -> torch.Tensor:
    """Move the walls of the lateral ventricles outwards (atrophy) or inwards (young brains) by up to ``ventricle_mm``.

    ``ventricle_skew`` is the fraction of that by which one side moves further and the other less. Where the ventricles
    grow, a voxel beside them looks up the atlas nearer to them.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        The moved coordinates.
    """
    if not any(setting.ventricle_mm):
        return coords
    rng = rng.substream("ventricles")
    most_mm = rng.uniform(*setting.ventricle_mm)
    side = torch.tanh(to_mni(coords)[0] / COARSE_MM)  # -1 on the left, 1 on the right
    move_mm = most_mm * (1 - rng.uniform(*setting.ventricle_skew) * side)
    for _ in range(3):  # a single step of more than 7 mm would fold the atlas
        coords = coords + move_mm / 3 * sample_landmarks(coords, VENTRICLE_SLOPE)
    return coords


def strip_skull(
    rng: RandomStream, setting: Setting, coords: torch.Tensor, box: Box
) -> tuple[torch.Tensor, torch.Tensor]:
    """Strip the skull of a head before a tumour displaces its tissue, since the skull does not move.

    The cut runs ``strip_mm`` below the surface, unevenly. Some heads lose larger bites of the brain, and some keep
    patches of dura, bone and fat outside it.

    Returns:
        (X, Y, Z) bool of the brain, and of the skull that is left.
    """
    depth = sample_atlas(refine(coords, box), box.voxel_mm, DEPTH)[0]
    cut = rng.uniform(*setting.strip_mm)
    cut_at = (cut + min(cut, 1) * rng.smooth_noise(depth.shape, 15 / box.voxel_mm)).clamp_(0.5)
    brain = depth > cut_at
    stripped = ~brain
    rng = rng.substream("skull")
    if rng.chance(setting.bitten):
        bite_mm, noise = rng.uniform(*setting.bite_mm), rng.fractal_noise(depth.shape, (50, 20), box.voxel_mm)
        bites = bite_mm * (noise - 1.2).clamp_(0, 1)
        uncapped = refine(sample_landmarks(coords, MM_INSIDE), box)[0]  # the atlas's depth ends at 8 mm
        brain &= torch.maximum(depth, uncapped) > cut_at + bites
    skull = torch.zeros_like(brain)
    if rng.chance(setting.leaves_skull):
        outside = refine(sample_landmarks(coords, MM_OUTSIDE), box)[0]
        patches = rng.fractal_noise(depth.shape, (40, 16), box.voxel_mm) > rng.uniform(0.3, 1.8)
        skull = patches & stripped & (outside < rng.uniform(*setting.skull_mm))
    for axis, whole in zip(box.axes_mm(coords.device), box.grid_shape, strict=True):
        inside = axis.abs() < (whole - 2) / 2 * box.voxel_mm  # background on all sides, even if a large head is cut
        brain &= inside
        skull &= inside
    return brain, skull


def sample_tissue(rng: RandomStream, setting: Setting, coords: torch.Tensor, box: Box) -> torch.Tensor:
    """Look up the tissues of a deformed head.

    Returns:
        (3, X, Y, Z) fractions of CSF, grey and white matter in the box. They add up to 1 also outside the brain,
        because the scanner sees the head before skull-stripping.
    """
    gm, wm = sample_atlas(refine(coords, box), box.voxel_mm, TISSUE)
    csf = (1 - gm - wm).clamp_(0)
    tissue = torch.stack([csf, gm, wm])
    if any(setting.gyri):
        tissue = _cut_gyri(rng.substream("gyri"), setting, coords, box, tissue)
    if any(setting.ventricle_level):
        tissue = _add_ventricle_walls(rng.substream("walls"), setting, coords, box, tissue)
    if setting.csf_weight != (1, 1):
        tissue[0] *= rng.substream("csf").log_uniform(*setting.csf_weight)
    tissue = tissue.clamp_(1e-4) ** rng.uniform(*setting.sharpness)
    return tissue / tissue.sum(0)


def _add_ventricle_walls(
    rng: RandomStream, setting: Setting, coords: torch.Tensor, box: Box, tissue: torch.Tensor
) -> torch.Tensor:
    """Give the lateral ventricles walls: only fluid inside, and a transition of a voxel or two.

    Averaging many heads has blurred the walls of the atlas, so that its ventricles are full of tissue at their edges.
    """
    level = rng.uniform(*setting.ventricle_level)
    csf, gm, wm = tissue / (tissue[0] + tissue[1] + tissue[2])  # cut gyri add up to more than 1
    near = (refine(sample_landmarks(coords, VENTRICLES), box)[0] * 4 - 0.6).clamp_(0, 1)
    cavity = ((csf - level) * 4 + 0.5).clamp_(0, 1)
    fluid = csf + near * (cavity - csf)
    rest = (1 - fluid) / (1 - csf).clamp(min=1e-3)
    return torch.stack([fluid, gm * rest, wm * rest])


def _cut_gyri(
    rng: RandomStream, setting: Setting, coords: torch.Tensor, box: Box, tissue: torch.Tensor
) -> torch.Tensor:
    """Fold the cortex, which the average atlas has blurred: sulci where a noise is near 0, blades of WM far from 0.

    Only the cortex changes: grey matter at most 22 mm below the surface.
    """
    csf, gm, wm = tissue
    strength = rng.uniform(*setting.gyri)
    depth = refine(sample_landmarks(coords, MM_INSIDE), box)[0]
    cortex = (gm * 2).clamp_(max=1) * ((22 - depth) / 6).clamp_(0, 1) * strength
    fold = rng.fractal_noise(gm.shape, (14, 7), box.voxel_mm).abs_()
    sulci = cortex * (1 - fold / 0.35).clamp_(min=0)
    blades = cortex * (fold - 1).clamp_(0, 0.6)
    return torch.stack([csf + sulci, gm * (1 - blades), wm + blades])


def find_brain_box(coords: torch.Tensor, voxel_mm: int) -> Box:
    """Return the box around the brain with a margin of one coarse voxel."""
    inside = sample_atlas(coords, COARSE_MM, DEPTH)[0] > 0
    brain = bounding_box(inside)
    start = [max(0, side.start - 1) for side in brain]
    stop = [min(n, side.stop + 1) for n, side in zip(inside.shape, brain, strict=True)]
    fine = COARSE_MM // voxel_mm
    return Box(
        start=tuple(lo * fine for lo in start),
        shape=tuple((hi - lo) * fine for lo, hi in zip(start, stop, strict=True)),
        grid_shape=tuple(n * fine for n in inside.shape),
        voxel_mm=voxel_mm,
    )


def refine(volume: torch.Tensor, box: Box) -> torch.Tensor:
    """Interpolate (C, x, y, z) on the whole coarse grid to (C, X, Y, Z) on the voxels of a box."""
    fine = COARSE_MM // box.voxel_mm
    part = tuple(slice(a // fine, (a + n) // fine) for a, n in zip(box.start, box.shape, strict=True))
    return F.interpolate(volume[:, *part][None], size=box.shape, mode="trilinear", align_corners=False)[0]


def _random_warp(
    rng: RandomStream, shape: list[int], amplitude_mm: tuple[float, float], length_mm: tuple[float, float]
) -> torch.Tensor:
    amplitude, length = rng.uniform(*amplitude_mm), rng.uniform(*length_mm) / COARSE_MM
    return amplitude * torch.stack([rng.smooth_noise(shape, length) for _ in "xyz"])


def _bend(rng: RandomStream, setting: Setting, grid: torch.Tensor) -> torch.Tensor:
    """Follow a smooth velocity field for a unit of time: unlike a random displacement, that does not fold the head.

    Integrated by scaling and squaring: Arsigny et al., MICCAI 2006, https://doi.org/10.1007/11866565_113.

    Args:
        grid: (3, x, y, z) positions in mm of the coarse voxels.

    Returns:
        (3, x, y, z) displacement in mm.
    """
    moved = _random_warp(rng, list(grid.shape[1:]), setting.bend_mm, setting.bend_length_mm) / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        moved = moved + look_up(moved, grid + moved, COARSE_MM)
    return moved

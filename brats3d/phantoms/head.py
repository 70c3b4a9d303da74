"""The head of a phantom: the atlas, deformed into one person's, and what skull-stripping leaves of it.

All lengths are in millimetres of the head unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.phantoms.atlas import (
    COARSE_MM,
    DEPTH,
    INSIDE,
    NEAR,
    OUTSIDE,
    SLOPE,
    TISSUE,
    sample_atlas,
    sample_landmarks,
    to_mni,
)
from brats3d.phantoms.noise import Draw
from brats3d.phantoms.settings import Ranges


@dataclass(frozen=True)
class Size:
    """How many voxels a case has, and how many millimetres of the head one voxel covers."""

    shape: tuple[int, int, int]
    step_mm: int


SIZES: Mapping[str, Size] = MappingProxyType({"full": Size((240, 240, 155), 1), "small": Size((48, 48, 40), COARSE_MM)})
"""``small`` is the same head sampled every 4 mm. Its files still say 1 mm, so that they pass for BraTS: volumes and
distances read from them are 1/64 and 1/4 of the head's."""


def get_size(size: str) -> Size:
    """The size of that name.

    Raises:
        ValueError: if there is none.
    """
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    return SIZES[size]


@dataclass(frozen=True)
class Frame:
    """A box of a case's grid: first voxel, shape, and the shape of the whole grid, in voxels of ``step_mm``."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    step_mm: int

    def axes_mm(self, device: torch.device) -> list[torch.Tensor]:
        """Positions of the voxels from the middle of the whole grid, along each axis, ready to broadcast."""
        axes = [
            (torch.arange(a, a + n, device=device) - (whole - 1) / 2) * self.step_mm
            for a, n, whole in zip(self.start, self.shape, self.whole, strict=True)
        ]
        return [axis.view([-1 if i == k else 1 for i in range(3)]) for k, axis in enumerate(axes)]


@dataclass(frozen=True)
class Head:
    """A deformed head within its frame.

    Args:
        frame: the box.
        brain: (X, Y, Z) bool, what is brain and has not been cut away.
        skull: (X, Y, Z) bool, what skull-stripping has left outside the brain; empty in most.
        tissue: (3, X, Y, Z) fractions of CSF, grey and white matter, which add to 1.
        coords: (3, x, y, z) atlas coordinates in mm on the whole coarse grid.
    """

    frame: Frame
    brain: torch.Tensor
    skull: torch.Tensor
    tissue: torch.Tensor
    coords: torch.Tensor


def place_head(draw: Draw, ranges: Ranges, grid: Size) -> torch.Tensor:
    """Where in the atlas each coarse voxel of the case lies: a random affine map and smooth random deformations.

    Returns:
        (3, x, y, z) atlas coordinates in mm, on the grid of :data:`COARSE_MM`. The middle of the brain comes to the
        middle of BraTS's grid left to right and a few mm behind and below it, where the SRI24 space has it.
    """
    r = ranges
    shape = [-(-n * grid.step_mm // COARSE_MM) for n in grid.shape]
    middle = torch.tensor([-0.5, 7.0, -4.0] if grid.step_mm == 1 else [0.0, 0.0, 0.0], device=draw.device)
    axes = [(torch.arange(n, device=draw.device) - (n - 1) / 2) * COARSE_MM for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) - middle.view(3, 1, 1, 1)
    (cx, cy, cz), (sx, sy, sz) = (
        f(np.deg2rad([draw.uniform(*r.rotation_deg) for _ in "xyz"])) for f in (np.cos, np.sin)
    )
    rotation = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
    affine = rotation @ np.diag([1 / draw.uniform(*r.scale) for _ in "xyz"])
    points = torch.einsum("ij,jxyz->ixyz", torch.as_tensor(affine, dtype=torch.float32, device=draw.device), points)
    points += draw.vector(*r.shift_mm).view(3, 1, 1, 1)
    points += _warp(draw, shape, r.warp_mm, r.warp_length_mm)
    if any(r.fold_mm):
        points += _warp(draw.of("fold"), shape, r.fold_mm, r.fold_length_mm)
    return points


def move_ventricles(draw: Draw, ranges: Ranges, coords: torch.Tensor) -> torch.Tensor:
    """Move the walls of the lateral ventricles out (age, atrophy) or in (youth), by up to ``ventricle_mm``; by
    ``ventricle_skew`` of it more on one side and less on the other.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        The same; a voxel beside a ventricle looks up the atlas nearer to the ventricle where that grows.
    """
    if not any(ranges.ventricle_mm):
        return coords
    own = draw.of("ventricles")
    most_mm = own.uniform(*ranges.ventricle_mm)
    side = torch.tanh(to_mni(coords)[0] / COARSE_MM)  # -1 on the left, 1 on the right
    move_mm = most_mm * (1 - own.uniform(*ranges.ventricle_skew) * side)
    for _ in range(3):  # a single step of more than 7 mm would fold the atlas
        coords = coords + move_mm / 3 * sample_landmarks(coords, SLOPE)
    return coords


def strip_skull(draw: Draw, ranges: Ranges, coords: torch.Tensor, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """What skull-stripping leaves, of a head that no tumour has pushed: its surface is the skull's.

    Returns:
        (X, Y, Z) bool of the brain, less a rim of uneven depth (``strip_mm``) and, in some, bites out of it; and of
        what is left of dura, bone and fat outside it, in most nothing.
    """
    r = ranges
    depth = sample_atlas(refine(coords, frame), frame.step_mm, DEPTH)[0]
    cut = draw.uniform(*r.strip_mm)
    cut_at = (cut + min(cut, 1) * draw.field(depth.shape, 15 / frame.step_mm)).clamp_(0.5)
    own = draw.of("skull")
    brain = depth > cut_at
    stripped = ~brain
    if own.chance(r.bitten):
        bites = own.uniform(*r.bite_mm) * own.fractal(depth.shape, (50, 20), frame.step_mm).sub_(1.2).clamp_(0, 1)
        unclipped = refine(sample_landmarks(coords, INSIDE), frame)[0]  # depth ends at 8 mm
        brain &= torch.maximum(depth, unclipped) > cut_at + bites
    skull = torch.zeros_like(brain)
    if own.chance(r.leaves_skull):
        outside = refine(sample_landmarks(coords, OUTSIDE), frame)[0]
        patches = own.fractal(depth.shape, (40, 16), frame.step_mm) > own.uniform(0.3, 1.8)
        skull = patches & stripped & (outside < own.uniform(*r.skull_mm))
    for axis, whole in zip(frame.axes_mm(coords.device), frame.whole, strict=True):
        inside = axis.abs() < (whole - 2) / 2 * frame.step_mm  # background all around, even where a large head is cut
        brain &= inside
        skull &= inside
    return brain, skull


def sample_tissue(draw: Draw, ranges: Ranges, coords: torch.Tensor, frame: Frame) -> torch.Tensor:
    """The deformed anatomy within the frame, from atlas coordinates on the whole coarse grid.

    Returns:
        (3, X, Y, Z) fractions of CSF, grey and white matter, which add to 1 also outside the brain (the scanner
        does not know where the skull will be stripped).
    """
    gm, wm = sample_atlas(refine(coords, frame), frame.step_mm, TISSUE)
    csf = (1 - gm - wm).clamp_(0)
    if any(ranges.gyri):
        csf, gm, wm = _cut_gyri(draw.of("gyri"), ranges, coords, frame, csf, gm, wm)
    if any(ranges.ventricle_level):
        csf, gm, wm = _wall_ventricles(draw.of("walls"), ranges, coords, frame, csf, gm, wm)
    if ranges.csf_weight != (1, 1):
        csf *= draw.of("csf").ratio(*ranges.csf_weight)
    tissue = torch.stack([csf, gm, wm]).clamp_(1e-4) ** draw.uniform(*ranges.sharpness)
    return tissue / tissue.sum(0)


def _wall_ventricles(
    own: Draw,
    ranges: Ranges,
    coords: torch.Tensor,
    frame: Frame,
    csf: torch.Tensor,
    gm: torch.Tensor,
    wm: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the lateral ventricles walls: nothing but fluid within, no more than a voxel or two of transition.

    The average of many heads has blurred them, so that its ventricles are full of tissue at their edges.
    """
    level = own.uniform(*ranges.ventricle_level)
    csf, gm, wm = torch.stack([csf, gm, wm]) / (csf + gm + wm)  # gyri add to more than 1
    near = (refine(sample_landmarks(coords, NEAR), frame)[0] * 4 - 0.6).clamp_(0, 1)
    cavity = ((csf - level) * 4 + 0.5).clamp_(0, 1)
    fluid = csf + near * (cavity - csf)
    rest = (1 - fluid) / (1 - csf).clamp(min=1e-3)
    return fluid, gm * rest, wm * rest


def _cut_gyri(
    draw: Draw,
    ranges: Ranges,
    coords: torch.Tensor,
    frame: Frame,
    csf: torch.Tensor,
    gm: torch.Tensor,
    wm: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fold the cortex, which the average atlas has blurred: sulci where a noise is near 0, blades of WM far from 0.

    Only where the atlas has cortex: grey matter at most 22 mm below the surface.
    """
    strength = draw.uniform(*ranges.gyri)
    depth = refine(sample_landmarks(coords, INSIDE), frame)[0]
    cortex = (gm * 2).clamp_(max=1) * ((22 - depth) / 6).clamp_(0, 1) * strength
    fold = draw.fractal(gm.shape, (14, 7), frame.step_mm).abs_()
    sulci = cortex * (1 - fold / 0.35).clamp_(min=0)
    blades = cortex * (fold - 1).clamp_(0, 0.6)
    return csf + sulci, gm * (1 - blades), wm + blades


def brain_box(coords: torch.Tensor, step_mm: int) -> Frame:
    """The box around the brain, with a coarse voxel to spare."""
    inside = sample_atlas(coords, COARSE_MM, DEPTH)[0] > 0
    box = box_around(inside)
    start = [max(0, side.start - 1) for side in box]
    stop = [min(n, side.stop + 1) for n, side in zip(inside.shape, box, strict=True)]
    fine = COARSE_MM // step_mm
    return Frame(
        start=tuple(lo * fine for lo in start),
        shape=tuple((hi - lo) * fine for lo, hi in zip(start, stop, strict=True)),
        whole=tuple(n * fine for n in inside.shape),
        step_mm=step_mm,
    )


def box_around(mask: torch.Tensor) -> tuple[slice, ...]:
    """The smallest box that holds every voxel of a mask, which is not empty."""
    found = mask.nonzero()
    return tuple(slice(int(lo), int(hi) + 1) for lo, hi in zip(found.amin(0), found.amax(0), strict=True))


def refine(volume: torch.Tensor, frame: Frame) -> torch.Tensor:
    """(C, x, y, z) on the whole coarse grid -> (C, X, Y, Z) on the frame's voxels."""
    fine = COARSE_MM // frame.step_mm
    box = tuple(slice(a // fine, (a + n) // fine) for a, n in zip(frame.start, frame.shape, strict=True))
    return F.interpolate(volume[:, *box][None], size=frame.shape, mode="trilinear", align_corners=False)[0]


def _warp(
    draw: Draw, shape: list[int], amplitude_mm: tuple[float, float], length_mm: tuple[float, float]
) -> torch.Tensor:
    amplitude, length = draw.uniform(*amplitude_mm), draw.uniform(*length_mm) / COARSE_MM
    return amplitude * torch.stack([draw.field(shape, length) for _ in "xyz"])

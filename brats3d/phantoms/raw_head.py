"""The head around the brain of a phantom: meninges, skull, scalp, face and neck, as a map of materials.

Shapes are given in MNI coordinates (right, anterior, superior) and deformed with the head. They are rough: a scan must
be skull-stripped, but there is no anatomy to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from brats3d.phantoms.atlas import COARSE_MM, to_mni
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range
from brats3d.phantoms.volume_ops import blur

_LEAST_COARSE = (60, 68)
"""Least number of coarse voxels from right to left and from front to back."""

_BELOW, _ABOVE = 15, 6
"""Coarse voxels that the head needs below and above the grid of the case."""

_SURROUNDINGS: tuple[Range, ...] = ((0.3, 1.2), (0.7, 1.2), (5, 9))
"""Thickness in mm of the CSF outside the brain mask, which contains CSF already; of the dura, and of the skull."""

_TABLE_MM = 1.6
"""Thickness of the inner and of the outer table of the skull; marrow lies between them."""

_SKIN_MM = 1.8


class Material(IntEnum):
    """A material that a voxel of the head can consist of."""

    AIR = 0
    BRAIN = 1
    CSF = 2
    DURA = 3
    BONE = 4
    MARROW = 5
    MUSCLE = 6
    FAT = 7
    SKIN = 8
    EYE = 9
    CORD = 10


@dataclass(frozen=True, eq=False)
class RawHead:
    """A head on a canvas that contains the grid of the case.

    Args:
        materials: (X, Y, Z) uint8 of :class:`Material`.
        texture: (X, Y, Z) float32 unit noise.
        start: index in the canvas of the first voxel of the grid of the case.
    """

    materials: np.ndarray
    texture: np.ndarray
    start: tuple[int, ...]

    def part(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Return the part of the canvas that the grid of the case, of this shape, covers."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, shape, strict=True))


def build_head(rng: RandomStream, brain: np.ndarray, coords: torch.Tensor, voxel_mm: int) -> RawHead:
    """Build the head around a brain.

    Args:
        brain: (X, Y, Z) bool on the grid of the case.
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid of the same head.
        voxel_mm: edge of a voxel.
    """
    fine = COARSE_MM // voxel_mm
    margins = [((least - n) // 2,) * 2 for least, n in zip(_LEAST_COARSE, coords.shape[1:], strict=False)]
    margins.append((_BELOW, _ABOVE))
    mni = to_mni(_extend(coords, margins))
    shape = [n * fine for n in mni.shape[1:]]
    start = tuple(before * fine for before, _ in margins)
    inside = np.zeros(shape, bool)
    inside[tuple(slice(a, a + n) for a, n in zip(start, brain.shape, strict=True))] = brain
    texture = rng.fractal_noise(shape, (14, 6, 3), voxel_mm).numpy()

    to_brain = _distance_to_brain(inside, voxel_mm)
    layers_mm = [rng.uniform(*limits) for limits in _SURROUNDINGS]
    scalp_mm = rng.uniform(6, 9) + 8 * torch.exp(-_ellipsoid(mni, (70, 12, -8), (18, 30, 28)).square())  # temporal
    cranium = _resize(to_brain, mni.shape[1:]) - sum(layers_mm) - scalp_mm
    below_skin = -_resize(_union(cranium, *_face_and_neck(mni)), shape).numpy()
    materials = _soft_tissue(rng, mni, below_skin, texture)
    _add_skull(materials, to_brain.numpy(), layers_mm)
    _add_spine(materials, mni)
    materials[inside] = Material.BRAIN
    return RawHead(materials, texture, start)


def _extend(coords: torch.Tensor, margins: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Extend coordinates by coarse voxels before and after each axis; the displacement at the edges continues."""
    axes = [
        torch.arange(-before, n + after) * float(COARSE_MM)
        for n, (before, after) in zip(coords.shape[1:], margins, strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    part = tuple(slice(before, before + n) for n, (before, _) in zip(coords.shape[1:], margins, strict=True))
    displacement = coords - grid[:, *part]
    padding = [voxels for margin in reversed(margins) for voxels in margin]
    return F.pad(displacement[None], padding, mode="replicate")[0] + grid


def _distance_to_brain(inside: np.ndarray, voxel_mm: int) -> torch.Tensor:
    """Return the distance in mm of each voxel from the smoothed surface of the brain, (X, Y, Z); 0 inside."""
    step = max(1, 2 // voxel_mm)  # the surface is smooth, and a finer grid takes eight times as long
    mask = F.avg_pool3d(torch.from_numpy(inside)[None].float(), step)[0]
    hull = (mask > 0.5) | (blur(mask, [3 / (step * voxel_mm)] * 3) > 0.5)
    distance = ndimage.distance_transform_edt(~hull.numpy()).astype(np.float32) - 0.5
    smooth = blur(torch.from_numpy(distance), [0.7] * 3) * (step * voxel_mm)
    return _resize(smooth, inside.shape).clamp_(min=0)


def _face_and_neck(mni: torch.Tensor) -> list[torch.Tensor]:
    """Return the approximate distance in mm outside the face, the nose and the neck."""
    neck = (((mni[0] / 58) ** 2 + ((mni[1] + 22) / 62) ** 2).sqrt() - 1) * 58
    return [
        _ellipsoid(mni, (0, 38, -72), (60, 60, 78)) * 60,
        _ellipsoid(mni, (0, 98, -62), (15, 22, 24)) * 15,
        torch.maximum(neck, mni[2] + 50),
    ]


def _soft_tissue(rng: RandomStream, mni: torch.Tensor, below_skin: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Paint skin, fat, muscle, the eyes and the airways, as if there were no skull."""
    fat_mm = _SKIN_MM + rng.uniform(2, 4.5)
    ends = (0, _SKIN_MM, fat_mm)
    layers = np.array([Material.AIR, Material.SKIN, Material.FAT, Material.MUSCLE], np.uint8)
    materials = layers[sum((below_skin > end).view(np.uint8) for end in ends)]
    materials[(materials == Material.MUSCLE) & (texture > 1.2)] = Material.FAT  # between the muscles
    deep = below_skin > _SKIN_MM
    for shapes, material in (
        ([((32, 44, -36), (19, 30, 19))], Material.FAT),  # orbit
        ([((32, 58, -36), (12.5, 12.5, 12.5))], Material.EYE),
        (
            [((8, 70, -56), (6, 34, 22)), ((30, 58, -62), (12, 16, 15)), ((0, 12, -95), (11, 8, 45))],
            Material.AIR,  # nose, maxillary sinuses, pharynx
        ),
    ):
        distance = torch.stack([_ellipsoid(mni, *shape) for shape in shapes]).amin(0)
        materials[(_resize(distance, below_skin.shape).numpy() < 0) & deep] = material
    return materials


def _add_skull(materials: np.ndarray, to_brain: np.ndarray, layers_mm: Sequence[float]) -> None:
    """Paint the skull and what lies below it over the soft tissue."""
    csf, dura, bone = np.cumsum(layers_mm)
    for end, material in (
        (bone, Material.BONE),
        (bone - _TABLE_MM, Material.MARROW),
        (dura + _TABLE_MM, Material.BONE),
        (dura, Material.DURA),
        (csf, Material.CSF),
    ):
        materials[to_brain < end] = material


def _add_spine(materials: np.ndarray, mni: torch.Tensor) -> None:
    """Continue the brain stem as the spinal cord, in its canal of CSF, between bones."""
    radius = (mni[0] ** 2 + (mni[1] + 44) ** 2).sqrt() + (mni[2] + 62).clamp(min=0) * 10  # ends at the brain stem
    radius_mm = _resize(radius, materials.shape).numpy()
    body = _ellipsoid(mni, (0, -24, -130), (15, 13, 55))
    materials[_resize(body, materials.shape).numpy() < 0] = Material.MARROW
    for end, material in ((14, Material.BONE), (10, Material.CSF), (6, Material.CORD)):
        materials[radius_mm < end] = material


def _ellipsoid(mni: torch.Tensor, centre: Sequence[float], radii: Sequence[float]) -> torch.Tensor:
    """Return the distance outside an ellipsoid in units of its radii, on either side alike; negative inside."""
    x, y, z = ((side - c) / r for side, c, r in zip((mni[0].abs(), *mni[1:]), centre, radii, strict=True))
    return (x**2 + y**2 + z**2).sqrt() - 1


def _union(*distances_mm: torch.Tensor) -> torch.Tensor:
    """Return the distance outside a union of shapes, with corners rounded over about 6 mm."""
    return -6 * torch.logsumexp(torch.stack(distances_mm) / -6, 0)


def _resize(field: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Interpolate (x, y, z) to voxels of another size that cover the same space."""
    return F.interpolate(field[None, None], size=tuple(shape), mode="trilinear", align_corners=False)[0, 0]

"""Sub-classes of the tissues: coherent parts of grey matter, white matter, fluid and tumour with means of their own.

Real tissue is not one class: FetalSynthSeg (Zalevskyi et al. 2024, https://arxiv.org/abs/2411.06842) found that
splitting tissues into such classes is what lets synthetic training data transfer to other scanners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.atlas import COARSE_MM, MM_INSIDE, sample_landmarks
from brats3d.phantoms.brain_parts import deep_nuclei_mask, hindbrain_mask
from brats3d.phantoms.head import Head, refine
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.volume_ops import bounding_box

_PATCHES = 3
"""Classes of a tissue within one part of the brain."""

_PARTS = 5
"""Three layers of the cerebrum by depth, the deep nuclei, and the hindbrain: 5 x 3 classes of each healthy tissue."""


def add_tissue_classes(rng: RandomStream, setting: Setting, head: Head, images: Mapping[str, torch.Tensor]) -> None:
    """Add to each voxel the offset of its sub-class, in place.

    A voxel has the class of its most frequent tissue, and the offset is weighted with that tissue's fraction. T1ce has
    the offsets of T1, so that nothing but contrast agent makes the two differ.

    Args:
        images: sequence -> (X, Y, Z) brightness of the healthy head.
    """
    if not any(setting.class_spread):
        return
    depth = sample_landmarks(head.coords, MM_INSIDE)[0]
    depth = depth + 4 * rng.fractal_noise(depth.shape, (24, 12), COARSE_MM)
    maps = torch.stack([depth, deep_nuclei_mask(head.coords), hindbrain_mask(head.coords)])
    depth, deep, hindbrain = refine(maps, head.box)
    part = (depth > rng.uniform(3, 8)).to(torch.uint8) + (depth > rng.uniform(12, 24))
    part[deep > 0.5] = 3
    part[hindbrain > 0.5] = 4
    fraction, tissue = _most_frequent(head.tissue)
    number = (tissue * _PARTS + part) * _PATCHES + _draw_patches(rng, setting, part.shape, head.box.voxel_mm)
    for name, offset in _draw_offsets(rng, setting, number, 3 * _PARTS * _PATCHES).items():
        images[name] += offset * fraction


def split_tumour(
    rng: RandomStream, setting: Setting, fractions: torch.Tensor, voxel_mm: int
) -> tuple[tuple[slice, ...], dict[str, torch.Tensor]]:
    """Split each tissue of a tumour into sub-classes.

    Args:
        fractions: (K, X, Y, Z) fractions of the tumour's tissues.

    Returns:
        The box around the tumour, and sequence -> what to add in it; both are empty without a tumour or sub-classes.
    """
    visible = fractions.amax(0) > 1e-3
    if not any(setting.class_spread) or not visible.any():
        return (), {}
    box = bounding_box(visible)
    fraction, tissue = _most_frequent(fractions[:, *box])
    number = tissue * _PATCHES + _draw_patches(rng, setting, tissue.shape, voxel_mm)
    offsets = _draw_offsets(rng, setting, number, len(fractions) * _PATCHES)
    return box, {name: offset * fraction for name, offset in offsets.items()}


def _most_frequent(fractions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest of the fractions and its index, (X, Y, Z); several times faster than ``fractions.max(0)``."""
    largest = fractions[0]
    index = torch.zeros_like(largest, dtype=torch.uint8)
    for k, fraction in enumerate(fractions[1:], 1):
        index.masked_fill_(fraction > largest, k)
        largest = torch.maximum(largest, fraction)
    return largest, index


def _draw_patches(rng: RandomStream, setting: Setting, shape: Sequence[int], voxel_mm: int) -> torch.Tensor:
    """Divide a volume into irregular patches of :data:`_PATCHES` kinds, (X, Y, Z) uint8."""
    length_mm = rng.uniform(*setting.class_mm)
    low = rng.uniform(-0.6, 0)
    noise = rng.fractal_noise(shape, (length_mm, length_mm / 2, length_mm / 4), voxel_mm)
    return (noise > low).to(torch.uint8) + (noise > low + rng.uniform(0.2, 0.8))


def _draw_offsets(rng: RandomStream, setting: Setting, number: torch.Tensor, classes: int) -> dict[str, torch.Tensor]:
    """Draw the offset of each class in each sequence, at most two standard deviations from 0, and look it up."""
    spread = rng.uniform(*setting.class_spread)
    flat = number.flatten().int()
    t1, t2, flair = (
        (rng.white_noise((classes,)).clamp_(-2, 2) * spread).index_select(0, flat).view(number.shape) for _ in range(3)
    )
    return dict(zip(MODALITIES, (t1, t1, t2, flair), strict=True))

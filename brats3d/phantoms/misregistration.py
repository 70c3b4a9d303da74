"""Sequences that are shifted and rotated against each other, as patients move between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


@dataclass(frozen=True)
class Motion:
    """A small rigid motion.

    Args:
        shift_mm: (3,) along each axis.
        angle_deg: (3,) about each axis.
    """

    shift_mm: torch.Tensor
    angle_deg: torch.Tensor


def draw_misregistration(rng: RandomStream, setting: Setting) -> dict[str, Motion]:
    """Draw how the sequences have moved against the one that the label was drawn on, FLAIR or T1ce.

    Returns:
        Sequence -> motion, for the sequences that have moved.
    """
    reference = "flair" if rng.chance(0.5) else "t1ce"
    motions = {}
    for name in MODALITIES:
        if name != reference and rng.chance(setting.misregistered):
            direction = rng.vector(-1, 1)
            shift_mm = direction / direction.norm() * rng.uniform(*setting.misregistered_mm)
            motions[name] = Motion(shift_mm, rng.vector(*setting.misregistered_deg))
    return motions


def move_rigidly(image: torch.Tensor, motion: Motion, voxel_mm: int) -> torch.Tensor:
    """Shift and rotate an image about its middle.

    Three passes shift the lines along one axis each. For angles up to 1 degree this differs from a rotation by less
    than 0.1 mm in a head, and on a CPU it is three times as fast as ``grid_sample``.

    Args:
        image: (X, Y, Z).
        motion: a point shows what lay there before, displaced by shift plus angle x position.
        voxel_mm: edge of a voxel.
    """
    angle = motion.angle_deg * (math.pi / 180)
    axes = [torch.arange(n, device=image.device) - (n - 1) / 2 for n in image.shape]
    u = [axis.view([-1 if m == k else 1 for m in range(3)]) for k, axis in enumerate(axes)]
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        image = _shift_lines(image, k, motion.shift_mm[k] / voxel_mm + angle[a] * u[b] - angle[b] * u[a])
    return image


def _shift_lines(image: torch.Tensor, axis: int, shift: torch.Tensor) -> torch.Tensor:
    """Shift each line along an axis by its own number of voxels, with linear interpolation; edges are repeated."""
    low, high = math.floor(shift.min()), math.ceil(shift.max())
    length = image.shape[axis]
    padding = [0] * 6
    padding[4 - 2 * axis : 6 - 2 * axis] = max(0, -low), max(0, high)
    padded = F.pad(image[None], padding, mode="replicate")[0]
    shifted = torch.zeros_like(image)
    for whole in range(low, high + 1):
        weight = (1 - (shift - whole).abs()).clamp_(min=0)
        shifted.addcmul_(padded.narrow(axis, whole + max(0, -low), length), weight)
    return shifted

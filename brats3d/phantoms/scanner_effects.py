"""The scanner: bias field, blur, thick slices, ghosts, noise, gamma, ringing and units of one sequence."""

from __future__ import annotations

import numpy as np
import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range, Setting
from brats3d.phantoms.thick_slices import acquire_slices
from brats3d.phantoms.volume_ops import blur


def scan_image(
    case_rng: RandomStream,
    rng: RandomStream,
    setting: Setting,
    image: torch.Tensor,
    inside: torch.Tensor,
    voxel_mm: int,
) -> torch.Tensor:
    """Apply the scanner's effects to one sequence and convert it to whole numbers.

    Args:
        case_rng: the case's stream, shared by all sequences.
        rng: the sequence's own stream, for the steps that are off in the plain setting.
        image: (X, Y, Z) brightness.
        inside: (X, Y, Z) bool, what skull-stripping has left and the sequence covers.

    Returns:
        (X, Y, Z) float32 of whole numbers in the range of int16; 0 outside and nowhere inside.
    """
    image = image * torch.exp(case_rng.uniform(*setting.bias) * case_rng.smooth_noise(image.shape, 60 / voxel_mm))
    if case_rng.chance(setting.blurred):
        sigma_mm = [case_rng.uniform(*setting.blur_mm) for _ in "xyz"]
        sigma_mm[case_rng.integer(3)] = case_rng.uniform(*setting.blur_thick_mm)
        image = blur(image, [sigma / voxel_mm for sigma in sigma_mm])
    if rng.chance(setting.thick) | case_rng.substream("protocol").chance(setting.all_thick):
        image = acquire_slices(rng, setting, image, voxel_mm)
    if rng.chance(setting.ghosts):
        image = add_ghosts(rng, setting.ghost, image * inside)
    sigma = case_rng.uniform(*setting.noise)
    image = image + case_rng.white_noise(image.shape) * sigma
    if setting.rician:
        image = (image.square() + (rng.white_noise(image.shape) * sigma).square()).sqrt_()
    image = image.clamp_(1e-3) ** case_rng.uniform(*setting.gamma)
    lowest = 1
    if rng.chance(setting.rings):
        image, lowest = _add_ringing(rng, setting.ringing, image * inside), np.iinfo(np.int16).min
    mean = case_rng.log_uniform(*setting.brain_mean)
    image = image * (mean * inside.sum() / (image * inside).sum())
    image = image.round_().clamp_(lowest, np.iinfo(np.int16).max)
    return torch.where(image == 0, 1, image) * inside


def add_ghosts(rng: RandomStream, strength: Range, image: torch.Tensor) -> torch.Tensor:
    """Add weak copies shifted along the phase-encoding direction, as periodic motion causes them."""
    axis, shift = rng.integer(3), rng.integer(40) + 15
    for side in (-shift, shift):
        image = image + image.roll(side, axis) * rng.uniform(*strength) * (1 if rng.chance(0.5) else -1)
    return image


def _add_ringing(rng: RandomStream, strength: Range, image: torch.Tensor) -> torch.Tensor:
    """Overshoot at edges along one axis, as windowed-sinc and cubic interpolation do; the result may be negative."""
    axis = rng.integer(3)
    mean = (image.roll(1, axis) + image + image.roll(-1, axis)) / 3
    return image + (image - mean) * rng.uniform(*strength)

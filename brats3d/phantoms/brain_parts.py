"""Masks of parts of the brain, from their place in the atlas."""

from __future__ import annotations

import torch

from brats3d.phantoms.atlas import to_mni


def deep_nuclei_mask(coords: torch.Tensor) -> torch.Tensor:
    """Return where basal ganglia and thalamus lie, from 0 to 1, with an edge about 12 mm wide.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm.
    """
    x, y, z = to_mni(coords)
    inside = torch.sigmoid((33 - x.abs()) / 3)
    for axis, low, high in ((y, -34, 22), (z, -14, 20)):
        inside = inside * torch.sigmoid((axis - low) / 3) * torch.sigmoid((high - axis) / 3)
    return inside


def hindbrain_mask(coords: torch.Tensor) -> torch.Tensor:
    """Return where the cerebellum and the lower brain stem lie, from 0 to 1, at (3, x, y, z) atlas coordinates."""
    _, y, z = to_mni(coords)
    cerebellum = torch.sigmoid((-36 - y) / 4) * torch.sigmoid((-14 - z) / 4)
    stem = torch.sigmoid((-20 - z) / 4) * torch.sigmoid((-18 - y) / 4)
    return torch.maximum(cerebellum, stem)

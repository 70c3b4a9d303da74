"""Raw cases: a phantom as it comes from the scanner, before registration and skull-stripping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from nibabel.affines import apply_affine

from brats3d.labels import MODALITIES
from brats3d.phantoms.head import get_size
from brats3d.phantoms.named_settings import DEFAULT_SETTING, get_setting
from brats3d.phantoms.phantom import Phantom, PhantomTensors, make_phantom_tensors, uncrop_phantom
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.raw_head import Material, RawHead, build_head
from brats3d.phantoms.raw_scans import CLINICAL, Acquisition, add_scanner, draw_grid, draw_motions, scan_grid
from brats3d.phantoms.settings import OFF, Setting

_BRIGHTNESS: Mapping[Material, tuple[float, float, float, float]] = MappingProxyType(
    {
        Material.AIR: (0, 0, 0, 0),
        Material.DURA: (0.6, 1.2, 0.4, 0.5),
        Material.BONE: (0.1, 0.1, 0.08, 0.08),
        Material.MARROW: (0.9, 1.0, 0.7, 0.6),
        Material.MUSCLE: (0.65, 0.75, 0.4, 0.5),
        Material.FAT: (1.7, 1.7, 1.2, 1.1),
        Material.SKIN: (0.9, 1.0, 0.6, 0.7),
        Material.CORD: (1, 1, 1, 1),
    }
)
"""Brightness in T1, T1ce, T2 and FLAIR, relative to the mean of grey and white matter; the rest is fluid."""


@dataclass(frozen=True, eq=False)
class RawPhantom:
    """One synthetic case as acquired, and the same case as perfectly prepared.

    Args:
        prepared: the case in BraTS space, without thick slices and without errors of registration and skull-stripping.
        brain: (X, Y, Z) bool on the grid of ``prepared``.
        images: modality -> int16 voxels (x, y, z), and the (4, 4) affine, voxel -> RAS mm in the scanner.
        motions: modality -> (4, 4), RAS mm in BraTS space -> RAS mm in the scanner.
    """

    prepared: Phantom
    brain: np.ndarray
    images: dict[str, tuple[np.ndarray, np.ndarray]]
    motions: dict[str, np.ndarray]


def make_raw_phantom(
    seed: int,
    size: str = "full",
    device: str | torch.device = "cpu",
    setting: str | Setting = DEFAULT_SETTING,
    acquisition: Acquisition = CLINICAL,
) -> RawPhantom:
    """Make one raw case. The same seed on the same device makes the same voxels.

    Args:
        seed, size: see :func:`make_phantom`. Lengths of the acquisition are those of the files: in a small case a
            quarter of the head's.
        device: where to make the prepared case; the rest is made on the CPU.
        setting: see :func:`make_phantom`. The steps that imitate thick slices and errors of preparation are switched
            off, because the scans have slices of their own.
        acquisition: motion, grids and noise.

    Raises:
        UsageError: if size or setting is unknown or seed negative.
    """
    tensors = make_phantom_tensors(seed, size, device, _without_preparation(get_setting(setting)))
    prepared = uncrop_phantom(tensors, seed, size)
    brain = prepared.images["t1"] != 0
    rng = RandomStream(seed, torch.device("cpu")).substream("raw")
    head = build_head(rng.substream("head"), brain, tensors.coords.cpu(), get_size(size).voxel_mm)
    brain_mm = apply_affine(prepared.affine, np.argwhere(brain)[::20])
    motions = draw_motions(rng.substream("motion"), acquisition, brain_mm.mean(0))
    to_voxel = np.linalg.inv(prepared.affine)  # of the head's canvas
    to_voxel[:3, 3] += head.start
    images = {}
    for name, motion in motions.items():
        stream = rng.substream(f"scan {name}")
        grid = draw_grid(stream, acquisition, name, apply_affine(motion, brain_mm))
        volume, brightness = _brightness(prepared.images[name], tensors, head, name)
        image = scan_grid(volume, to_voxel @ np.linalg.inv(motion), grid)
        images[name] = add_scanner(stream, acquisition, image, brightness), grid.affine
    return RawPhantom(prepared, brain, images, motions)


def _without_preparation(setting: Setting) -> Setting:
    return replace(
        setting,
        strip_mm=OFF,
        bitten=0,
        leaves_skull=0,
        misregistered=0,
        partial=0,
        blurred=0,
        thick=0,
        all_thick=0,
        rings=0,
    )


def _brightness(image: np.ndarray, tensors: PhantomTensors, head: RawHead, name: str) -> tuple[np.ndarray, float]:
    """Return the brightness of each voxel of the head in one sequence, and that of grey and white matter."""
    k = MODALITIES.index(name)
    fluid, *matter = (float(tensors.image[k][tensors.tissue == tissue].median()) for tissue in (1, 2, 3))
    brightness = sum(matter) / 2
    table = np.full(len(Material), fluid, np.float32)
    for material, relative in _BRIGHTNESS.items():
        table[material] = brightness * relative[k]
    volume = table[head.materials] * (1 + 0.12 * head.texture)
    np.copyto(volume[head.part(image.shape)], image, where=image != 0)
    return volume, brightness

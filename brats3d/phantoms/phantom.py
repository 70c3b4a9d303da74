"""Synthetic BraTS cases made from an anatomical atlas: anatomy, deformation, tumour, contrast, scanner.

The atlas is the average of 152 healthy volunteers (ICBM 2009), so a case contains no patient's data. Everything after
the atlas is pure torch and runs on any device. docs/phantoms.md shows each step in pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brats3d.errors import UsageError
from brats3d.labels import MODALITIES
from brats3d.phantoms.atrophy import draw_atrophy
from brats3d.phantoms.cavity import resect
from brats3d.phantoms.contrast import draw_contrast
from brats3d.phantoms.head import (
    Box,
    Head,
    find_brain_box,
    get_size,
    move_ventricles,
    place_head,
    sample_tissue,
    strip_skull,
)
from brats3d.phantoms.named_settings import DEFAULT_SETTING, get_setting
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.satellites import add_satellites
from brats3d.phantoms.scan import scan_case
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import BLOOD, CORE, CYST, ENHANCING, grow_tumour
from brats3d.phantoms.tumour_focus import place_foci, push_tissue


@dataclass(frozen=True)
class Phantom:
    """One synthetic case in the form of BraTS 2020.

    Args:
        case_id: name of the case, one path component.
        images: modality -> int16 array (X, Y, Z); 0 outside the brain and nowhere inside; but a modality may be 0 in a
            part of the brain that it does not cover. A few voxels may be below 0, as after interpolation in BraTS.
        label: uint8 array (X, Y, Z) with the values 0, 1 (non-enhancing core), 2 (edema), 4 (enhancing).
        affine: (4, 4) voxel -> RAS millimetres, in BraTS's LPS voxel order.
        seed: ``make_phantom(seed)`` makes this case again.
    """

    case_id: str
    images: dict[str, np.ndarray]
    label: np.ndarray
    affine: np.ndarray
    seed: int


@dataclass(frozen=True)
class PhantomTensors:
    """A case as tensors on the device that it was made on, cropped to the box around its brain.

    Args:
        image: (4, X, Y, Z) float32 of whole numbers, in the order of MODALITIES; 0 outside the brain.
        label: (X, Y, Z) uint8 with BraTS 2020's values.
        tissue: (X, Y, Z) uint8, 1 where most is CSF, 2 grey matter, 3 white matter; 0 in the tumour and outside the
            brain.
        box: where the tensors lie in the grid of the case.
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid of the whole case, before the ventricles and
            the tumour move tissue.
    """

    image: torch.Tensor
    label: torch.Tensor
    tissue: torch.Tensor
    box: Box
    coords: torch.Tensor


def make_phantom(
    seed: int, size: str = "full", device: str | torch.device = "cpu", setting: str | Setting = DEFAULT_SETTING
) -> Phantom:
    """Make one case. The same seed on the same device makes the same voxels.

    Args:
        seed: any integer from 0.
        size: ``full`` (240 x 240 x 155 voxels of 1 mm) or ``small`` (48 x 48 x 40, for tests; see
            :data:`brats3d.phantoms.SIZES`).
        device: where to compute, such as ``"cuda"``.
        setting: a name in :data:`brats3d.phantoms.SETTINGS`, or a setting of your own.

    Raises:
        UsageError: if size or setting is unknown or seed negative.
    """
    return uncrop_phantom(make_phantom_tensors(seed, size, device, setting), seed, size)


def uncrop_phantom(tensors: PhantomTensors, seed: int, size: str) -> Phantom:
    """Return the case of :func:`make_phantom` that :func:`make_phantom_tensors` has made."""
    shape = get_size(size).shape
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return Phantom(
        case_id=f"phantom_{seed}",
        images={
            name: _uncrop(image.to(torch.int16), tensors.box, shape)
            for name, image in zip(MODALITIES, tensors.image, strict=True)
        },
        label=_uncrop(tensors.label, tensors.box, shape),
        affine=affine,
        seed=seed,
    )


def make_phantom_tensors(
    seed: int, size: str = "full", device: str | torch.device = "cpu", setting: str | Setting = DEFAULT_SETTING
) -> PhantomTensors:
    """Make the case of :func:`make_phantom` and leave it on the device, for training on cases made on the fly."""
    grid = get_size(size)
    if seed < 0:
        raise UsageError("seed", expected="an integer from 0", found=seed)
    setting = get_setting(setting)
    rng = RandomStream(seed, torch.device(device))
    setting = draw_atrophy(rng.substream("atrophy"), setting)
    low_grade = rng.chance(setting.low_grade)

    coords = place_head(rng, setting, grid)
    foci = place_foci(rng, setting, coords, low_grade)
    if rng.substream("healthy").chance(setting.healthy):
        foci = []
    box = find_brain_box(coords, grid.voxel_mm)
    brain, skull = strip_skull(rng, setting, coords, box)
    moved = push_tissue(move_ventricles(rng, setting, coords), foci)
    head = Head(box, brain, skull, sample_tissue(rng, setting, moved, box), moved)
    tumour = add_satellites(rng, setting, box, grow_tumour(rng, setting, head, foci, low_grade))
    head, tumour = resect(rng, setting, head, tumour, foci)
    images, label = scan_case(rng, setting, head, tumour, draw_contrast(rng, setting, low_grade))
    for tissue, value in ((CYST, CORE), (BLOOD, CORE), (ENHANCING, 4)):  # 4 is BraTS's label for ET
        label = torch.where(label == tissue, value, label)
    most = head.tissue.max(0).indices  # nine times as fast as argmax on a CPU
    healthy = (most + 1).to(torch.uint8) * (brain & (label == 0))
    return PhantomTensors(torch.stack(list(images.values())), label, healthy, box, coords)


def _uncrop(volume: torch.Tensor, box: Box, shape: Sequence[int]) -> np.ndarray:
    """Place the box in zeros of the case's shape."""
    grid = torch.zeros(box.grid_shape, dtype=volume.dtype)
    grid[tuple(slice(a, a + n) for a, n in zip(box.start, box.shape, strict=True))] = volume.cpu()
    return np.ascontiguousarray(grid[tuple(slice(n) for n in shape)].numpy())

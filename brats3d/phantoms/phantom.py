"""Synthetic BraTS cases grown from a real anatomical atlas: anatomy, deformation, tumour, contrast, acquisition.

The anatomy is the average of 152 healthy volunteers (ICBM 2009), so a case holds no patient's data. Everything after
the atlas is pure torch, on any device. docs/phantoms.md shows each step in pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brats3d.labels import MODALITIES
from brats3d.phantoms.head import (
    Frame,
    Head,
    brain_box,
    get_size,
    move_ventricles,
    place_head,
    sample_tissue,
    strip_skull,
)
from brats3d.phantoms.noise import Draw
from brats3d.phantoms.scan import acquire, contrast
from brats3d.phantoms.settings import DEFAULT_SETTING, Ranges, get_ranges
from brats3d.phantoms.tumour import BLOOD, CORE, CYST, ENHANCING, grow_tumour, place_tumour, push_tissue


@dataclass(frozen=True)
class Phantom:
    """One synthetic case, as BraTS 2020 would hold it.

    Args:
        case_id: name of the case, one path component.
        images: modality -> int16 array (X, Y, Z); 0 outside the brain and nowhere inside, in every modality. A few
            voxels may be below 0, as interpolation leaves them in BraTS.
        label: uint8 array (X, Y, Z) with the values 0, 1 (core that does not enhance), 2 (edema), 4 (enhancing).
        affine: (4, 4) voxel -> RAS millimetres, in BraTS's LPS voxel order.
        seed: ``make_phantom(seed)`` gives this case again.
    """

    case_id: str
    images: dict[str, np.ndarray]
    label: np.ndarray
    affine: np.ndarray
    seed: int


@dataclass(frozen=True)
class Grown:
    """A case on the device that it was made on, within the box around its head.

    Args:
        image: (4, X, Y, Z) float32 of whole numbers, in the order of MODALITIES; 0 outside the brain.
        label: (X, Y, Z) uint8 with BraTS 2020's values.
        frame: the box, within the grid of the case.
    """

    image: torch.Tensor
    label: torch.Tensor
    frame: Frame


def make_phantom(
    seed: int,
    size: str = "full",
    device: str | torch.device = "cpu",
    setting: str | Ranges = DEFAULT_SETTING,
) -> Phantom:
    """Make one case. The same seed on the same device gives the same voxels.

    Args:
        seed: any integer from 0.
        size: ``full`` (240 x 240 x 155 voxels of 1 mm) or ``small`` (48 x 48 x 40, for tests; see
            :data:`brats3d.phantoms.SIZES`).
        device: where to compute, such as ``"cuda"``.
        setting: a name in :data:`brats3d.phantoms.SETTINGS`, or ranges of one's own.

    Raises:
        ValueError: if size or setting is unknown or seed negative.
    """
    grown = grow_phantom(seed, size, device, setting)
    shape = get_size(size).shape
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return Phantom(
        case_id=f"phantom_{seed}",
        images={
            name: _paste(image.to(torch.int16), grown.frame, shape)
            for name, image in zip(MODALITIES, grown.image, strict=True)
        },
        label=_paste(grown.label, grown.frame, shape),
        affine=affine,
        seed=seed,
    )


def grow_phantom(
    seed: int,
    size: str = "full",
    device: str | torch.device = "cpu",
    setting: str | Ranges = DEFAULT_SETTING,
) -> Grown:
    """The same case as :func:`make_phantom`'s, left on the device: for training that makes its cases as it goes."""
    grid = get_size(size)
    check(seed >= 0, f"seed: expected an integer from 0, got {seed}")
    ranges = get_ranges(setting)
    draw = Draw(seed, torch.device(device))
    low_grade = draw.chance(ranges.low_grade)

    coords = place_head(draw, ranges, grid)
    foci = place_tumour(draw, ranges, coords, low_grade)
    if draw.of("healthy").chance(ranges.healthy):
        foci = []
    frame = brain_box(coords, grid.step_mm)
    brain, skull = strip_skull(draw, ranges, coords, frame)
    coords = push_tissue(move_ventricles(draw, ranges, coords), foci)
    head = Head(frame, brain, skull, sample_tissue(draw, ranges, coords, frame), coords)
    tumour = grow_tumour(draw, ranges, head, foci, low_grade)
    images = acquire(draw, ranges, head, tumour, contrast(draw, ranges, low_grade))

    label = tumour.tissue
    for tissue, value in ((CYST, CORE), (BLOOD, CORE), (ENHANCING, 4)):  # BraTS's ET is 4
        label = torch.where(label == tissue, value, label)
    return Grown(torch.stack(list(images.values())), label, frame)


def _paste(volume: torch.Tensor, frame: Frame, shape: Sequence[int]) -> np.ndarray:
    """Put the box back into zeros of the case's shape."""
    whole = torch.zeros(frame.whole, dtype=volume.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(frame.start, frame.shape, strict=True))] = volume.cpu()
    return np.ascontiguousarray(whole[tuple(slice(n) for n in shape)].numpy())


def check(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)

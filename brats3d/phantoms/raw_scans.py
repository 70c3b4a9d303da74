"""Raw scans of a head: the patient's position and motion, and each sequence on a grid of its own.

Millimetres are those of the files. The scanner's space is RAS+, as an affine of NIfTI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from scipy import ndimage

from brats3d.labels import MODALITIES
from brats3d.phantoms.head import draw_rotation
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range
from brats3d.phantoms.volume_ops import resize


@dataclass(frozen=True)
class Acquisition:
    """The acquisition of raw scans. A range is drawn from uniformly; a single number is a probability.

    The defaults are a clinical protocol: thick slices, and often a 3-D T1ce.
    """

    position_mm: Range = (-12, 12)  # of the head's middle, along each axis
    position_deg: Range = (-8, 8)  # about each axis
    motion_mm: Range = (-4, 4)  # between sequences, in addition
    motion_deg: Range = (-3, 3)
    tilt_deg: Range = (-8, 8)  # of the slices against the scanner, about each axis
    in_plane_mm: Range = (0.8, 1.0)
    slice_mm: Range = (4, 6)
    gap_mm: Range = (0, 1)
    sagittal_t1ce: float = 0.6  # chance that T1ce is a sagittal 3-D scan of 1 mm
    coronal: float = 0.15  # chance, per sequence, of thick coronal instead of axial slices
    coil: Range = (0.05, 0.15)  # relative standard deviation of the brightness over the image
    noise: Range = (0.008, 0.025)  # relative to the brightness of white and grey matter


CLINICAL = Acquisition()


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a raw scan.

    Args:
        shape: number of voxels along each axis; the last one counts slices.
        affine: (4, 4) voxel -> RAS mm.
        thickness: of a slice, as a fraction of the distance between slices.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    thickness: float


_PLANES: Mapping[str, np.ndarray] = MappingProxyType(
    {
        "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]]),
        "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]]).T,
        "sagittal": np.array([[0, -1, 0], [0, 0, -1], [-1, 0, 0]]).T,
    }
)
"""Directions of columns, rows and slices in RAS, one column each: LPS, LIP and PIL."""

_COVERAGE: Mapping[str, float] = MappingProxyType({"axial": 1.12, "coronal": 1.2, "sagittal": 1.35})
"""Extent of all slices together, relative to that of the brain."""


def draw_motions(rng: RandomStream, acquisition: Acquisition, middle_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Draw where the head lies in each sequence.

    Args:
        middle_mm: (3,) RAS mm, the middle of the head in BraTS space. It comes to lie near the scanner's origin.

    Returns:
        Modality -> (4, 4), RAS mm in BraTS space -> RAS mm in the scanner.
    """
    turn, shift = draw_rotation(rng, acquisition.position_deg), rng.vector(*acquisition.position_mm).numpy()
    motions = {}
    for name in MODALITIES:
        motion = np.eye(4)
        motion[:3, :3] = draw_rotation(rng, acquisition.motion_deg) @ turn
        motion[:3, 3] = shift + rng.vector(*acquisition.motion_mm).numpy() - motion[:3, :3] @ middle_mm
        motions[name] = motion
    return motions


def draw_grid(rng: RandomStream, acquisition: Acquisition, name: str, brain_mm: np.ndarray) -> Grid:
    """Draw the grid of a sequence, as planned on the head in the scanner.

    Args:
        name: the modality.
        brain_mm: (N, 3) RAS mm in the scanner, points of the brain.
    """
    thin = name == "t1ce" and rng.chance(acquisition.sagittal_t1ce)
    plane = "sagittal" if thin else "coronal" if rng.chance(acquisition.coronal) else "axial"
    directions = draw_rotation(rng, acquisition.tilt_deg) @ _PLANES[plane]
    in_plane, thickness = round(rng.uniform(*acquisition.in_plane_mm), 2), round(rng.uniform(*acquisition.slice_mm), 1)
    gap = round(rng.uniform(*acquisition.gap_mm), 1)
    spacing = np.array([1.0, 1.0, 1.0] if thin else [in_plane, in_plane, thickness + gap])
    along = brain_mm @ directions
    low, high = along.min(0), along.max(0)
    view = (high - low) * _COVERAGE[plane]
    view[:2] = (high - low)[:2].max() * 1.4
    shape = tuple(int(n) for n in np.ceil(view / spacing))
    first = (low + high) / 2 - (np.array(shape) - 1) / 2 * spacing
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = directions @ first
    return Grid(shape, affine, 1.0 if thin else thickness / spacing[2])


def scan_grid(volume: np.ndarray, to_voxel: np.ndarray, grid: Grid) -> np.ndarray:
    """Average a volume over the slices of a grid.

    Args:
        volume: (X, Y, Z) brightness; 0 beyond its edges.
        to_voxel: (4, 4) RAS mm in the scanner -> voxel of the volume.
        grid: the grid.

    Returns:
        float32 in the shape of the grid.
    """
    matrix = to_voxel @ grid.affine
    layers = max(1, round(float(np.linalg.norm(matrix[:3, 2])) * grid.thickness))  # one for each voxel that it crosses
    image = np.zeros(grid.shape, np.float32)
    for offset in ((np.arange(layers) + 0.5) / layers - 0.5) * grid.thickness:
        shift = matrix[:3, 3] + matrix[:3, 2] * offset
        image += ndimage.affine_transform(volume, matrix[:3, :3], shift, grid.shape, order=1)
    return image / layers


def add_scanner(rng: RandomStream, acquisition: Acquisition, image: np.ndarray, brightness: float) -> np.ndarray:
    """Add the uneven sensitivity of the coil and the noise of a magnitude image.

    Args:
        brightness: of white and grey matter.

    Returns:
        int16 in the shape of the image.
    """
    field = resize(rng.white_noise((4, 4, 4)), image.shape)
    signal = torch.from_numpy(image) * torch.exp(field * rng.uniform(*acquisition.coil))
    sigma = brightness * rng.uniform(*acquisition.noise)
    real, imaginary = (rng.white_noise(image.shape) * sigma for _ in range(2))
    return ((signal + real).square() + imaginary.square()).sqrt().round().clamp(max=32767).to(torch.int16).numpy()

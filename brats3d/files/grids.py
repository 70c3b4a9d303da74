"""Compare the grids of files, and swap and flip axes. Nothing is resampled."""

from __future__ import annotations

import numpy as np

from brats3d.files.volume import Header, Volume

AFFINE_TOLERANCE_MM = 1e-3
"""Largest difference of a voxel's edges between two files on the same grid."""

ORIGIN_TOLERANCE_MM = 0.05
"""Largest difference of the origins of two files on the same grid. Some programs write headers with one decimal; the
score of a segmentation does not depend on a twentieth of a voxel."""


def same_grid(a: Header, b: Header) -> bool:
    """Return True if two files have the same shape, and the same affine within the tolerances."""
    off = np.abs(a.affine - b.affine)[:3]
    is_near = off[:, :3].max() <= AFFINE_TOLERANCE_MM and off[:, 3].max() <= ORIGIN_TOLERANCE_MM
    return a.shape == b.shape and bool(is_near)


def reorientation(header: Header, expected: Header) -> np.ndarray | None:
    """Return the flips and axis swaps that bring a file onto a grid.

    Returns:
        nibabel's orientation transform, shape (3, 2); None if flips and swaps are not enough.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation, ornt_transform

    change = ornt_transform(io_orientation(header.affine), io_orientation(expected.affine))
    shape = tuple(header.shape[int(axis)] for axis in np.argsort(change[:, 0]))
    moved = Header(header.path, shape, header.affine @ inv_ornt_aff(change, header.shape), header.dtype, None)
    return np.asarray(change) if same_grid(moved, expected) else None


def to_grid(volume: Volume, expected: Header) -> np.ndarray | None:
    """Return the voxels of a volume on a grid, with axes swapped and flipped where needed.

    Returns:
        Shape ``expected.shape``; None if the volume would have to be resampled.
    """
    from nibabel.orientations import apply_orientation

    change = reorientation(volume.header, expected)
    return None if change is None else np.asarray(apply_orientation(volume.values, change))


def format_affine(affine: np.ndarray) -> str:
    """Format the first three rows of an affine on one line."""
    return "[" + ", ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3]) + "]"


def to_lps(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Reorder and flip the axes of a volume (x, y, z) so that they point towards L, P and S."""
    from nibabel.orientations import apply_orientation

    return np.ascontiguousarray(apply_orientation(volume, _turn_to_lps(affine)))


def lps_axes(affine: np.ndarray) -> list[int]:
    """Return the axes of a file that run along left-right, anterior-posterior and inferior-superior."""
    return [int(axis) for axis in np.argsort(_turn_to_lps(affine)[:, 0])]


def _turn_to_lps(affine: np.ndarray) -> np.ndarray:
    """Return nibabel's orientation transform (3, 2) to LPS."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    return np.asarray(ornt_transform(io_orientation(affine), axcodes2ornt("LPS")))

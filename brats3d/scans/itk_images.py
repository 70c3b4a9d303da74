"""Volumes as SimpleITK images, and sampling them elsewhere. Points are in ITK's LPS millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats3d.files import Header, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Points in mm: nibabel's RAS -> ITK's LPS."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a volume in space.

    Args:
        shape: three voxel counts.
        affine: (4, 4), voxel index -> RAS mm.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @classmethod
    def of(cls, header: Header) -> Grid:
        """Return the grid of a file."""
        return cls(header.shape, header.affine)

    def to_itk(self, values: np.ndarray) -> Any:
        """Return a ``SimpleITK.Image`` of voxels on this grid, shape (x, y, z); bool becomes uint8."""
        import SimpleITK as sitk

        values = values.astype(np.uint8) if values.dtype == bool else values
        image = sitk.GetImageFromArray(np.ascontiguousarray(values.T.astype(values.dtype.newbyteorder("="))))
        lps = RAS_TO_LPS @ self.affine
        spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing_mm.tolist())
        image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image


def float_image(volume: Volume) -> Any:
    """Return a volume as a ``SimpleITK.Image`` of float32."""
    return Grid.of(volume.header).to_itk(np.asarray(volume.values, np.float32))


def voxels(image: Any) -> np.ndarray:
    """Return the voxels of a ``SimpleITK.Image``, shape (x, y, z)."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image).T


def resample(image: Any, grid: Grid, transform: Any, interpolator: str = "linear") -> Any:
    """Sample an image on another grid; 0 outside its field of view.

    Args:
        image: the ``SimpleITK.Image``.
        grid: the grid to sample on.
        transform: maps points of the grid to points of the image.
        interpolator: ``"linear"`` or ``"cubic"`` (B-splines).
    """
    import SimpleITK as sitk

    reference = grid.to_itk(np.zeros(grid.shape, np.uint8))
    kind = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}[interpolator]
    return sitk.Resample(image, reference, transform, kind, 0.0, image.GetPixelID())


def isotropic(image: Any, spacing_mm: float) -> Any:
    """Sample an image at an isotropic spacing, in its own field of view and orientation."""
    import SimpleITK as sitk

    size, old_mm = np.array(image.GetSize()), np.array(image.GetSpacing())
    new_size = np.ceil(size * old_mm / spacing_mm).astype(int)
    margin = ((size - 1) * old_mm - (new_size - 1) * spacing_mm) / 2
    origin = image.TransformContinuousIndexToPhysicalPoint((margin / old_mm).tolist())
    spacing: Sequence[float] = [spacing_mm] * 3
    return sitk.Resample(
        image, new_size.tolist(), sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(), 0.0
    )

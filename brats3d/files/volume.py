"""Volumes and their headers, independent of the file format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError

MAX_VOXELS = 2**28
"""Largest volume to read: 30 times BraTS's 240 x 240 x 155, or a whole head at 0.35 mm. Four such sequences take 4 GiB
in float32, and a few times that during preprocessing. A file of 250 kB can unpack to such a volume of zeros."""

MAX_BYTES = 2**31
"""Largest size of the stored voxels of a file: :data:`MAX_VOXELS` in float64."""

EXPECTED = "one 3-D volume in NIfTI, NRRD, MetaImage or MGH format"

DOWNLOAD = "download it again"


@dataclass(frozen=True)
class Note:
    """An assumption that was needed to read a file.

    Args:
        kind: ``"no affine"`` (the orientation is a guess), ``"invalid sform"`` (the qform is used), ``"one frame"``
            (a fourth axis of length 1 was dropped) or ``"NaN background"`` (read as 0).
        text: what was found and what was assumed, on one line.
    """

    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Header:
    """The header of an image file.

    Args:
        path: the file.
        shape: three voxel counts.
        affine: (4, 4), voxel index -> mm.
        dtype: dtype of the stored voxels, with byte order.
        nifti: nibabel's NIfTI header, made from the other fields if the file has another format.
        notes: assumptions about the file.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype
    nifti: Any
    notes: tuple[Note, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along the three axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True, eq=False)
class Volume:
    """The header and the voxels of a file.

    Args:
        header: the header.
        values: shape (x, y, z), x varies fastest; in the stored dtype unless the header scales the values. Read-only.
    """

    header: Header
    values: np.ndarray


def spatial_shape(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Note, ...]]:
    """Return the first three voxel counts, with a note if axes of length 1 follow.

    Raises:
        DataError: if the volume is not 3-D.
    """
    if len(shape) > 3 and set(shape[3:]) == {1}:
        return shape[:3], (Note("one frame", f"has shape {shape}; read as {shape[:3]}"),)
    if len(shape) != 3:
        advice = ""
        if len(shape) == 4 and shape[0] == 1:
            advice = "save it without its first axis: nibabel.Nifti1Image(image.dataobj[0], image.affine)"
        elif len(shape) == 4:
            advice = f"write each frame to a file of its own, the first one with nib-roi -t 0:1 {path.name} OUT.nii.gz"
        expected = "3-D: one file for each sequence"
        raise DataError(path, f"is {len(shape)}-D, of shape {shape}", expected=expected, advice=advice)
    return shape, ()


def check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise a DataError unless a volume has voxels, all numbers, and no more than a computer can hold."""
    problem = f"has shape {shape} and voxels of type {dtype}"
    if min(shape) < 1 or dtype.kind not in "iuf":
        raise DataError(path, problem, expected=f"{EXPECTED} with integer or float voxels")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if count > MAX_VOXELS or size > MAX_BYTES:
        problem += f": {count:,} voxels in {size:,} bytes"
        raise DataError(path, problem, expected=f"at most {MAX_VOXELS:,} voxels and {MAX_BYTES:,} bytes")


def is_invertible(affine: np.ndarray | None) -> bool:
    """Return True if an affine places each voxel at a point of its own; False for None."""
    if affine is None or not np.isfinite(affine).all():
        return False
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(edges_mm.min() > _MIN_EDGE_MM and abs(np.linalg.det(affine[:3, :3])) > _MIN_VOLUME * edges_mm.prod())


_MIN_EDGE_MM = 1e-4  # headers in metres have edges of about 1e-3

_MIN_VOLUME = 1e-6  # of a voxel, as a fraction of the product of its edges

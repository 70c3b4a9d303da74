"""Read NRRD and MetaImage files with SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.files.nifti_header import guessed_orientation, make_header
from brats3d.files.volume import EXPECTED, Header, Volume, spatial_shape

ITK_ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")


def read_itk_header(path: Path) -> Header:
    """Read the header of an NRRD or MetaImage file, without its voxels.

    Raises:
        DataError: if it is not a 3-D volume with one number per voxel.
        RuntimeError: if it is damaged.
    """
    return _open(path)[1]


def read_itk(path: Path) -> Volume:
    """Read an NRRD or MetaImage file.

    Raises:
        DataError, RuntimeError: as :func:`read_itk_header`.
    """
    import SimpleITK as sitk

    reader, header = _open(path)
    values = sitk.GetArrayFromImage(reader.Execute())  # (z, y, x), or with a first axis of length 1
    return Volume(header, values.reshape(header.shape[::-1]).T)


def _open(path: Path) -> tuple[Any, Header]:
    import SimpleITK as sitk  # slow to import

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if (numbers := reader.GetNumberOfComponents()) != 1:
        raise DataError(path, f"has {numbers} numbers in each voxel", expected=EXPECTED)
    shape, notes = spatial_shape(path, tuple(reader.GetSize()))
    n = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (n, n))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * reader.GetSpacing()[:3]
    affine[:3, 3] = reader.GetOrigin()[:3]
    affine = np.diag([-1, -1, 1, 1]) @ affine  # ITK's axes point to L and P, NIfTI's to R and A
    if not _states_orientation(path):
        notes += (guessed_orientation("the header does not state it", affine),)
    dtypes = {getattr(sitk, f"sitk{name}"): np.dtype(name.lower()) for name in _DTYPES}
    dtype = dtypes.get(reader.GetPixelID())
    if dtype is None:
        found = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise DataError(path, f"has voxels of type {found}", expected=f"{EXPECTED} with integer or float voxels")
    return reader, make_header(path, shape, affine, dtype, notes)


_DTYPES = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64")

_HEAD_BYTES = 1 << 16


def _states_orientation(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        return b"\nspace:" in head and b"\nspace directions:" in head
    return any(b"\n" + key in head for key in (b"TransformMatrix", b"Rotation", b"Orientation"))

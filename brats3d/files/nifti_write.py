"""Write NIfTI files: volumes, and segmentations with the geometry of another file."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np

from brats3d.errors import DataError
from brats3d.files.atomic_write import Writer, flush_file, write_whole
from brats3d.files.nifti import read_header

MARK = "brats3d segmentation"
"""Start of the header's ``descrip`` field in our segmentations; the name of the label convention follows."""


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file and flush it to the disk. This is not atomic: write into a folder that is renamed later.

    Args:
        path: a name that ends in ``.nii`` or ``.nii.gz``.
        array: voxel values, in the dtype to store.
        affine: (4, 4), voxel -> RAS millimetres; stored as sform and as qform.
    """
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)  # nibabel compresses with gzip level 1
    flush_file(path)


def write_segmentation(
    path: str | Path, label: np.ndarray, like: str | Path, convention: str = "", write: Writer = write_whole
) -> Path:
    """Write a label volume with the geometry of another file: shape, affine, orientation and space codes.

    Args:
        path: the ``.nii.gz`` file.
        label: integer voxel values, shape (H, W, D).
        like: the NIfTI file with the geometry. Its voxels are not read.
        convention: name of the label convention, stored in the header.
        write: writes the file.

    Returns:
        The path.

    Raises:
        DataError: if the shapes differ.
    """
    reference = nib.load(like)
    if label.shape != reference.shape:
        raise DataError(path, expected=f"the shape of {like}, {reference.shape}", found=label.shape)
    header = reference.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    mark = f"{MARK}, {convention}" if convention else MARK
    header["descrip"], header["aux_file"] = mark.encode(), b""  # free text of the input could name a patient
    header.extensions.clear()
    image = nib.Nifti1Image(np.ascontiguousarray(label, dtype=np.uint8), reference.affine, header)
    # Level 1 is ten times as fast as level 9, and the files are a few kB larger. mtime 0 makes output reproducible.
    return write(Path(path), lambda file: file.write(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)))


def marked_convention(path: Path) -> str | None:
    """Return the label convention in the header of a segmentation that brats3d wrote; None for other files."""
    text = bytes(read_header(path).nifti["descrip"].item()).decode("ascii", "replace")
    match = re.fullmatch(rf"{MARK}, ([\w-]+)", text.rstrip("\0 "))
    return match[1] if match else None

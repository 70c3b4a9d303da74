"""NIfTI files written: volumes, and segmentations in the space of another file."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np

from brats3d.files.atomic import flush_file, write_whole
from brats3d.files.nifti import read_header


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file and flush it to the disk. It is not renamed: its folder is what appears whole.

    Args:
        path: named ``.nii`` or ``.nii.gz``.
        array: of the dtype to be stored.
        affine: (4, 4), voxel -> RAS millimetres, kept as sform and as qform.
    """
    import nibabel as nib  # here, since it takes a third of a second

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)  # nibabel's gzip level is 1
    flush_file(path)


MARK = "brats3d segmentation"
"""How the header of a segmentation of ours begins; the name of the label convention follows."""


def write_segmentation(path: str | Path, label: np.ndarray, like: str | Path, convention: str = "") -> Path:
    """Write a label volume with the geometry of another file: same shape, affine, orientation and space codes.

    Args:
        path: of the ``.nii.gz``.
        label: integer voxel values, shape (H, W, D).
        like: the NIfTI file that gives the geometry; its voxels are not read.
        convention: what the values mean, which the header then says.

    Returns:
        The path.

    Raises:
        ValueError: if the shapes differ.
    """
    reference = nib.load(like)
    if label.shape != reference.shape:
        raise ValueError(f"{path}: expected the shape of {like}, {reference.shape}, got {label.shape}")
    header = reference.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    mark = f"{MARK}, {convention}" if convention else MARK
    header["descrip"], header["aux_file"] = mark.encode(), b""  # free text of the input, which may name a patient
    header.extensions.clear()
    image = nib.Nifti1Image(np.ascontiguousarray(label, dtype=np.uint8), reference.affine, header)
    # Level 1 writes labels ten times faster than level 9 and a few kB larger; mtime 0 makes equal input equal bytes.
    return write_whole(path, lambda file: file.write(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)))


def marked_convention(path: Path) -> str | None:
    """The label convention that brats3d has written into a segmentation's header; None where there is none."""
    text = bytes(read_header(path).nifti["descrip"].item()).decode("ascii", "replace")
    match = re.fullmatch(rf"{MARK}, ([\w-]+)", text.rstrip("\0 "))
    return match[1] if match else None

"""Write NIfTI files: volumes, and segmentations with the geometry of another file."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from brats3d.errors import DataError
from brats3d.files.atomic_write import Writer, flush_file, write_whole
from brats3d.files.read_image import read_header
from brats3d.files.volume import Header

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


def nifti_image(values: np.ndarray, header: Header) -> nib.Nifti1Image:
    """Return nibabel's image of a volume: NIfTI-2 if the file is, else NIfTI-1.

    Args:
        values: voxels, shape (x, y, z).
        header: the header. Its scale and the place of its voxels are not used.
    """
    kind = nib.Nifti2Image if isinstance(header.nifti, nib.Nifti2Header) else nib.Nifti1Image
    nifti = header.nifti.copy()
    nifti.set_data_offset(0)
    nifti.set_slope_inter(None, None)
    return kind(values, header.affine, nifti)


def write_segmentation(
    path: str | Path, label: np.ndarray, like: str | Path | Header, convention: str = "", write: Writer = write_whole
) -> Path:
    """Write a label volume with the geometry of another file: shape, affine, orientation and space codes.

    Args:
        path: the ``.nii.gz`` file.
        label: integer voxel values, shape (H, W, D).
        like: the image with the geometry, whose voxels are not read, or its header.
        convention: name of the label convention, stored in the header.
        write: writes the file.

    Returns:
        The path.

    Raises:
        DataError: if the shapes differ, or the header of ``like`` cannot be read.
    """
    reference = like if isinstance(like, Header) else read_header(Path(like))
    if label.shape != reference.shape:
        raise DataError(path, expected=f"the shape of {reference.path}, {reference.shape}", found=label.shape)
    header = reference.nifti.copy()
    header.set_data_dtype(np.uint8)
    header.set_data_offset(0)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    mark = f"{MARK}, {convention}" if convention else MARK
    header["descrip"], header["aux_file"] = mark.encode(), b""  # free text of the input could name a patient
    header.extensions.clear()
    image = nib.Nifti1Image(np.ascontiguousarray(label, dtype=np.uint8), reference.affine, header)
    # Level 1 takes 1 ms, the default of isa-l 14. mtime 0 makes output reproducible.
    return write(Path(path), lambda file: file.write(igzip.compress(image.to_bytes(), compresslevel=1, mtime=0)))


def marked_convention(path: Path) -> str | None:
    """Return the label convention in the header of a segmentation that brats3d wrote; None for other files."""
    text = bytes(read_header(path).nifti["descrip"].item()).decode("ascii", "replace")
    match = re.fullmatch(rf"{MARK}, ([\w-]+)", text.rstrip("\0 "))
    return match[1] if match else None

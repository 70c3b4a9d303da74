"""Names of image files: the endings of the formats that :func:`brats3d.files.read_volume` reads."""

from __future__ import annotations

from pathlib import Path

IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr", ".hdr.gz")
"""NIfTI, MetaImage, NRRD, FreeSurfer's MGH, and NIfTI in two files. The voxels of a ``.hdr``, ``.mhd`` or ``.nhdr``
file are in a second file (``.img``, ``.raw``), which is not an image of its own."""


def image_ending(name: str) -> str:
    """Return the ending of an image file's name as written, such as ``.nii.gz``; empty for other files."""
    return next((name[-len(ending) :] for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")


def is_image_name(name: str) -> bool:
    """Return True if a file's name ends like that of an image, in any case."""
    return bool(image_ending(name))


def has_nifti_name(path: Path) -> bool:
    """Return True if a file's name ends in ``.nii`` or ``.nii.gz``: NIfTI in one file."""
    return image_ending(path.name).lower() in (".nii", ".nii.gz")


def strip_image_ending(name: str) -> str:
    """Return a file's name without its image ending; other names are returned unchanged."""
    return name[: len(name) - len(image_ending(name))]

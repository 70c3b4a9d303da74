"""Formats of medical images and archives that brats3d does not read, and what to do with each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OtherFormat:
    """A format that is not read.

    Args:
        name: its name in the plural.
        pattern: matches the names of its files, in lower case.
        advice: how to convert them.
    """

    name: str
    pattern: str
    advice: str


_CODE = "load them with Python and save them as NIfTI with nibabel, with their affine"

OTHER_FORMATS = (
    OtherFormat(
        "archives",
        r".*\.(zip|tar|tar\.(gz|xz|bz2|zst)|tgz|7z|rar)|.*\.(nii|mha|nrrd|dcm)\.(bz2|xz|zst)",
        "unpack them, and pass the folder of the images",
    ),
    OtherFormat(
        "unfinished downloads",
        r".*\.(gz|nii|mha|nrrd|mgz|zip|tar)\.(part|partial|crdownload|download|filepart|aria2)",
        "download them again",
    ),
    OtherFormat(
        "DICOM files",
        r".*\.(dcm|dicom|ima)|dicomdir|(mr\.)?1\.[23]\.840\..*|mr[0-9.]+|(im|img|i|image)[-_.]?\d{1,8}",
        'prepare them with brats3d prepare, which needs pip install "brats3d[scans]"',
    ),
    OtherFormat("HDF5 files", r".*\.(h5|hdf5)", _CODE),
    OtherFormat("NumPy arrays", r".*\.np[yz]", _CODE),
    OtherFormat("MATLAB files", r".*\.mat", _CODE),
    OtherFormat("MINC files", r".*\.mnc(\.gz)?", "convert them with mnc2nii"),
    OtherFormat("Philips PAR/REC files", r".*\.(par|rec)", "convert them with dcm2niix"),
    OtherFormat("AFNI files", r".*\.(head|brik(\.gz)?)", "convert them with 3dAFNItoNIFTI"),
    OtherFormat("Analyze files (.img) without headers", r".*\.img(\.gz)?", "add the .hdr file of each .img file"),
    OtherFormat(
        "pictures",
        r".*\.(png|jpe?g|tiff?|bmp)",
        "use the volumes that they were made from: pictures lack the scale",
    ),
)
"""In the order in which a message lists them."""


def other_format_of(name: str) -> OtherFormat | None:
    """Return the format of a file that brats3d does not read, from its name; None for all other files."""
    return next((each for each in OTHER_FORMATS if re.fullmatch(each.pattern, name.lower())), None)


def is_other_volume(name: str) -> bool:
    """Return True for files of a format that is not read and holds volumes: not for pictures."""
    other = other_format_of(name)
    return other is not None and other.name not in ("pictures", "Analyze files (.img) without headers")


def count_other_formats(names: Sequence[str]) -> Mapping[OtherFormat, list[str]]:
    """Return the files of each format that is not read."""
    found: dict[OtherFormat, list[str]] = {each: [] for each in OTHER_FORMATS}
    for name in names:
        if other := other_format_of(name):
            found[other].append(name)
    return {other: files for other, files in found.items() if files}

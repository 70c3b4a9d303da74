"""The volumes of a case as NIfTI files in memory, in a form that niivue reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from isal import igzip

from brats3d.cases import check_labels, whole_labels
from brats3d.errors import DataError
from brats3d.files import MAX_BYTES, has_nifti_name, marked_convention, nifti_image, read_bounded, read_volume
from brats3d.labels import REGIONS_TO_READ, get_convention
from brats3d.view.viewed_case import LabelFile

_OPTION = "--label-convention"


def image_bytes(path: Path) -> bytes:
    """Return an image as NIfTI, packed or not: the file itself, or converted if it has another format.

    Raises:
        DataError, OSError: if it cannot be read.
    """
    if has_nifti_name(path):
        return read_bounded(path, MAX_BYTES)
    volume = read_volume(path)
    return _pack(nifti_image(np.asarray(volume.values, np.float32), volume.header))


def label_bytes(label: LabelFile) -> bytes:
    """Return a segmentation as packed NIfTI, in which 1, 2 and 3 are the innermost region WT, TC and ET.

    Raises:
        DataError, OSError: if it cannot be read, or has labels that its convention does not have.
    """
    volume = read_volume(label.path)
    name = marked_convention(label.path) or label.convention
    if name is None:
        raise DataError(label.path, "its name does not state the meaning of its labels", advice=f"pass {_OPTION} NAME")
    convention = get_convention(name)
    check_labels(volume.values, convention, str(label.path), _OPTION)
    values = whole_labels(volume.values)
    innermost = np.zeros(values.shape, np.uint8)
    for number, region in enumerate(REGIONS_TO_READ, 1):
        innermost[np.isin(values, convention.regions[region])] = number
    return _pack(nifti_image(innermost, volume.header))


def _pack(image: object) -> bytes:
    image.header.set_data_dtype(image.dataobj.dtype)  # type: ignore[attr-defined]
    return igzip.compress(image.to_bytes(), compresslevel=1)  # type: ignore[attr-defined]

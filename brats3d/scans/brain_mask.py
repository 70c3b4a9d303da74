"""The brain mask of a case, on the grid of one of its sequences. Images with a skull need deepbet.

Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks", Computers in
Biology and Medicine 179 (2024), 108845. Its weights are part of its package.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from brats3d.cases import BRAIN_ML
from brats3d.errors import DataError
from brats3d.files import Volume
from brats3d.scans.extra import import_extra
from brats3d.scans.scan import Scan


@dataclass(frozen=True, eq=False)
class BrainMask:
    """A brain mask.

    Args:
        modality: the sequence from which it was made.
        values: bool, on the grid of that sequence.
        volume_ml: its volume.
        method: ``"deepbet"``, or ``"not 0"`` for a skull-stripped image.
    """

    modality: str
    values: np.ndarray
    volume_ml: float
    method: str


def find_brain_mask(case_id: str, scans: Mapping[str, Scan], with_skull: Collection[str]) -> BrainMask:
    """Find the brain mask of T1 or T1ce: what is not 0 if one of them is skull-stripped, else deepbet's estimate.

    Args:
        case_id: for messages.
        scans: modality -> scan.
        with_skull: the sequences that are not skull-stripped.

    Raises:
        UsageError: if deepbet is needed and not installed.
        DataError: if there is neither T1 nor T1ce, or if the mask does not have the volume of a brain.
    """
    modality = min({"t1", "t1ce"} & scans.keys(), key=lambda name: (name in with_skull, name), default=None)
    if modality is None:
        raise DataError(case_id, expected="T1 or T1ce, which show the brain best", found=", ".join(scans))
    volume = scans[modality].volume
    if modality in with_skull:
        method, values = "deepbet", _estimate(case_id, volume)
    else:
        method, values = "not 0", _fill_holes(volume.values != 0)
    volume_ml = float(np.count_nonzero(values)) * volume.header.voxel_ml
    low_ml, high_ml = BRAIN_ML
    if not low_ml <= volume_ml <= high_ml:
        problem = f"the brain mask of {modality} has {volume_ml:,.0f} ml"
        raise DataError(case_id, problem, expected=f"a brain of {low_ml:,.0f} to {high_ml:,.0f} ml")
    return BrainMask(modality, values, volume_ml, method)


def _estimate(case_id: str, volume: Volume) -> np.ndarray:
    """Estimate the mask of an image with a skull, in about 5 s of processor time. Intensities may have any scale."""
    deepbet = import_extra("deepbet")
    image = nib.Nifti1Image(np.asarray(volume.values, np.float32), volume.header.affine)
    try:
        _, mask, _ = deepbet.BrainExtraction(no_gpu=True).run(image)
    except (AssertionError, ValueError) as error:  # its message for an empty mask
        raise DataError(case_id, f"no brain found in {volume.header.path.name}") from error
    return np.asarray(mask.dataobj) > 0


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(mask))

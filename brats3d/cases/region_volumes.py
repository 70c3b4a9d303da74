"""Sizes of the tumour regions in a segmentation."""

from __future__ import annotations

import numpy as np

from brats3d.labels import REGIONS_TO_READ, LabelConvention


def region_voxels(labels: np.ndarray, convention: LabelConvention) -> dict[str, int]:
    """Count the voxels of each region.

    Args:
        labels: label values, of any shape; background voxels may be omitted.
        convention: the convention of the labels.

    Returns:
        Region -> number of voxels, in the order WT, TC, ET.
    """
    counts = {value: int(np.count_nonzero(labels == value)) for value in convention.labels}
    return {region: sum(counts[value] for value in convention.regions[region]) for region in REGIONS_TO_READ}


def region_volumes_ml(labels: np.ndarray, convention: LabelConvention, voxel_ml: float) -> dict[str, float]:
    """Compute the volume of each region; see :func:`region_voxels`."""
    return {region: voxels * voxel_ml for region, voxels in region_voxels(labels, convention).items()}

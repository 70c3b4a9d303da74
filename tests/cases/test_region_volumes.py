"""Sizes of the tumour regions in a segmentation."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.cases.region_volumes import region_volumes_ml, region_voxels
from brats3d.labels import BRATS2020, BRATS2023


def test_regions_are_counted_by_the_labels_of_their_convention():
    labels = np.array([0, 1, 1, 2, 2, 2, 4])
    assert region_voxels(labels, BRATS2020) == {"WT": 6, "TC": 3, "ET": 1}
    assert region_voxels(np.where(labels == 4, 3, labels), BRATS2023) == {"WT": 6, "TC": 3, "ET": 1}


def test_volumes_are_counts_times_the_volume_of_a_voxel():
    labels = np.full((10, 10, 10), 4, np.uint8)
    assert region_volumes_ml(labels, BRATS2020, voxel_ml=0.002) == pytest.approx({"WT": 2, "TC": 2, "ET": 2})

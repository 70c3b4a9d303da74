"""The statistics of a data set, against the sizes of the tumour's boxes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brats3d.audit.whole_dataset import audit_dataset


def test_statistics_are_those_of_the_boxes(make_dataset) -> None:
    root = make_dataset(layout="brats2021")
    statistics = audit_dataset(root, progress=False).statistics
    label = np.asanyarray(nib.load(next(root.rglob("*_seg.nii.gz"))).dataobj)
    assert statistics.volume_ml["WT"].median == pytest.approx(np.count_nonzero(label) / 1000)  # 1 mm voxels
    assert statistics.volume_ml["TC"].max == pytest.approx(np.isin(label, (1, 4)).sum() / 1000)
    assert statistics.volume_ml["ET"].cases == 3
    assert (statistics.cases, statistics.patients, statistics.cases_with_segmentation) == (3, 3, 3)
    assert statistics.et_free_cases == 0
    assert statistics.shapes == {"16 x 16 x 12": 3}
    assert statistics.spacings_mm == {"1 x 1 x 1": 3}
    assert statistics.layouts == {"brats2021": 3}
    assert statistics.label_conventions == {"brats2020": 3}

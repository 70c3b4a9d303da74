"""The numbers in the JSON of a case."""

from __future__ import annotations

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest

from brats3d.bundle import installed_bundle
from brats3d.files import read_header
from brats3d.inference.segmentation_stats import describe_segmentation, describe_weights
from brats3d.labels import BRATS2020, BRATS2023


@pytest.fixture
def header(tmp_path):
    affine = np.array([[-2, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, -6], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.int16), affine), tmp_path / "a_t1.nii.gz")
    return read_header(tmp_path / "a_t1.nii.gz")


def test_volumes_boxes_and_centres_agree_with_a_count_by_hand(header):
    label = np.zeros((6, 7, 8), np.uint8)
    label[1:4, 2, 3:5] = 2
    label[2, 2, 3] = 1
    stats = describe_segmentation(label, BRATS2020, header)
    wt, tc, et = (stats["regions"][region] for region in ("WT", "TC", "ET"))
    assert wt == {
        "voxels": 6,
        "volume_ml": 0.036,  # 6 mm³ per voxel
        "box": [[1, 3], [2, 2], [3, 4]],
        "centre_mm": [6, 18, 4.5],
    }
    assert (tc["voxels"], tc["box"], tc["centre_mm"]) == (1, [[2, 2], [2, 2], [3, 3]], [6, 18, 3])
    assert et == {"voxels": 0, "volume_ml": 0, "box": None, "centre_mm": None}
    assert stats["labels"]["2"] == {"name": "ED", "voxels": 5, "volume_ml": 0.03}
    assert (stats["shape"], stats["spacing_mm"], stats["label_convention"]) == ([6, 7, 8], [2, 1, 3], "brats2020")
    json.dumps(stats)


def test_label_values_follow_the_convention(header):
    stats = describe_segmentation(np.full((6, 7, 8), 3, np.uint8), BRATS2023, header)
    assert stats["regions"]["ET"]["voxels"] == 336
    assert stats["labels"]["3"]["name"] == "ET"


def test_weights_are_described_by_name_digest_and_card():
    model = installed_bundle() / "models" / "model.pt"
    stats = describe_weights(model)
    assert stats["file"] == "model.pt"
    assert stats["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert "synthetic" in stats["trained_on"] and stats["config"] == "pretrain.yaml"
    assert describe_weights(None) is None

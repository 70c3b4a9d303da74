"""What the JSON beside a segmentation says."""

from __future__ import annotations

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest

from brats3d.bundle import installed_bundle
from brats3d.files.nifti import read_header
from brats3d.inference.case_stats import describe_segmentation, describe_weights
from brats3d.labels import BRATS2020, BRATS2023


@pytest.fixture
def header(tmp_path):
    affine = np.array([[-2, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, -6], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.int16), affine), tmp_path / "a_t1.nii.gz")
    return read_header(tmp_path / "a_t1.nii.gz")


def test_regions_are_counted_measured_and_boxed_by_hand(header):
    label = np.zeros((6, 7, 8), np.uint8)
    label[1:4, 2, 3:5] = 2
    label[2, 2, 3] = 1
    said = describe_segmentation(label, BRATS2020, header)
    wt, tc, et = (said["regions"][region] for region in ("WT", "TC", "ET"))
    assert wt == {
        "voxels": 6,
        "volume_ml": 0.036,  # 6 mm³ a voxel
        "box": [[1, 3], [2, 2], [3, 4]],
        "centre_mm": [6, 18, 4.5],
    }
    assert (tc["voxels"], tc["box"], tc["centre_mm"]) == (1, [[2, 2], [2, 2], [3, 3]], [6, 18, 3])
    assert et == {"voxels": 0, "volume_ml": 0, "box": None, "centre_mm": None}
    assert said["labels"]["2"] == {"name": "ED", "voxels": 5, "volume_ml": 0.03}
    assert (said["shape"], said["spacing_mm"], said["label_convention"]) == ([6, 7, 8], [2, 1, 3], "brats2020")
    json.dumps(said)


def test_the_values_are_those_of_the_convention(header):
    said = describe_segmentation(np.full((6, 7, 8), 3, np.uint8), BRATS2023, header)
    assert said["regions"]["ET"]["voxels"] == 336
    assert said["labels"]["3"]["name"] == "ET"


def test_the_weights_are_named_by_file_digest_and_card():
    model = installed_bundle() / "models" / "model.pt"
    said = describe_weights(model)
    assert said["file"] == "model.pt"
    assert said["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert "synthetic" in said["trained_on"] and said["config"] == "pretrain.yaml"
    assert describe_weights(None) is None

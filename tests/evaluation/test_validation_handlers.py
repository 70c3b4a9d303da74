"""Segmentations of an evaluation: reorientation and cropping are undone."""

from __future__ import annotations

from itertools import permutations, product
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Orientation

from brats3d.data.label_transforms import labels_to_regions
from brats3d.evaluation.validation_handlers import SaveValidationSegmentations, place_in_grid
from brats3d.files.nifti_write import marked_convention
from brats3d.labels import BRATS2020

AXES = (("L", "R"), ("P", "A"), ("S", "I"))
CODES = [
    "".join(pair[k] for pair, k in zip(order, ends, strict=True))
    for order in permutations(AXES)
    for ends in product((0, 1), repeat=3)
]


@pytest.mark.parametrize("codes", CODES)
def test_a_crop_returns_to_its_place_from_every_orientation(codes):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 5, (7, 9, 8)).astype(np.uint8)
    grid = np.array([[0, -1.0, 0, 40], [1.1, 0, 0, -20], [0, 0, 0.9, 5], [0, 0, 0, 1]])
    turned = Orientation(axcodes=codes, labels=None)(
        MetaTensor(torch.from_numpy(whole)[None], affine=torch.from_numpy(grid))
    )
    box = (slice(1, 6), slice(2, 7), slice(0, 5))
    affine = turned.affine.numpy().copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in box]
    back = place_in_grid(turned[0].numpy().astype(np.uint8)[box], affine, grid, whole.shape)
    assert back.shape == whole.shape
    inside = back > 0
    assert np.array_equal(back[inside], whole[inside])
    assert np.count_nonzero(back) == np.count_nonzero(turned[0].numpy()[box])


@pytest.mark.parametrize(
    "wrong", [np.diag([1, 1, 2.0, 1]), np.array([[1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])]
)
def test_a_volume_that_is_not_a_crop_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a crop"):
        place_in_grid(np.ones((3, 3, 3), np.uint8), wrong, np.eye(4), (8, 8, 8))


def test_the_handler_writes_in_the_space_of_the_case(tmp_path):
    grid = np.diag([-1.0, -1, 1, 1])
    label = np.zeros((10, 8, 6), np.uint8)
    label[3:6, 2:5, 1:4], label[4, 3, 2], label[5, 3, 2] = 2, 4, 1
    nib.save(nib.Nifti1Image(label.astype(np.int16) + 5, grid), tmp_path / "a_t1.nii.gz")
    item = {"image": [str(tmp_path / "a_t1.nii.gz")], "case_id": "a"}
    crop = label[2:8, 1:7, :5]
    affine = grid.copy()
    affine[:3, 3] = grid[:3, :3] @ [2, 1, 0]
    regions = labels_to_regions(torch.from_numpy(crop)[None], BRATS2020)
    out = {"pred": regions, "label": MetaTensor(regions, affine=torch.from_numpy(affine))}
    handler = SaveValidationSegmentations(tmp_path / "out", [item])
    handler(SimpleNamespace(state=SimpleNamespace(batch=[item], output=[out])))
    written = nib.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(np.asanyarray(written.dataobj), label)
    assert np.array_equal(written.affine, grid)
    assert marked_convention(tmp_path / "out" / "a.nii.gz") == "brats2020"


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_brats3d_did_not_write_is_kept(tmp_path, when, log):
    affine = np.eye(4)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), affine), tmp_path / "t1.nii.gz")
    items = [{"image": [str(tmp_path / "t1.nii.gz")], "case_id": case_id} for case_id in "ab"]
    out = tmp_path / "out"
    handler = SaveValidationSegmentations(out, items)
    regions = MetaTensor(torch.zeros(3, 4, 4, 4), affine=torch.from_numpy(affine))

    def step(engine, item):
        if when == "during":
            (out / "a.nii.gz").write_text("corrected")
        engine.state.batch = [item]
        return [{"pred": regions, "label": regions}]

    engine = Engine(step)
    handler.attach(engine)
    out.mkdir()
    if when == "before":
        (out / "a.nii.gz").write_text("corrected")
    engine.run(items)
    assert (out / "a.nii.gz").read_text() == "corrected" and nib.load(out / "b.nii.gz").shape == (4, 4, 4)
    assert sum(r.levelname == "WARNING" for r in log.records) == 1

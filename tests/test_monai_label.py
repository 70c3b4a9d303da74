"""The bundle for MONAI Label, without MONAI Label; ``tests/consumers`` starts its server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from brats3d.bundle import installed_bundle
from brats3d.cases import find_cases
from brats3d.errors import DataError
from brats3d.labels import get_convention
from brats3d.monai_label import CONVENTION, SEGMENTS, LoadCased, find_sequences, write_bundle
from brats3d.phantoms import write_phantoms

HTTPException = pytest.importorskip("starlette.exceptions").HTTPException


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two cases with labels of BraTS 2023."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, 2, size="small", layout="brats2023", progress=False)
    return find_cases(folder)


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "model" / "brats3d")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_the_files_of_a_case_are_found_by_name_and_ordered_by_sequence(tmp_path):
    touch(tmp_path, "A_flair.nii.gz", "A_t1.nii.gz", "A_t2.nii.gz", "A_t1ce.nii.gz", "A_seg.nii.gz", "B_t1.nii.gz")
    found = find_sequences(tmp_path / "A_t2.nii.gz")
    assert [path.name for path in found] == ["A_t1.nii.gz", "A_t1ce.nii.gz", "A_t2.nii.gz", "A_flair.nii.gz"]


def test_a_case_that_lacks_sequences_is_refused(tmp_path):
    touch(tmp_path, "A_t1.nii.gz", "A_flair.nii.gz", "B_t2.nii.gz")
    with pytest.raises(DataError) as error:
        find_sequences(tmp_path / "A_t1.nii.gz")
    assert (error.value.subject, error.value.problem) == (
        "A_t1.nii.gz",
        "no t1ce, t2 of the same case beside it",
    )
    assert len(find_sequences(tmp_path / "A_t1.nii.gz", ["t1", "flair"])) == 2


def test_one_file_of_all_sequences_loads_like_a_file_of_each(cases, tmp_path):
    images = [nib.load(path) for path in cases[0].images.values()]
    voxels = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    nib.save(nib.Nifti1Image(voxels, images[0].affine), tmp_path / "BRATS_001.nii.gz")
    load = LoadCased(["image", "label"], image_only=True)
    label = str(cases[0].label)
    one = load({"image": str(tmp_path / "BRATS_001.nii.gz"), "label": label})
    each = load({"image": str(cases[0].images["flair"]), "label": label})
    assert torch.equal(one["image"].movedim(-1, 0).as_tensor(), each["image"].as_tensor())
    assert torch.equal(one["image"].affine, each["image"].affine)
    assert one["label"].shape == each["label"].shape == images[0].shape


def test_the_client_is_told_why_an_image_is_refused(cases, tmp_path):
    alone = tmp_path / "upload.nii.gz"
    alone.write_bytes(cases[0].images["t1"].read_bytes())
    for name in ("upload.nii.gz", "upload_t1.nii.gz"):
        with pytest.raises(HTTPException) as error:
            LoadCased("image", image_only=True)({"image": str(alone.rename(tmp_path / name))})
        alone = tmp_path / name
        assert error.value.status_code == 422
        assert name in error.value.detail and "t1, t1ce, t2, flair" in error.value.detail


def test_the_bundle_differs_from_the_installed_one_where_it_says(bundle):
    for name in ("inference", "train"):
        ours, theirs = (
            ConfigParser.load_config_file(path / "configs" / f"{name}.{kind}")
            for path, kind in ((installed_bundle(), "yaml"), (bundle, "json"))
        )
        assert ours.keys() == theirs.keys()
        changed = {key for key in ours if ours[key] != theirs[key]}
        expected = {"inference": {"label_convention", "preprocessing"}}
        assert changed == expected.get(
            name, {*("label_convention", "output_dir", "epochs", "train", "initialize", "training")}
        )
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {str(k): v for k, v in SEGMENTS.items()}


def test_the_segments_are_numbered_as_3d_slicer_numbers_them():
    assert list(SEGMENTS) == [0, *get_convention(CONVENTION).labels] == [0, 1, 2, 3]


def test_a_bundle_is_not_replaced(bundle):
    with pytest.raises(FileExistsError):
        write_bundle(bundle)


def test_each_training_has_a_new_folder_and_replaces_the_weights(bundle, cases, monkeypatch):
    monkeypatch.setattr("sys.excepthook", sys.__excepthook__)  # restored after the test
    items = [{"image": str(case.images["t1ce"]), "label": str(case.label)} for case in cases]
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "train.json"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundle),
        device="cpu",
        **{"train#dataset#data": items[:1], "validate#dataset#data": items[1:], "train#trainer#max_epochs": 1},
        **{"network_def#channels": [4, 8, 8, 8, 8], "patch_size": [32, 32, 32], "window": [32, 32, 32], "cache": 0},
    )
    workflow.initialize()
    workflow.run()
    (run,) = (bundle / "runs").iterdir()
    best, published = (
        torch.load(path, weights_only=True) for path in (run / "checkpoints/best.pt", bundle / "models/model.pt")
    )
    assert best.keys() == published.keys()
    assert all(torch.equal(best[name], published[name]) for name in best)
    card = json.loads((bundle / "models" / "model.json").read_text())
    assert card["network_def"]["channels"] == [4, 8, 8, 8, 8]

"""BraTS cases in nnU-Net's raw form, and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.cases import find_cases, load_folds
from brats3d.convert import convert_to_nnunet
from brats3d.convert.to_nnunet import dataset_json
from brats3d.errors import DataError, UsageError
from brats3d.evaluation import score_folders
from brats3d.labels import CONVENTIONS, MODALITIES, get_convention
from tests.conftest import tiny_label

FOLDER = "Dataset137_BraTS"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_images_are_linked_and_labels_made_consecutive(make_dataset, tmp_path):
    root = make_dataset(cases=3)
    done = convert_to_nnunet(root, tmp_path / "raw" / FOLDER, progress=False)
    assert (done.training, done.test, done.linked, done.written, done.convention) == (3, 0, 12, 3, "brats2023")
    names = sorted(path.name for path in (done.folder / "imagesTr").iterdir())
    assert names[:4] == [f"BraTS20_Training_001_000{channel}.nii.gz" for channel in range(4)] and len(names) == 12
    for channel, modality in enumerate(MODALITIES):
        link = done.folder / "imagesTr" / f"BraTS20_Training_002_000{channel}.nii.gz"
        assert link.is_symlink() and link.resolve().name == f"BraTS20_Training_002_{modality}.nii.gz"
    label = voxels(done.folder / "labelsTr" / "BraTS20_Training_002.nii.gz")
    assert np.array_equal(label, np.where(tiny_label() == 4, 3, tiny_label()))
    assert not (done.folder / "imagesTs").exists()


def test_dataset_json_lists_regions_and_the_label_to_write_for_each():
    written = dataset_json(5, MODALITIES, get_convention("brats2023"), ".nii.gz")
    assert written == {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
        "labels": {"background": 0, "whole tumour": [1, 2, 3], "tumour core": [1, 3], "enhancing tumour": [3]},
        "regions_class_order": [2, 1, 3],
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    cavity = dataset_json(5, ["t1"], get_convention("brats2024-gli"), ".nii")  # outside all regions
    assert cavity["labels"]["RC"] == 4 and cavity["regions_class_order"] == [2, 1, 3, 4]


@pytest.mark.parametrize("name", [name for name in CONVENTIONS if name != "brats2020"])
def test_brats3d_reads_the_labels_back_as_they_were(make_dataset, tmp_path, write_nifti, name):
    root, convention = make_dataset(), get_convention(name)
    for case in find_cases(root):
        values = np.zeros((16, 16, 12), np.uint8)
        values[4:8, 4:8, 4:8] = np.resize(sorted(convention.labels), (4, 4, 4))
        write_nifti(case.label, values)
    folds = load_folds(root, label_convention=name)
    done = convert_to_nnunet(root, tmp_path / FOLDER, label_convention=name, progress=False)
    assert done.convention == name and done.written == 0
    back = find_cases(done.folder)
    assert {case.convention for case in back} == {name}
    originals = {case.case_id: case for fold in folds for case in fold}
    for case in back:
        assert [path.resolve() for path in case.files] == [path.resolve() for path in originals[case.case_id].files]


def test_cases_of_several_releases_get_the_same_labels(make_dataset, tmp_path):
    root = make_dataset(cases=2)
    make_dataset(cases=2, layout="brats2021", root=root)
    for path in root.glob("BraTS2021_*"):  # as renamed by BraTS 2023, with its labels
        name = path.name.replace("BraTS2021_0000", "BraTS-GLI-0000") + "-000"
        folder = path.rename(root / name)
        for file in folder.iterdir():
            new = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}
            file.rename(folder / f"{name}-{new[file.name.split('_')[-1].removesuffix('.nii.gz')]}.nii.gz")
        label = next(folder.glob("*-seg*"))
        image = nib.load(label)
        nib.save(nib.Nifti1Image(np.where(tiny_label() == 4, 3, tiny_label()).astype(np.uint8), image.affine), label)
    done = convert_to_nnunet(root, tmp_path / FOLDER, progress=False)
    assert done.convention == "brats2023" and done.written == 2  # the labels of 2020
    labels = [voxels(path) for path in (done.folder / "labelsTr").iterdir()]
    assert len(labels) == 4 and all(np.array_equal(label, labels[0]) for label in labels)


def test_the_folds_are_those_of_training(make_dataset, tmp_path):
    root = make_dataset(cases=4)
    entries = [
        {
            "image": [f"{folder.name}/{folder.name}_{modality}.nii.gz" for modality in MODALITIES],
            "label": f"{folder.name}/{folder.name}_seg.nii.gz",
            "fold": int(folder.name[-1]) % 2,
        }
        for folder in sorted(root.iterdir())[:3]
    ]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    for datalist in (None, tmp_path / "list.json"):
        done = convert_to_nnunet(root, tmp_path / f"Dataset{137 + bool(datalist)}_x", datalist, progress=False)
        splits = json.loads((done.folder / "splits_final.json").read_text())
        folds = [[case.case_id for case in fold] for fold in load_folds(root, datalist=datalist)]
        assert [set(split["val"]) for split in splits] == [set(fold) for fold in folds]
        for split in splits:
            assert set(split["train"]) == {name for fold in folds for name in fold} - set(split["val"])
    assert sorted(splits[0]["val"] + splits[0]["train"]) == [f"BraTS20_Training_00{i}" for i in (1, 2, 3)]


def test_cases_without_a_segmentation_are_test_cases(make_dataset, write_case, tmp_path):
    root = make_dataset(cases=2)
    write_case(root / "BraTS20_Validation_001", label=False)
    done = convert_to_nnunet(root, tmp_path / FOLDER, progress=False)
    assert (done.training, done.test, done.folds) == (2, 1, 2)
    assert len(list((done.folder / "imagesTs").iterdir())) == 4
    alone = convert_to_nnunet(root / "BraTS20_Validation_001", tmp_path / "Dataset138_x", progress=False)
    assert (alone.training, alone.test, alone.folds) == (0, 1, 0)
    assert not (alone.folder / "splits_final.json").exists()


def test_all_files_get_the_ending_of_the_data_set(make_dataset, write_case, tmp_path):
    plain = make_dataset(cases=2, suffix=".nii")
    done = convert_to_nnunet(plain, tmp_path / FOLDER, modalities=["flair", "t1"], progress=False)
    content = json.loads((done.folder / "dataset.json").read_text())
    assert (done.linked, content["file_ending"], content["channel_names"]) == (4, ".nii", {"0": "T1", "1": "FLAIR"})
    write_case(plain / "BraTS20_Training_003", seed=3)  # .nii.gz
    mixed = convert_to_nnunet(plain, tmp_path / "Dataset138_x", progress=False)
    assert (mixed.linked, mixed.written) == (4, 8 + 3)
    written = mixed.folder / "imagesTr" / "BraTS20_Training_001_0003.nii.gz"
    original = plain / "BraTS20_Training_001" / "BraTS20_Training_001_flair.nii"
    assert np.array_equal(voxels(written), voxels(original))
    assert np.array_equal(nib.load(written).affine, nib.load(original).affine)


def test_predictions_with_nnunets_labels_are_scored_against_the_written_labels(make_dataset, tmp_path):
    done = convert_to_nnunet(make_dataset(), tmp_path / FOLDER, progress=False)
    shutil.copytree(done.folder / "labelsTr", tmp_path / "predictions")
    scores = score_folders(tmp_path / "predictions", done.folder / "labelsTr", progress=False)
    assert scores.cases == 3 and {row.dice for row in scores.rows} == {1.0}


@pytest.mark.parametrize("name", ["BraTS", "Dataset1_BraTS", "Dataset137"])
def test_a_folder_that_nnunet_would_not_find_is_refused(make_dataset, tmp_path, name):
    with pytest.raises(UsageError) as error:
        convert_to_nnunet(make_dataset(), tmp_path / name)
    assert error.value.subject == "out" and not (tmp_path / name).exists()


def test_a_folder_with_files_is_refused(make_dataset, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "notes.txt").touch()
    with pytest.raises(UsageError, match="empty"):
        convert_to_nnunet(make_dataset(), tmp_path / FOLDER)


def test_a_wrong_label_leaves_nothing_behind(make_dataset, tmp_path, write_nifti):
    root = make_dataset()
    write_nifti(root / "BraTS20_Training_003" / "BraTS20_Training_003_seg.nii.gz", tiny_label() * 2)
    with pytest.raises(DataError):
        convert_to_nnunet(root, tmp_path / FOLDER, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_the_command_prints_the_next_steps(run, make_dataset, tmp_path):
    code, printed, _ = run("convert", make_dataset(), tmp_path / FOLDER, "--to", "nnunet", "--modalities", "t1ce,flair")
    assert code == 0
    assert f"nnUNet_raw={tmp_path} nnUNetv2_plan_and_preprocess -d 137" in printed
    assert len(list((tmp_path / FOLDER / "imagesTr").iterdir())) == 6
    for options in (["--to", "nnunet", "--workers", "2"], ["--modalities", "t1"], ["--datalist", "x.json"]):
        assert run("convert", tmp_path / "data", tmp_path / "Dataset138_x", *options)[0] == 2

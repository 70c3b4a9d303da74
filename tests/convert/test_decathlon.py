"""The Decathlon's Task01: channels and labels go by the names in dataset.json, and by nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brats3d.convert.decathlon import DATASET_JSON, find_task_cases

SHAPE = (4, 5, 6)
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, 2], [0, 0, 1.5, 0], [0, 0, 0, 1]])
ONE = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}


def make_image(channels: int = 4) -> np.ndarray:
    """Channel c holds the hundreds c + 1."""
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100
    return np.stack([voxels + 100 * (c + 1) for c in range(channels)], -1).astype(np.float32)


def make_label() -> np.ndarray:
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(np.uint8)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def write_task(folder: Path, image: np.ndarray | None = None, label: np.ndarray | None = None, **changes: Any) -> Path:
    """A task of one case; its dataset.json."""
    save(folder / ONE["image"], make_image() if image is None else image)
    save(folder / ONE["label"], make_label() if label is None else label)
    file = folder / "dataset.json"
    file.write_text(json.dumps({**DATASET_JSON, "training": [ONE], "test": [], **changes}))
    return file


def test_a_case_as_the_release_has_it(tmp_path):
    (case,) = find_task_cases(write_task(tmp_path))
    assert (case.case_id, case.modalities) == ("BRATS_001", ("flair", "t1", "t1ce", "t2"))
    assert case.kinds == ("t1", "t1ce", "t2", "flair", "seg")
    assert case.source_bytes == sum(p.stat().st_size for p in tmp_path.rglob("*.nii.gz"))
    read = case.read()
    image = make_image()
    for name, channel in {"flair": 0, "t1": 1, "t1ce": 2, "t2": 3}.items():
        np.testing.assert_array_equal(read.arrays[name], image[..., channel])
        assert read.arrays[name].dtype == np.int16  # whole-valued floats
    np.testing.assert_array_equal(read.arrays["seg"], np.array([0, 2, 1, 4])[make_label()])  # 1 is edema there
    assert read.arrays["seg"].dtype == np.uint8
    np.testing.assert_array_equal(read.affine, AFFINE)


def test_other_orders_of_channels_and_labels_are_read_by_name(tmp_path):
    modality = {"0": "T2", "1": "T1-Gd", "2": "flair", "3": "t1"}
    labels = {"0": "background", "1": "non-enhancing tumour", "2": "enhancing tumor", "3": "oedema"}
    read = find_task_cases(write_task(tmp_path, modality=modality, labels=labels))[0].read()
    assert {name: int(array[0, 0, 0]) for name, array in read.arrays.items() if name != "seg"} == {
        "t1": 400,
        "t1ce": 200,
        "t2": 100,
        "flair": 300,
    }
    np.testing.assert_array_equal(read.arrays["seg"], np.array([0, 1, 4, 2])[make_label()])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (make_image().astype(np.int16), np.int16),
        (make_image().astype(np.uint8), np.uint8),
        (make_image().astype(np.int32), np.int32),
        (make_image().astype(np.float64), np.int16),
        (make_image() * 1000, np.int32),
        (make_image() / 3, np.float32),
    ],
)
def test_integers_keep_their_type_and_whole_floats_become_integers(tmp_path, stored, expected):
    read = find_task_cases(write_task(tmp_path, image=stored))[0].read()
    assert read.arrays["t1"].dtype == expected
    np.testing.assert_array_equal(read.arrays["t1"], stored[..., 1].astype(expected))


def test_test_cases_have_no_segmentation_and_stray_files_of_macos_are_left_out(tmp_path):
    stray = {key: path.replace("BRATS", "._BRATS") for key, path in ONE.items()}
    file = write_task(
        tmp_path, training=[ONE, stray], test=["./imagesTs/BRATS_485.nii.gz", {"image": "imagesTs/b.nii"}]
    )
    save(tmp_path / "imagesTs" / "BRATS_485.nii.gz", make_image())
    cases = find_task_cases(file)
    assert [case.case_id for case in cases] == ["BRATS_001", "BRATS_485", "b"]
    assert cases[1].kinds == ("t1", "t1ce", "t2", "flair")
    assert "seg" not in cases[1].read().arrays


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../other/BRATS_001.nii.gz",
        "imagesTr/../../x.nii.gz",
        "C:\\x.nii.gz",
        "..\\x.nii.gz",
        "",
        7,
        "\0",
    ],
)
@pytest.mark.parametrize("place", ["image", "label", "test"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, path, place):
    changes = {"test": [path]} if place == "test" else {"training": [{**ONE, place: path}]}
    with pytest.raises(ValueError, match=r"dataset\.json: lists the file .*expected a path below its own folder"):
        find_task_cases(write_task(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "T1w", "3": "T2w"}}, "expected FLAIR, T1w, t1gd and T2w"),
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd"}}, "expected FLAIR, T1w, t1gd and T2w"),
        ({"modality": {"0": "CT"}}, "expected FLAIR"),
        ({"modality": {"1": "FLAIR", "2": "T1w", "3": "t1gd", "4": "T2w"}}, "names by number"),
        ({"modality": None}, "Task01_BrainTumour"),
        ({"labels": {"0": "background", "1": "edema", "2": "core", "3": "enhancing tumour"}}, "labels are .*'core'"),
        ({"labels": {"0": "background", "1": "edema", "2": "edema", "3": "enhancing tumour"}}, "each once"),
        ({"labels": ["background", "edema"]}, "names by number"),
        ({"training": [], "test": []}, "lists no case"),
        ({"training": "all"}, "no list"),
        ({"training": [{"image": "a.nii.gz"}]}, "expected an image and a label"),
        ({"training": [ONE, ONE]}, "lists BRATS_001 twice"),
        ({"training": [{**ONE, "image": "imagesTr/.nii.gz"}]}, "expected a name such as"),
    ],
)
def test_a_dataset_json_that_says_something_else_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
        find_task_cases(write_task(tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_dataset_json_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"dataset\.json: .*JSON"):
        find_task_cases(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"image": make_image(3)}, r"imagesTr.*shape \(4, 5, 6, 3\); expected \(X, Y, Z, 4\)"),
        ({"image": np.full((*SHAPE, 4), np.nan, np.float32)}, "imagesTr.*NaN"),
        ({"label": make_label() + np.uint8(1)}, r"labelsTr.*30 voxel.*label.* 4; expected 0, 1, 2, 3"),
        ({"label": make_label()[1:]}, "labelsTr.*grid"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        find_task_cases(write_task(tmp_path, **files))[0].read()


def test_missing_and_damaged_files_are_named(tmp_path):
    (case,) = find_task_cases(write_task(tmp_path))
    content = case.image.read_bytes()
    case.image.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"imagesTr/BRATS_001\.nii\.gz: cannot be read"):
        case.read()
    case.image.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"imagesTr/BRATS_001\.nii\.gz: cannot be read"):
        case.read()
    case.image.unlink()
    with pytest.raises(ValueError, match=r"imagesTr/BRATS_001\.nii\.gz: is not there"):
        case.read()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, b"\xff\x7f"),  # the number of dimensions
        (42, b"\xff\xff"),  # a negative size
        (70, b"\x99\x99"),  # no known type of voxels
        (108, b"\x00\x00\xc0\x7f"),  # voxels begin at NaN
        (108, b"\x00\x00\x80\x7f"),  # ... at infinity
        (280, b"\x00\x00\xc0\x7f"),  # NaN in the affine
    ],
)
def test_a_damaged_header_is_one_line_that_names_the_file(tmp_path, at, value):
    (case,) = find_task_cases(write_task(tmp_path))
    content = bytearray(gzip.decompress(case.image.read_bytes()))
    content[at : at + len(value)] = value
    case.image.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"^[^\n]*imagesTr/BRATS_001\.nii\.gz: [^\n]*$"):
        case.read()

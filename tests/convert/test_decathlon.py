"""The Decathlon's Task01: channels and labels are identified by their names in dataset.json alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brats3d.convert.decathlon import DATASET_JSON, find_task_cases
from brats3d.errors import DataError

SHAPE = (4, 5, 6)
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, 2], [0, 0, 1.5, 0], [0, 0, 0, 1]])
ONE = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}


def make_image(channels: int = 4) -> np.ndarray:
    """Return an image whose channel c holds values from 100 (c + 1) on."""
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100
    return np.stack([voxels + 100 * (c + 1) for c in range(channels)], -1).astype(np.float32)


def make_label() -> np.ndarray:
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(np.uint8)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def write_task(folder: Path, image: np.ndarray | None = None, label: np.ndarray | None = None, **changes: Any) -> Path:
    """Write a task of one case; return its dataset.json."""
    save(folder / ONE["image"], make_image() if image is None else image)
    save(folder / ONE["label"], make_label() if label is None else label)
    file = folder / "dataset.json"
    file.write_text(json.dumps({**DATASET_JSON, "training": [ONE], "test": [], **changes}))
    return file


def test_a_case_of_the_release_is_read(tmp_path):
    (case,) = find_task_cases(write_task(tmp_path))
    assert (case.case_id, case.modalities) == ("BRATS_001", ("flair", "t1", "t1ce", "t2"))
    assert case.kinds == ("t1", "t1ce", "t2", "flair", "seg")
    read = case.read()
    image = make_image()
    for name, channel in {"flair": 0, "t1": 1, "t1ce": 2, "t2": 3}.items():
        np.testing.assert_array_equal(read.arrays[name], image[..., channel])
        assert read.arrays[name].dtype == np.int16  # whole-valued floats
    np.testing.assert_array_equal(read.arrays["seg"], np.array([0, 2, 1, 4])[make_label()])  # 1 is edema in Task01
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


def test_test_cases_have_no_segmentation_and_stray_macos_files_are_ignored(tmp_path):
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
    file = write_task(tmp_path, **changes)
    with pytest.raises(DataError) as error:
        find_task_cases(file)
    assert (error.value.subject, error.value.found) == (str(file), path)
    assert "below its own folder" in error.value.expected


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "T1w", "3": "T2w"}}, "modality to name"),
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd"}}, "modality to name"),
        ({"modality": {"0": "CT"}}, "modality to name"),
        ({"modality": {"1": "FLAIR", "2": "T1w", "3": "t1gd", "4": "T2w"}}, "modality to name"),
        ({"modality": None}, "modality to name"),
        ({"labels": {"0": "background", "1": "edema", "2": "core", "3": "enhancing tumour"}}, "labels to name"),
        ({"labels": {"0": "background", "1": "edema", "2": "edema", "3": "enhancing tumour"}}, "labels to name"),
        ({"labels": ["background", "edema"]}, "labels to name"),
        ({"training": [], "test": []}, "no case"),
        ({"training": "all"}, "not a list"),
        ({"training": [{"image": "a.nii.gz"}]}, "an image and a label"),
        ({"training": [ONE, ONE]}, "BRATS_001 twice"),
        ({"training": [{**ONE, "image": "imagesTr/.nii.gz"}]}, "image names"),
    ],
)
def test_a_dataset_json_with_other_content_is_refused(tmp_path, changes, text):
    file = write_task(tmp_path, **changes)
    with pytest.raises(DataError) as error:
        find_task_cases(file)
    assert error.value.subject == str(file)
    assert text in error.value.problem + error.value.expected


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_dataset_json_is_refused(tmp_path, text):
    file = tmp_path / "dataset.json"
    file.write_bytes(text.encode("latin1"))
    with pytest.raises(DataError) as error:
        find_task_cases(file)
    assert "JSON" in error.value.problem + error.value.expected


@pytest.mark.parametrize(
    ("files", "folder", "found"),
    [
        ({"image": make_image(3)}, "imagesTr", (4, 5, 6, 3)),
        ({"image": np.full((*SHAPE, 4), np.nan, np.float32)}, "imagesTr", None),
        ({"image": make_image().astype(np.complex64)}, "imagesTr", "complex64"),
        ({"label": make_label() + np.uint8(1)}, "labelsTr", [4]),
        ({"label": make_label().astype(np.float32) + 0.5}, "labelsTr", [0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_files_with_unexpected_content_are_named(tmp_path, files, folder, found):
    (case,) = find_task_cases(write_task(tmp_path, **files))
    with pytest.raises(DataError) as error:
        case.read()
    assert error.value.subject == str(tmp_path / folder / "BRATS_001.nii.gz")
    assert error.value.found == found


def test_a_label_on_another_grid_is_named(tmp_path):
    (case,) = find_task_cases(write_task(tmp_path, label=make_label()[1:]))
    with pytest.raises(DataError) as error:
        case.read()
    assert error.value.subject == str(case.label)
    assert "grid" in error.value.problem


@pytest.mark.parametrize("content", [b"<html>", None, ""], ids=["not NIfTI", "truncated", "missing"])
def test_missing_and_damaged_files_are_named(tmp_path, content):
    (case,) = find_task_cases(write_task(tmp_path))
    if content == "":
        case.image.unlink()
    else:
        case.image.write_bytes(content or case.image.read_bytes()[:300])
    with pytest.raises(DataError) as error:
        case.read()
    assert error.value.subject == str(case.image)
    assert ("does not exist" if content == "" else "cannot be read") in error.value.problem


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, b"\xff\x7f"),  # the number of dimensions
        (42, b"\xff\xff"),  # a negative size
        (70, b"\x99\x99"),  # an unknown voxel type
        (108, b"\x00\x00\xc0\x7f"),  # voxels begin at NaN
        (108, b"\x00\x00\x80\x7f"),  # voxels begin at infinity
        (280, b"\x00\x00\xc0\x7f"),  # NaN in the affine
    ],
)
def test_a_damaged_header_is_reported_in_one_line(tmp_path, at, value):
    (case,) = find_task_cases(write_task(tmp_path))
    content = bytearray(gzip.decompress(case.image.read_bytes()))
    content[at : at + len(value)] = value
    case.image.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError) as error:
        case.read()
    assert error.value.subject == str(case.image)
    assert "\n" not in str(error.value)

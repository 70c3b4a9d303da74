"""nnU-Net's raw form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats3d.cases.case import case_to_item, item_to_case
from brats3d.cases.datalist import read_datalist
from brats3d.cases.explain_no_cases import NoCasesError
from brats3d.cases.naming_rules import case_id_of, modality_of
from brats3d.cases.nnunet import raw_convention_of
from brats3d.cases.search import find_cases

CHANNELS = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
MODALITIES = ["t1", "t1ce", "t2", "flair"]


def raw(root: Path, ending: str = ".nii.gz", **content: object) -> Path:
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (root / name).mkdir(parents=True)
    for channel in range(4):
        (root / "imagesTr" / f"A_{channel:04d}{ending}").touch()
        (root / "imagesTs" / f"B_T1_{channel:04d}{ending}").touch()
    (root / "labelsTr" / f"A{ending}").touch()
    if content:
        (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_dataset_json_names_the_channels(tmp_path, key, ending):
    root = raw(tmp_path, ending, **{key: CHANNELS})
    a, b = find_cases(root)
    assert (a.case_id, a.layout, b.case_id, b.label) == ("A", "nnunet", "B_T1", None)
    assert list(a.images) == MODALITIES
    assert a.images["flair"] == root / "imagesTr" / f"A_0000{ending}"
    assert a.label == root / "labelsTr" / f"A{ending}"
    assert item_to_case(case_to_item(a)) == a


def test_the_folder_of_the_images_can_be_given_alone(tmp_path):
    root = raw(tmp_path, channel_names=CHANNELS)
    assert [case.case_id for case in find_cases(root / "imagesTs")] == ["B_T1"]
    assert find_cases(root / "imagesTr", require_label=True)[0].label == root / "labelsTr" / "A.nii.gz"


def test_one_image_states_case_and_modality(tmp_path):
    path = raw(tmp_path, channel_names=CHANNELS) / "imagesTr" / "A_0002.nii.gz"
    assert (case_id_of(path), modality_of(path)) == ("A", "t1ce")
    assert modality_of("elsewhere/A_0002.nii.gz") is None


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        ({"background": 0, "edema": 1, "core": 2, "enhancing": 3}, "decathlon"),
        ({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}, "decathlon"),
        ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}, "decathlon"),
        ({"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 3}, "brats2023"),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "resection cavity": 4}, "brats2024-gli"),
        ({"background": 0, "non-enhancing FLAIR": 1, "enhancing": 2}, "hd-glio"),
        ({"background": 0, "tumour": 1}, None),
        ({"background": 0, "edema": 1, "thing": 2, "enhancing": 3}, None),
        ({"edema": "many"}, None),
        ([1, 2], None),
    ],
)
def test_the_names_of_the_labels_decide_the_convention_or_leave_it_open(tmp_path, labels, convention):
    root = raw(tmp_path, channel_names=CHANNELS, labels=labels)
    assert find_cases(root)[0].convention == convention
    assert raw_convention_of(root / "labelsTr") == convention


def test_dataset_json_decides_even_for_cases_named_like_a_release(tmp_path):
    root = raw(tmp_path, channel_names=CHANNELS, labels={"edema": 1, "core": 2, "enhancing": 3})
    for path in [*root.glob("*/A*")]:
        path.rename(path.with_name(path.name.replace("A", "BraTS2021_00001")))
    case = find_cases(root)[1]
    assert (case.case_id, case.patient_id, case.convention) == ("BraTS2021_00001", "BraTS-GLI-00001", "decathlon")


@pytest.mark.parametrize(
    "content",
    [{}, {"channel_names": {"0": "MRI", "1": "MRI"}}, {"channel_names": {"0": "T1", "1": "t1w"}}, {"modality": 3}],
)
@pytest.mark.parametrize("folder", ["", "imagesTr"])
def test_channels_without_names_are_never_guessed(tmp_path, content, folder):
    root = raw(tmp_path, **content)
    with pytest.raises(NoCasesError) as error:
        find_cases(root / folder)
    assert "_0000" in error.value.problem
    assert "dataset.json" in str(error.value)
    assert "convert" not in error.value.advice


def test_a_datalist_may_list_channels(tmp_path):
    root = raw(tmp_path, channel_names=CHANNELS)
    entries = [
        {
            "image": [f"{folder}/{stem}_{channel:04d}.nii.gz" for channel in range(4)],
            "label": f"{stem}.nii",
            "fold": fold,
        }
        for fold, (folder, stem) in enumerate([("imagesTr", "A"), ("imagesTs", "B_T1")])
    ]
    (root / "datalist.json").write_text(json.dumps({"training": entries}))
    (first,), (second,) = read_datalist(root)
    assert (first.case_id, second.case_id) == ("A", "B_T1")
    assert first.images["t1ce"] == root / "imagesTr" / "A_0002.nii.gz"

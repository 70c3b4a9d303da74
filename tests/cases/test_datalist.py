"""Folds, datalist.json, and the items that MONAI loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from monai.bundle import ConfigParser

from brats3d.cases.case import find_cases, make_case
from brats3d.cases.datalist import case_to_item, explain_item, item_to_case, load_datalist
from brats3d.cases.folds import split_patients

patients_of_cases = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1)


def cases_of(patients, folder="/data"):
    return [make_case(f"c{i}", {"t1": Path(folder, f"c{i}_t1.nii")}, None, f"p{p}") for i, p in enumerate(patients)]


def ids(items) -> list[str]:
    return [item["case_id"] for item in items]


def split_ids(folds) -> list[list[str]]:
    return [[case.case_id for case in fold] for fold in folds]


# --- the split


@given(patients_of_cases, st.integers(2, 7), st.integers(0, 3))
def test_a_split_is_complete_disjoint_and_by_patient(patients, folds, seed):
    cases = cases_of(patients)
    split = split_patients(cases, folds, seed)
    assert len(split) == min(folds, len(set(patients)))
    assert all(split)
    assert sorted(c.case_id for fold in split for c in fold) == sorted(c.case_id for c in cases)
    of_fold = [{c.patient_id for c in fold} for fold in split]
    assert sum(len(p) for p in of_fold) == len(set(patients))


@given(patients_of_cases, st.integers(2, 7), st.randoms())
def test_a_split_depends_on_neither_order_nor_path(patients, folds, random):
    cases = cases_of(patients, "/elsewhere")
    random.shuffle(cases)
    assert split_ids(split_patients(cases, folds)) == split_ids(split_patients(cases_of(patients), folds))


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(2, 8))
def test_folds_of_single_cases_differ_by_one_at_most(n, folds):
    sizes = [len(fold) for fold in split_patients(cases_of(range(n)), folds)]
    assert max(sizes) - min(sizes) <= 1


def test_a_patient_with_many_cases_does_not_fill_a_fold_with_others():
    sizes = [len(fold) for fold in split_patients(cases_of([0] * 6 + [1, 2, 3, 4, 5, 6]), 2)]
    assert sizes == [6, 6]


def test_the_split_is_the_same_for_ever_and_another_seed_gives_another():
    # Recorded once: a run that is resumed under another version must not validate on what it trained on.
    cases = [make_case(f"BraTS20_Training_{i:03d}", {}, None) for i in range(1, 11)]
    numbers = [[int(c.case_id[-3:]) for c in fold] for fold in split_patients(cases, 5)]
    assert numbers == [[5, 8], [3, 9], [1, 2], [6, 10], [4, 7]]
    assert split_ids(split_patients(cases, 5, seed=1)) != split_ids(split_patients(cases, 5))


def test_one_patient_cannot_be_split():
    with pytest.raises(ValueError, match=r"found 2 case\(s\) of 1 patient\(s\): p0; expected two patients or more"):
        split_patients(cases_of([0, 0]))
    with pytest.raises(ValueError, match="folds: expected 2 or more"):
        split_patients(cases_of([0, 1]), folds=1)


# --- sections


def test_training_and_validation_share_the_cases_and_no_patient(make_dataset):
    root = make_dataset(6)
    for fold in range(5):
        training, validation = (ids(load_datalist(root, section, fold)) for section in ("training", "validation"))
        assert validation
        assert sorted(training + validation) == [f"BraTS20_Training_{i:03d}" for i in range(1, 7)]


def test_items_are_what_monai_loads(make_dataset):
    root = make_dataset(2)
    items = load_datalist(root, "training") + load_datalist(str(root), "validation")
    case = min(items, key=lambda item: item["case_id"])
    stem = f"{root}/BraTS20_Training_001/BraTS20_Training_001"
    assert case == {
        "image": [f"{stem}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair")],
        "label": f"{stem}_seg.nii.gz",
        "label_convention": "brats2020",
        "case_id": "BraTS20_Training_001",
        "patient_id": "BraTS20_Training_001",
    }


def test_inference_takes_every_case_and_gives_no_label(make_dataset, write_case, write_nifti):
    root = make_dataset(1)
    write_case(root / "BraTS20_Validation_001", label=False)
    write_nifti(root / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz", np.zeros((3, 3, 3), np.uint8))
    items = load_datalist(root, "inference", modalities=["flair", "t1"])
    assert ids(items) == ["BraTS20_Training_001", "BraTS20_Validation_001"]  # and a bad label is no matter
    assert all("label" not in item and len(item["image"]) == 2 for item in items)
    assert items[0]["image"][0].endswith("_t1.nii.gz")


def test_inference_takes_a_list_of_folders(make_dataset):
    root = make_dataset(3)
    listed = [root / "BraTS20_Training_003", root / "BraTS20_Training_001"]
    assert ids(load_datalist(listed, "inference")) == ["BraTS20_Training_001", "BraTS20_Training_003"]


def test_a_monai_config_can_call_it(make_dataset):
    config = {
        "dataset_dir": str(make_dataset(3)),
        "data": {
            "_target_": "brats3d.cases.datalist.load_datalist",
            "dataset_dir": "@dataset_dir",
            "section": "validation",
            "fold": 0,
            "modalities": ["t1", "t1ce", "t2", "flair"],
            "datalist": None,
        },
    }
    assert len(ConfigParser(config).get_parsed_content("data")) == 1


def test_a_fold_or_section_that_is_not_there_is_refused_with_the_valid_ones(make_dataset):
    root = make_dataset(3)
    for fold in (3, -1, True, "0"):
        with pytest.raises(ValueError, match=f"fold: expected 0 to 2, since there are 3 folds, got {fold!r}"):
            load_datalist(root, "training", fold)
    with pytest.raises(ValueError, match="section: expected one of training, validation, inference, got 'test'"):
        load_datalist(root, "test")


def test_one_patient_only_is_refused(make_dataset):
    with pytest.raises(ValueError, match="expected two patients or more"):
        load_datalist(make_dataset(1), "training")


def test_bad_headers_of_several_cases_are_reported_at_once(make_dataset, write_nifti):
    root = make_dataset(4)
    for i in (1, 2, 3, 4):
        name = f"BraTS20_Training_{i:03d}"
        write_nifti(root / name / f"{name}_t2.nii.gz", np.ones((16, 16, 12, 2), np.int16))
    with pytest.raises(ValueError) as error:
        load_datalist(root, "training")
    lines = str(error.value).splitlines()
    assert lines[0] == "training cases: 3 problems"
    assert all("is 4-D" in line for line in lines[1:4])


# --- datalist.json


def entry(i: int, fold: int | None = 0, **other) -> dict:
    name = f"BraTS20_Training_{i:03d}"
    images = [f"{name}/{name}_{m}.nii.gz" for m in ("flair", "t1ce", "t1", "t2")]  # in another tool's order
    return {"image": images, "label": f"{name}/{name}_seg.nii.gz", **({} if fold is None else {"fold": fold}), **other}


def write_datalist(path: Path, **content) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_datalist_in_the_folder_replaces_the_split_and_binds_by_name(make_dataset):
    root = make_dataset(3)
    write_datalist(root / "datalist.json", training=[entry(1, 1), entry(2, 0), entry(3, 1)])
    assert ids(load_datalist(root, "training", 0)) == ["BraTS20_Training_001", "BraTS20_Training_003"]
    (item,) = load_datalist(root, "validation", 0)
    by_name = next(case for case in find_cases(root) if case.case_id == "BraTS20_Training_002")
    assert item == case_to_item(by_name)
    assert ids(load_datalist(root, "inference")) == [f"BraTS20_Training_00{i}" for i in (1, 2, 3)]


def test_a_given_datalist_goes_before_the_one_in_the_folder(make_dataset, tmp_path):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(2, 1)])
    other = write_datalist(tmp_path / "other.json", training=[entry(1, 1), entry(2, 0)])
    assert ids(load_datalist(root, "validation")) == ["BraTS20_Training_001"]
    assert ids(load_datalist(root, "validation", datalist=other)) == ["BraTS20_Training_002"]


def test_a_validation_list_is_the_fold_that_validates(make_dataset):
    root = make_dataset(3)
    write_datalist(root / "datalist.json", training=[entry(1, None), entry(2, None)], validation=[entry(3, None)])
    assert ids(load_datalist(root, "training")) == ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert ids(load_datalist(root, "validation")) == ["BraTS20_Training_003"]


def test_a_patient_on_both_sides_is_refused(make_dataset):
    root = make_dataset(3)
    write_datalist(
        root / "datalist.json",
        training=[entry(1, 0, patient_id="anna"), entry(2, 1, patient_id="anna"), entry(3, 1, patient_id="bert")],
    )
    with pytest.raises(ValueError, match=r"1 patient\(s\) stand in several folds: anna \(anna in 0 and 1\)"):
        load_datalist(root, "training")


def test_every_fault_of_a_datalist_is_reported_at_once(make_dataset):
    root = make_dataset(5)
    no_t2 = entry(1)
    no_t2["image"].pop()
    nameless = entry(2)
    nameless["image"][0] = "BraTS20_Training_002/channel0.nii.gz"
    twice = entry(3)
    twice["image"][0] = twice["image"][1]
    no_label = entry(4)
    del no_label["label"]
    up = entry(5, case_id="../up")
    listed = [no_t2, nameless, twice, no_label, up, entry(5, None), "text", entry(5), entry(5, 1)]
    write_datalist(root / "datalist.json", training=listed)
    with pytest.raises(ValueError) as error:
        load_datalist(root, "training")
    summary, *problems, _advice = str(error.value).splitlines()
    assert summary == f"{root / 'datalist.json'}: 8 problems"
    expected = (
        "training[0]: missing t2",
        "channel0.nii.gz does not say which modality it is",
        "is a second t1ce",
        '"label" as a path',
        "expected one path component",
        'expected "fold" as a whole number',
        "training[6]: expected",
        "BraTS20_Training_005: listed 2 times",
    )
    for problem, text in zip(problems, expected, strict=True):
        assert text in problem


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"training": []}', '{"training": {"a": 1}}'])
def test_a_file_that_is_no_datalist_is_refused(make_dataset, text):
    root = make_dataset(2)
    (root / "datalist.json").write_text(text)
    with pytest.raises(ValueError, match=r"datalist.json: .*expected") as error:
        load_datalist(root, "training")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["9" * 5000, "a/" * 2500, "x/" + "9" * 256])
def test_a_path_that_no_file_system_has_is_told_in_short(make_dataset, path):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1), {**entry(2, 1), "label": path}])
    with pytest.raises(ValueError, match=r"datalist.json: .*is too long; expected the path of a file") as error:
        load_datalist(root, "training")
    assert len(str(error.value)) < 700


def test_a_datalist_with_one_fold_leaves_nothing_to_train_on(make_dataset):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(2, 0)])
    with pytest.raises(ValueError, match=r"has folds \[0\]; expected two or more, counted from 0"):
        load_datalist(root, "training")


def test_a_listed_file_that_is_not_there_is_named(make_dataset):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(7, 1)])
    with pytest.raises(ValueError, match=r"BraTS20_Training_007_t1.nii.gz: no such file"):
        load_datalist(root, "training")


def test_a_datalist_that_is_not_there_or_has_no_one_folder(make_dataset, tmp_path):
    root = make_dataset(2)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone.json"):
        load_datalist(root, "training", datalist=tmp_path / "gone.json")
    with pytest.raises(ValueError, match="relative to one dataset_dir"):
        load_datalist([root], "training", datalist=tmp_path / "gone.json")


# --- items explained


def test_an_item_gives_its_case_back(make_dataset):
    for case in find_cases(make_dataset(1)):
        assert item_to_case(case_to_item(case)) == case


def test_an_item_whose_files_are_sound_is_not_to_blame(make_dataset):
    for item in load_datalist(make_dataset(2), "training"):
        explain_item(item)


def test_an_item_with_a_truncated_file_is_explained(make_dataset):
    (item,) = load_datalist(make_dataset(2), "validation")
    path = Path(item["image"][2])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"_t2.nii.gz: file ends early"):
        explain_item(item)


def test_an_item_of_unknown_file_names_is_explained_too(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "scan.nii.gz", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(ValueError, match=r"scan.nii.gz: every voxel is 0"):
        explain_item({"image": [str(path)]})


# --- what the labels mean


def conventions(*args, **options) -> dict[str, str]:
    items = [item for section in ("training", "validation") for item in load_datalist(*args, section, **options)]
    return {item["case_id"]: item["label_convention"] for item in items}


def test_cases_of_several_releases_each_have_their_own_convention(tmp_path, write_case):
    for case_id in ("BraTS20_Training_001", "BraTS-GLI-00005-000", "BraTS-GLI-00006-100"):
        write_case(tmp_path / case_id)
    assert conventions(tmp_path) == {
        "BraTS20_Training_001": "brats2020",
        "BraTS-GLI-00005-000": "brats2023",
        "BraTS-GLI-00006-100": "brats2024-gli",
    }


def test_what_names_leave_open_the_user_must_say(tmp_path, write_case):
    for number in (1, 2):
        write_case(tmp_path / f"BraTS-PED-0000{number}-000")
    with pytest.raises(
        ValueError,
        match=r"the names do not say what the labels mean; pass --label_convention brats2023 or brats2024-ped",
    ):
        load_datalist(tmp_path, "training")
    assert set(conventions(tmp_path, label_convention="brats2024-ped").values()) == {"brats2024-ped"}
    assert len(load_datalist(tmp_path, "inference")) == 2  # no labels, no question


def test_names_that_monai_has_made_paths_of_are_read_back():
    item = {"image": ["/data/a/a_t1.nii"], "case_id": "/data/a", "label_convention": "/data/brats2023"}
    case = item_to_case(item)
    assert (case.case_id, case.convention) == ("a", "brats2023")


def test_an_unknown_convention_is_refused(make_dataset):
    with pytest.raises(ValueError, match=r"label_convention: expected one of brats2020, .* got '2020'"):
        load_datalist(make_dataset(2), "training", label_convention="2020")


def test_a_datalist_states_the_convention_of_its_cases(make_dataset):
    root = make_dataset(2)
    items = [case_to_item(case) | {"fold": k} for k, case in enumerate(find_cases(root, require_label=True))]
    (root / "datalist.json").write_text(
        json.dumps({"training": [i | {"label_convention": "brats2023"} for i in items]})
    )
    assert set(conventions(root).values()) == {"brats2023"}
    (root / "datalist.json").write_text(json.dumps({"training": [i | {"label_convention": "x"} for i in items]}))
    with pytest.raises(ValueError, match=r"training\[0\]: label_convention: expected one of"):
        load_datalist(root, "training")


def test_one_patient_under_two_releases_names_stays_on_one_side(tmp_path, write_case):
    names = ["Brats18_CBICA_AAB_1", "BraTS20_Training_271", "BraTS20_Training_001", "BraTS20_Training_002"]
    for name in names:
        write_case(tmp_path / name)
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,Brats18_CBICA_AAB_1,BraTS20_Training_271\n"
    )
    same = set(names[:2])
    for fold in range(3):
        sides = [{item["case_id"] for item in load_datalist(tmp_path, s, fold)} for s in ("training", "validation")]
        assert any(same <= side for side in sides), sides
    apart = [{**case_to_item(case), "fold": k} for k, case in enumerate(find_cases(tmp_path, require_label=True))]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": apart}))
    with pytest.raises(
        ValueError, match=r"1 patient\(s\) stand in several folds: BraTS20_Training_271 .* in 2 and 3\)"
    ):
        load_datalist(tmp_path, "training", fold=0)  # which is neither


def test_time_points_of_one_patient_stay_on_one_side(tmp_path, write_case):
    for case_id in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS-GLI-00006-000", "BraTS2021_00005"):
        write_case(tmp_path / case_id)
    sides = [{item["case_id"] for item in load_datalist(tmp_path, s)} for s in ("training", "validation")]
    assert {"BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS2021_00005"} in sides


# --- leaks by the files of a datalist


def entries(root: Path) -> list[dict]:
    return [case_to_item(case) | {"fold": k} for k, case in enumerate(find_cases(root, require_label=True))]


def test_one_cases_files_under_two_identifiers_are_refused(make_dataset):
    root = make_dataset(3)
    first, *rest = entries(root)
    again = first | {"case_id": "other", "patient_id": "other", "fold": 1}
    (root / "datalist.json").write_text(json.dumps({"training": [first, *rest, again]}))
    with pytest.raises(
        ValueError, match=r"BraTS20_Training_001 and other: both list .*; expected each file in one case"
    ):
        load_datalist(root, "training")


@pytest.mark.parametrize("key", ["image", "label"])
def test_an_entry_of_files_of_two_cases_is_refused(make_dataset, key):
    root = make_dataset(3)
    items = entries(root)
    other = items[1]["label"] if key == "label" else [items[1]["image"][0], *items[0]["image"][1:]]
    items[0] |= {key: other}
    del items[1]
    (root / "datalist.json").write_text(json.dumps({"training": [items[0], items[1] | {"fold": 1}]}))
    with pytest.raises(ValueError, match=r"its files are of several cases: BraTS20_Training_001, BraTS20_Training_002"):
        load_datalist(root, "training")


def test_a_datalist_with_a_byte_order_mark_is_read(make_dataset):
    root = make_dataset(2)
    (root / "datalist.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"training": entries(root)}).encode())
    assert len(load_datalist(root, "training")) == 1


def test_releases_that_share_patients_are_pointed_out_where_no_mapping_lies_beside_them(tmp_path, write_case, log):
    for name in ("BraTS2021_00005", "BraTS20_Training_001"):
        write_case(tmp_path / name)
    load_datalist(tmp_path, "training")
    load_datalist(tmp_path, "validation")
    assert log.text.count("a patient may stand under two names in two folds") == 1


def test_labels_of_unknown_cases_under_2023s_file_names_must_be_explained(tmp_path, write_case):
    for case_id in ("BraTS-GoAT-00001", "BraTS-GoAT-00002"):
        folder = write_case(tmp_path / case_id)
        for old, new in (("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("flair", "t2f"), ("seg", "seg")):
            (folder / f"{case_id}_{old}.nii.gz").rename(folder / f"{case_id}-{new}.nii.gz")
    with pytest.raises(ValueError, match=r"BraTS-GoAT-0000\d: the names do not say .* brats2023 or brats2024-gli or"):
        load_datalist(tmp_path, "training")


# --- cases that lack sequences


def test_inference_items_of_cases_that_lack_sequences_hold_what_is_there_and_say_so(make_dataset, log):
    root = make_dataset(3)
    for absent in ("1/BraTS20_Training_001_t1ce", "3/BraTS20_Training_003_t1ce", "2/BraTS20_Training_002_t1"):
        (root / f"BraTS20_Training_00{absent}.nii.gz").unlink()
    items = load_datalist(root, "inference", absent_sequences=True)
    assert [len(item["image"]) for item in items] == [3, 3, 3]
    assert items[1]["image"] == [
        str(root / ids(items)[1] / f"{ids(items)[1]}_{m}.nii.gz") for m in ("t1ce", "t2", "flair")
    ]
    of_t1ce, of_t1 = log.messages
    assert of_t1ce.startswith(
        "BraTS20_Training_001, BraTS20_Training_003: segmented without t1ce; without t1ce the enh"
    )
    assert of_t1 == "BraTS20_Training_002: segmented without t1"


def test_cases_that_lack_nothing_are_not_warned_of(make_dataset, log):
    root = make_dataset(2)
    assert load_datalist(root, "inference", absent_sequences=True) == load_datalist(root, "inference")
    assert log.messages == []


@pytest.mark.parametrize("section", ["training", "validation", "inference"])
def test_cases_that_lack_a_sequence_are_refused_unless_it_is_allowed(make_dataset, section):
    root = make_dataset(3, modalities=("t1", "t2", "flair"))
    with pytest.raises(ValueError, match=r"missing t1ce; found t1, t2, flair.*") as error:
        load_datalist(root, section)
    assert "--modalities \"['t1','t2','flair']\"" in str(error.value)


@pytest.mark.parametrize("section", ["training", "validation"])
def test_only_inference_goes_without_a_sequence(make_dataset, section):
    with pytest.raises(ValueError, match=f"absent_sequences: expected section 'inference' with it, got '{section}'"):
        load_datalist(make_dataset(3), section, absent_sequences=True)


def test_no_sequence_at_all_is_an_error(make_dataset):
    root = make_dataset(2)
    for file in (root / "BraTS20_Training_002").glob("*_[tf]*"):
        file.unlink()
    with pytest.raises(
        ValueError, match=r"BraTS20_Training_002: no sequence; found seg in .*; expected one or more of"
    ):
        load_datalist(root, "inference", absent_sequences=True)

"""Loading a data set as MONAI datalist items, for training, validation and inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brats3d.cases.load import load_cases, load_fold
from brats3d.errors import DataError, UsageError
from brats3d.files import Failures

SECTIONS = ("training", "validation")


def ids(items) -> list[str]:
    return [item["case_id"] for item in items]


def sides(root: Path, fold: int = 0) -> list[set[str]]:
    return [set(ids(load_fold(root, section, fold))) for section in SECTIONS]


def conventions(root: Path, **options) -> dict[str, str]:
    items = [item for section in SECTIONS for item in load_fold(root, section, **options)]
    return {item["case_id"]: item["label_convention"] for item in items}


# --- load_fold


def test_training_and_validation_together_are_all_cases(make_dataset):
    root = make_dataset(6)
    for fold in range(5):
        training, validation = (ids(load_fold(root, section, fold)) for section in SECTIONS)
        assert validation
        assert sorted(training + validation) == [f"BraTS20_Training_{i:03d}" for i in range(1, 7)]


def test_items_hold_images_label_convention_and_identifiers(make_dataset):
    root = make_dataset(2)
    items = load_fold(root, "training") + load_fold(str(root), "validation")
    stem = f"{root}/BraTS20_Training_001/BraTS20_Training_001"
    assert min(items, key=lambda item: item["case_id"]) == {
        "image": [f"{stem}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair")],
        "label": f"{stem}_seg.nii.gz",
        "label_convention": "brats2020",
        "case_id": "BraTS20_Training_001",
        "patient_id": "BraTS20_Training_001",
    }


@pytest.mark.parametrize("fold", [3, -1, True, "0"])
def test_an_invalid_fold_is_refused(make_dataset, fold):
    with pytest.raises(UsageError) as error:
        load_fold(make_dataset(3), "training", fold)
    assert (error.value.subject, error.value.found) == ("fold", fold)
    assert error.value.expected.startswith("0 to 2")


def test_an_invalid_section_is_refused(make_dataset):
    with pytest.raises(UsageError) as error:
        load_fold(make_dataset(3), "inference")
    assert error.value.subject == "section"


def test_bad_headers_of_several_cases_are_reported_together(make_dataset, write_nifti):
    root = make_dataset(4)
    for i in (1, 2, 3, 4):
        name = f"BraTS20_Training_{i:03d}"
        write_nifti(root / name / f"{name}_t2.nii.gz", np.ones((16, 16, 12, 2), np.int16))
    with pytest.raises(DataError) as error:
        load_fold(root, "training")
    assert error.value.subject == "training cases"
    assert len(error.value.problems) == 3
    assert all("is 4-D" in problem for problem in error.value.problems)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_sequence_is_refused_in_training(make_dataset, section):
    with pytest.raises(DataError) as error:
        load_fold(make_dataset(3, modalities=("t1", "t2", "flair")), section)
    assert all("missing t1ce" in problem for problem in error.value.problems)
    assert "--modalities \"['t1','t2','flair']\"" in error.value.advice


def test_cases_of_several_releases_keep_their_own_convention(tmp_path, write_case):
    for case_id in ("BraTS20_Training_001", "BraTS-GLI-00005-000", "BraTS-GLI-00006-100"):
        write_case(tmp_path / case_id)
    assert conventions(tmp_path) == {
        "BraTS20_Training_001": "brats2020",
        "BraTS-GLI-00005-000": "brats2023",
        "BraTS-GLI-00006-100": "brats2024-gli",
    }


def test_an_undecided_convention_must_be_given(tmp_path, write_case):
    for number in (1, 2):
        write_case(tmp_path / f"BraTS-PED-0000{number}-000")
    with pytest.raises(UsageError) as error:
        load_fold(tmp_path, "training")
    assert error.value.subject == "label_convention"
    assert error.value.expected == "brats2024-ped"  # label 4 does not occur in 2023
    assert set(conventions(tmp_path, label_convention="brats2024-ped").values()) == {"brats2024-ped"}
    assert len(load_cases(tmp_path)) == 2  # inference needs no labels


def test_files_named_as_in_2023_under_unknown_identifiers_leave_the_convention_undecided(tmp_path, write_case):
    for case_id in ("BraTS-GoAT-00001", "BraTS-GoAT-00002"):
        folder = write_case(tmp_path / case_id)
        for old, new in (("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("flair", "t2f"), ("seg", "seg")):
            (folder / f"{case_id}_{old}.nii.gz").rename(folder / f"{case_id}-{new}.nii.gz")
    with pytest.raises(UsageError) as error:
        load_fold(tmp_path, "training")
    assert error.value.expected == "brats2020 or brats2015 or brats2024-gli or brats2024-ped"


def test_an_unknown_convention_is_refused(make_dataset):
    with pytest.raises(ValueError, match="label_convention"):
        load_fold(make_dataset(2), "training", label_convention="2020")


def test_time_points_of_one_patient_stay_together(tmp_path, write_case):
    for case_id in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS-GLI-00006-000", "BraTS2021_00005"):
        write_case(tmp_path / case_id)
    assert {"BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS2021_00005"} in sides(tmp_path)


def test_one_patient_under_the_names_of_two_releases_stays_together(tmp_path, write_case):
    names = ["Brats18_CBICA_AAB_1", "BraTS20_Training_271", "BraTS20_Training_001", "BraTS20_Training_002"]
    for name in names:
        write_case(tmp_path / name)
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,Brats18_CBICA_AAB_1,BraTS20_Training_271\n"
    )
    for fold in range(3):
        assert any(set(names[:2]) <= side for side in sides(tmp_path, fold))


def test_several_releases_without_a_mapping_log_one_warning(tmp_path, write_case, log):
    for name in ("BraTS2021_00005", "BraTS20_Training_001"):
        write_case(tmp_path / name)
    load_fold(tmp_path, "training")
    load_fold(tmp_path, "validation")
    assert log.text.count("no name_mapping.csv") == 1


# --- load_cases


def test_inference_loads_every_case_without_its_label(make_dataset, write_case, write_nifti):
    root = make_dataset(1)
    write_case(root / "BraTS20_Validation_001", label=False)
    bad_label = root / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz"
    write_nifti(bad_label, np.zeros((3, 3, 3), np.uint8))
    items = load_cases(root, modalities=["flair", "t1"])
    assert ids(items) == ["BraTS20_Training_001", "BraTS20_Validation_001"]
    assert all("label" not in item and len(item["image"]) == 2 for item in items)
    assert items[0]["image"][0].endswith("_t1.nii.gz")


def test_a_shard_holds_every_nth_case(make_dataset, tmp_path):
    root = make_dataset(5)
    shards = [ids(load_cases(root, shard=f"{i}/2")) for i in (1, 2)]
    assert shards == [[f"BraTS20_Training_00{i}" for i in numbers] for numbers in ((1, 3, 5), (2, 4))]
    failures = Failures(tmp_path / "out")
    assert [ids(load_cases(root, failures=failures, shard=f"{i}/2")) for i in (1, 2)] == shards
    assert ids(load_cases(root, failures=failures, shard="6/6")) == []


def test_unusable_cases_become_failures(make_dataset, write_nifti, tmp_path):
    root = make_dataset(4)
    (root / "BraTS20_Training_001" / "BraTS20_Training_001_t2.nii.gz").unlink()
    write_nifti(root / "BraTS20_Training_003" / "BraTS20_Training_003_t2.nii.gz", np.ones((8, 8, 8), np.int16))
    (root / "BraTS20_Training_009").mkdir()
    (root / "BraTS20_Training_009" / "channel0.nii.gz").touch()
    failures = Failures(tmp_path / "out")
    assert ids(load_cases(root, failures=failures)) == ["BraTS20_Training_002", "BraTS20_Training_004"]
    assert [(failure.case_id, Path(failure.folder)) for failure in failures] == [
        (name, root / name) for name in ("BraTS20_Training_001", "BraTS20_Training_003", "BraTS20_Training_009")
    ]


def test_unusable_cases_raise_if_no_case_is_usable(make_dataset, tmp_path):
    root = make_dataset(2, modalities=("t1", "t2"))
    failures = Failures(tmp_path / "out")
    with pytest.raises(DataError) as error:
        load_cases(root, failures=failures)
    assert len(error.value.problems) == 2
    assert not failures


def test_cases_that_lack_sequences_are_loaded_with_a_warning(make_dataset, log):
    root = make_dataset(3)
    for absent in ("1/BraTS20_Training_001_t1ce", "3/BraTS20_Training_003_t1ce", "2/BraTS20_Training_002_t1"):
        (root / f"BraTS20_Training_00{absent}.nii.gz").unlink()
    items = load_cases(root, absent_sequences=True)
    assert [len(item["image"]) for item in items] == [3, 3, 3]
    stem = root / "BraTS20_Training_002" / "BraTS20_Training_002"
    assert items[1]["image"] == [f"{stem}_{m}.nii.gz" for m in ("t1ce", "t2", "flair")]
    without_t1ce, without_t1 = log.messages
    assert without_t1ce.startswith("BraTS20_Training_001, BraTS20_Training_003: segmented without t1ce")
    assert without_t1 == "BraTS20_Training_002: segmented without t1"


def test_complete_cases_are_loaded_without_a_warning(make_dataset, log):
    root = make_dataset(2)
    assert load_cases(root, absent_sequences=True) == load_cases(root)
    assert log.messages == []


def test_time_points_under_unknown_names_stay_together_and_are_reported(tmp_path, write_case, log):
    for name in ("A1_11", "A1_21", "A2_11", "A3_11"):
        write_case(tmp_path / name)
    write_case(tmp_path / "A3_21", label=False)
    folds = [load_fold(tmp_path, "validation", fold=k) for k in range(3)]
    assert sorted(sorted(item["case_id"] for item in fold) for fold in folds) == [
        ["A1_11", "A1_21"],
        ["A2_11"],
        ["A3_11"],
    ]
    assert not log.messages
    load_fold(tmp_path, "training")
    (warning,) = log.messages
    assert "A1_11, A1_21" in warning and "patients.csv" in warning

"""Reading the folds of a datalist.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats3d.cases.case import case_to_item
from brats3d.cases.datalist import read_datalist
from brats3d.cases.load import load_cases, load_fold
from brats3d.cases.search import find_cases
from brats3d.errors import DataError, NotFoundError, UsageError


def entry(i: int, fold: int | None = 0, **other) -> dict:
    name = f"BraTS20_Training_{i:03d}"
    images = [f"{name}/{name}_{m}.nii.gz" for m in ("flair", "t1ce", "t1", "t2")]  # in another tool's order
    return {"image": images, "label": f"{name}/{name}_seg.nii.gz", **({} if fold is None else {"fold": fold}), **other}


def entries(root: Path) -> list[dict]:
    """One entry per case, each in a fold of its own."""
    return [case_to_item(case) | {"fold": k} for k, case in enumerate(find_cases(root, require_label=True))]


def write_datalist(path: Path, **content) -> Path:
    path.write_text(json.dumps(content))
    return path


def folds(*args, **options) -> list[list[str]]:
    return [[case.case_id[-3:] for case in fold] for fold in read_datalist(*args, **options)]


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        read_datalist(root)
    assert error.value.subject == str(root / "datalist.json")
    return error.value.problems or (error.value.problem,)


def test_folds_come_from_the_file_and_images_are_bound_by_name(make_dataset):
    root = make_dataset(3)
    assert read_datalist(root) is None
    write_datalist(root / "datalist.json", training=[entry(1, 1), entry(2, 0), entry(3, 1)])
    assert folds(root) == [["002"], ["001", "003"]]
    (case,) = read_datalist(root)[0]
    assert case == find_cases(root)[1]
    assert len(load_cases(root)) == 3  # inference ignores the folds


def test_a_given_datalist_overrides_the_one_in_the_folder(make_dataset, tmp_path):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(2, 1)])
    other = write_datalist(tmp_path / "other.json", training=[entry(1, 1), entry(2, 0)])
    assert folds(root) == [["001"], ["002"]]
    assert folds(root, datalist=other) == [["002"], ["001"]]


def test_a_validation_list_is_fold_0(make_dataset):
    root = make_dataset(3)
    write_datalist(root / "datalist.json", training=[entry(1, None), entry(2, None)], validation=[entry(3, None)])
    assert [item["case_id"][-3:] for item in load_fold(root, "training")] == ["001", "002"]
    assert [item["case_id"][-3:] for item in load_fold(root, "validation")] == ["003"]


def test_a_datalist_with_a_byte_order_mark_is_read(make_dataset):
    root = make_dataset(2)
    (root / "datalist.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"training": entries(root)}).encode())
    assert folds(root) == [["001"], ["002"]]


def test_entries_state_their_label_convention(make_dataset):
    root = make_dataset(2)
    stated = [item | {"label_convention": "brats2023"} for item in entries(root)]
    write_datalist(root / "datalist.json", training=stated)
    assert [case.convention for fold in read_datalist(root) for case in fold] == ["brats2023", "brats2023"]
    write_datalist(root / "datalist.json", training=[stated[0], stated[1] | {"label_convention": "x"}])
    (problem,) = problems(root)
    assert problem.startswith("training[1]: label_convention")


def test_all_problems_of_a_datalist_are_reported_together(make_dataset):
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
    expected = ("missing t2", "channel0.nii.gz", "t1ce", "label:", "../up", "fold:", "'text'")
    *of_entries, of_case = problems(root)
    for i, (problem, text) in enumerate(zip(of_entries, expected, strict=True)):
        assert problem.startswith(f"training[{i}]: ")
        assert text in problem
    assert of_case.startswith("BraTS20_Training_005: listed 2 times")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"training": []}', '{"training": {"a": 1}}'])
def test_a_file_in_another_form_is_refused(make_dataset, text):
    root = make_dataset(2)
    (root / "datalist.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_datalist(root)
    assert error.value.subject == str(root / "datalist.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["9" * 5000, "a/" * 2500, "x/" + "9" * 256])
def test_the_message_about_an_overlong_path_is_short(make_dataset, path):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1), {**entry(2, 1), "label": path}])
    (problem,) = problems(root)
    assert "too long" in problem
    assert len(problem) < 500


def test_a_single_fold_is_refused(make_dataset):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(2, 0)])
    assert "two or more" in problems(root)[0]


def test_a_listed_file_that_does_not_exist_is_reported(make_dataset):
    root = make_dataset(2)
    write_datalist(root / "datalist.json", training=[entry(1, 0), entry(7, 1)])
    with pytest.raises(DataError) as error:
        load_fold(root, "training")
    assert any("BraTS20_Training_007_t1.nii.gz" in problem for problem in error.value.problems)


def test_a_datalist_needs_to_exist_and_one_folder(make_dataset, tmp_path):
    root = make_dataset(2)
    with pytest.raises(NotFoundError) as missing:
        read_datalist(root, datalist=tmp_path / "gone.json")
    assert (missing.value.subject, missing.value.found) == ("datalist", str(tmp_path / "gone.json"))
    with pytest.raises(UsageError) as several:
        read_datalist([root], datalist=tmp_path / "gone.json")
    assert several.value.subject == "datalist"


def test_a_patient_in_two_folds_is_refused(make_dataset):
    root = make_dataset(3)
    listed = [entry(1, 0, patient_id="anna"), entry(2, 1, patient_id="anna"), entry(3, 1, patient_id="bert")]
    write_datalist(root / "datalist.json", training=listed)
    (problem,) = problems(root)
    assert problem.startswith("patient anna is in folds 0 and 1")


def test_a_patient_under_the_names_of_two_releases_in_two_folds_is_refused(tmp_path, write_case):
    for name in ("Brats18_CBICA_AAB_1", "BraTS20_Training_271"):
        write_case(tmp_path / name)
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,Brats18_CBICA_AAB_1,BraTS20_Training_271\n"
    )
    write_datalist(tmp_path / "datalist.json", training=entries(tmp_path))
    (problem,) = problems(tmp_path)
    assert problem.startswith("patient BraTS20_Training_271 is in folds 0 and 1")


def test_files_listed_for_two_cases_are_refused(make_dataset):
    root = make_dataset(3)
    first, *rest = entries(root)
    again = first | {"case_id": "other", "patient_id": "other", "fold": 1}
    write_datalist(root / "datalist.json", training=[first, *rest, again])
    assert any(problem.startswith("BraTS20_Training_001 and other: both list ") for problem in problems(root))


@pytest.mark.parametrize("key", ["image", "label"])
def test_an_entry_with_files_of_two_cases_is_refused(make_dataset, key):
    root = make_dataset(3)
    first, second, third = entries(root)
    other = second["label"] if key == "label" else [second["image"][0], *first["image"][1:]]
    write_datalist(root / "datalist.json", training=[first | {key: other}, third | {"fold": 1}])
    (problem,) = problems(root)
    assert "several cases: BraTS20_Training_001, BraTS20_Training_002" in problem


def test_a_case_named_t2_is_read(tmp_path, write_case):
    for name in ("P01_T1", "P01_T2", "P02_T2"):
        write_case(tmp_path / name)
    write_datalist(
        tmp_path / "datalist.json", training=[item | {"fold": k} for k, item in zip((0, 0, 1), entries(tmp_path))]
    )
    assert [case.case_id for fold in read_datalist(tmp_path) for case in fold] == ["P01_T1", "P01_T2", "P02_T2"]


def test_entries_without_a_patient_are_grouped_by_name_and_others_are_as_stated(tmp_path, write_case):
    for name in ("A1_FU1", "A1_FU2", "A2_FU1"):
        write_case(tmp_path / name)
    listed = entries(tmp_path)
    unstated = [{key: value for key, value in item.items() if key != "patient_id"} for item in listed]
    write_datalist(tmp_path / "datalist.json", training=unstated)
    (problem,) = problems(tmp_path)
    assert problem == "patient A1 is in folds 0 and 1"
    write_datalist(tmp_path / "datalist.json", training=listed)  # each case is a patient of its own
    assert [case.patient_id for fold in read_datalist(tmp_path) for case in fold] == ["A1_FU1", "A1_FU2", "A2_FU1"]
    write_datalist(tmp_path / "datalist.json", training=unstated)
    (tmp_path / "patients.csv").write_text("case_id,patient_id\nA1_FU1,a\nA1_FU2,b\n")
    assert [case.patient_id for fold in read_datalist(tmp_path) for case in fold] == ["a", "b", "A2_FU1"]

"""Discovery of cases, and what is said where files are missing or double."""

from __future__ import annotations

import itertools
import pickle
import sys
import time
from pathlib import Path

import pytest

from brats3d.cases.case import Case, absent_warnings, find_cases, make_case, scan_cases
from brats3d.labels import MODALITIES

CASE_1 = "BraTS20_Training_001"


def ids(cases: list[Case]) -> list[str]:
    return [case.case_id for case in cases]


def touch_case(folder: Path, modalities=(*MODALITIES, "seg"), suffix: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for modality in modalities:
        (folder / f"{folder.name}_{modality}{suffix}").touch()
    return folder


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what is found


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("layout", "first"), [("brats2020", CASE_1), ("brats2021", "BraTS2021_00001")])
def test_cases_of_both_releases_and_both_suffixes_are_found(make_dataset, layout, first, suffix):
    root = make_dataset(2, layout, suffix=suffix)
    case = find_cases(root)[0]
    assert (case.case_id, case.layout, case.convention, case.grade) == (first, layout, "brats2020", None)
    assert list(case.images) == ["t1", "t1ce", "t2", "flair"]
    assert case.images["t1ce"] == root / first / f"{first}_t1ce{suffix}"
    assert case.label == root / first / f"{first}_seg{suffix}"


def test_other_identifiers_in_the_same_form_are_cases_of_brats2020s_layout(tmp_path):
    touch_case(tmp_path / "TCGA-DU-7294")
    (case,) = find_cases(tmp_path)
    assert (case.case_id, case.layout) == ("TCGA-DU-7294", "brats2020")


def test_modalities_stand_in_the_one_order_whatever_order_was_asked_for(tmp_path):
    touch_case(tmp_path / CASE_1)
    (case,) = find_cases(tmp_path, ["flair", "t2", "t1"])
    assert list(case.images) == ["t1", "t2", "flair"]


def test_cases_come_in_natural_order(tmp_path):
    for n in (10, 9, 100):
        touch_case(tmp_path / f"subject{n}")
    assert ids(find_cases(tmp_path)) == ["subject9", "subject10", "subject100"]


def test_kaggles_archive_is_found_from_above_with_csvs_and_validation_cases_beside(tmp_path):
    training = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    validation = tmp_path / "BraTS2020_ValidationData" / "MICCAI_BraTS2020_ValidationData"
    touch_case(training / CASE_1, suffix=".nii")
    touch_case(validation / "BraTS20_Validation_001", MODALITIES, suffix=".nii")
    for name in ("name_mapping.csv", "survival_info.csv", ".DS_Store"):
        (training / name).touch()
    (training / CASE_1 / f"._{CASE_1}_t1.nii").touch()
    touch_case(tmp_path / "__MACOSX" / CASE_1)
    assert ids(find_cases(tmp_path)) == [CASE_1, "BraTS20_Validation_001"]
    assert ids(find_cases(tmp_path, require_label=True)) == [CASE_1]


def test_one_case_folder_and_a_list_of_folders_are_accepted(tmp_path):
    a, b = (touch_case(tmp_path / name) for name in ("BraTS2021_00001", "BraTS2021_00002"))
    assert ids(find_cases(a)) == ["BraTS2021_00001"]
    assert ids(find_cases([str(b), a])) == ["BraTS2021_00001", "BraTS2021_00002"]
    assert ids(find_cases([a, tmp_path, a])) == ["BraTS2021_00001", "BraTS2021_00002"]  # listed twice is found once


def test_all_files_in_one_flat_folder_are_sorted_by_case(tmp_path):
    for name in ("BraTS2021_00001", "BraTS2021_00002"):
        for modality in (*MODALITIES, "seg"):
            (tmp_path / f"{name}_{modality}.nii.gz").touch()
    cases = find_cases(tmp_path)
    assert ids(cases) == ["BraTS2021_00001", "BraTS2021_00002"]
    assert [case.label.name for case in cases] == ["BraTS2021_00001_seg.nii.gz", "BraTS2021_00002_seg.nii.gz"]


@pytest.mark.parametrize("name", ["W39_1998.09.19_Segm.nii", "W39_seg.nii.gz", "tumourSEG.nii"])
def test_a_lone_misnamed_segmentation_is_the_cases(tmp_path, name):
    folder = touch_case(tmp_path / "BraTS20_Training_355", MODALITIES, ".nii")
    (folder / name).touch()
    (case,) = find_cases(tmp_path, require_label=True)
    assert case.label == folder / name


def test_a_misnamed_segmentation_beside_the_right_one_is_ignored(tmp_path):
    folder = touch_case(tmp_path / CASE_1)
    (folder / "old_Segm.nii").touch()
    assert find_cases(tmp_path)[0].label == folder / f"{CASE_1}_seg.nii.gz"


def test_two_candidates_for_the_segmentation_are_an_error_where_one_is_needed(tmp_path):
    folder = touch_case(tmp_path / CASE_1, MODALITIES)
    (folder / "a_Segm.nii").touch()
    (folder / "b_Segm.nii").touch()
    assert find_cases(tmp_path)[0].label is None
    with pytest.raises(ValueError, match=r"2 files could be its segmentation: a_Segm.nii and b_Segm.nii") as error:
        find_cases(tmp_path, require_label=True)
    assert "expected BraTS20_Training_001_seg.nii[.gz]" in one_line(error)


def test_a_folder_in_a_files_place_stands_for_the_file_in_it(tmp_path):
    folder = touch_case(tmp_path / CASE_1, ("t1", "t1ce", "t2", "seg"), ".nii")
    inner = folder / f"{CASE_1}_flair.nii" / "00000057_brain_flair.nii"
    inner.parent.mkdir()
    inner.touch()
    assert find_cases(tmp_path)[0].images["flair"] == inner
    (inner.parent / "other.nii").touch()
    with pytest.raises(ValueError, match="2 files for flair"):
        find_cases(tmp_path)
    (inner.parent / "other.nii").unlink()
    inner.unlink()
    with pytest.raises(ValueError, match="missing flair"):
        find_cases(tmp_path)


def test_links_are_followed_and_circles_are_left(tmp_path):
    real = touch_case(tmp_path / "elsewhere" / CASE_1)
    data = tmp_path / "data"
    data.mkdir()
    (data / CASE_1).symlink_to(real, target_is_directory=True)
    linked = data / "BraTS20_Training_002"
    linked.mkdir()
    for modality in MODALITIES:
        (linked / f"{linked.name}_{modality}.nii.gz").symlink_to(real / f"{CASE_1}_{modality}.nii.gz")
    (data / "circle").symlink_to(data, target_is_directory=True)
    (data / "self").symlink_to(data / "self")
    (data / "zzz").symlink_to(linked, target_is_directory=True)  # the same folder by another name is no second case
    cases = find_cases(data)
    assert ids(cases) == [CASE_1, "BraTS20_Training_002"]
    assert cases[1].images["t1"] == linked / "BraTS20_Training_002_t1.nii.gz"


def test_unrelated_files_are_no_cases(tmp_path):
    touch_case(tmp_path / CASE_1)
    for name in ("atlas_t1.nii", "BraTS20_Training_001.nii.gz", "prediction_seg.nii.gz", "readme_t1.txt"):
        (tmp_path / name).touch()
    assert ids(find_cases(tmp_path)) == [CASE_1]


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    touch_case(tmp_path / CASE_1)
    monkeypatch.chdir(tmp_path)
    assert find_cases(".")[0].images["t1"] == tmp_path / CASE_1 / f"{CASE_1}_t1.nii.gz"


def test_two_thousand_cases_are_discovered(tmp_path):
    for n in range(2000):
        touch_case(tmp_path / f"BraTS2021_{n:05d}")
    start = time.perf_counter()
    assert len(find_cases(tmp_path, require_label=True)) == 2000
    print(f"2,000 cases: {time.perf_counter() - start:.2f} s")


def test_a_case_can_be_pickled_and_its_patient_follows_from_the_layout(tmp_path):
    case = make_case("BraTS2021_00001", {"flair": tmp_path, "t1": tmp_path}, None)
    assert pickle.loads(pickle.dumps(case)) == case
    assert list(case.images) == ["t1", "flair"]


@pytest.mark.parametrize("case_id", ["", ".", "..", "a/b", "..\\b", "a\0b"])
def test_a_case_id_is_one_path_component(case_id):
    with pytest.raises(ValueError, match="expected one path component"):
        make_case(case_id, {}, None)


def test_the_grade_is_that_of_the_nearest_folder(tmp_path):
    for grade, name in (("HGG", "Brats18_CBICA_AAB_1"), ("LGG", "Brats18_TCIA09_141_1")):
        touch_case(tmp_path / "LGG" / grade.lower() / name)
    assert [(case.patient_id, case.grade) for case in find_cases(tmp_path)] == [
        ("CBICA_AAB", "HGG"),
        ("TCIA09_141", "LGG"),
    ]


def test_a_bare_folder_of_one_cases_files_is_a_case_named_like_it(tmp_path):
    folder = tmp_path / "Müller, A. (2. Scan)"
    folder.mkdir()
    for modality in ("T1", "t1c", "T2w", "FLAIR"):
        (folder / f"{modality}.nii.gz").touch()
    (case,) = find_cases(folder)
    assert (case.case_id, case.label, list(case.images)) == (folder.name, None, list(MODALITIES))
    assert case.images["t1ce"] == folder / "t1c.nii.gz"
    (folder / "seg.nii.gz").touch()
    assert find_cases(tmp_path, require_label=True)[0].label == folder / "seg.nii.gz"
    (folder / "FLAIR.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"missing flair; .* expected flair.nii\[.gz\]"):
        find_cases(folder)


def test_a_lone_bare_file_is_no_case(tmp_path):
    touch_case(tmp_path / CASE_1)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "t1.nii.gz").touch()
    assert ids(find_cases(tmp_path)) == [CASE_1]


@pytest.mark.parametrize("name", ["mit Leerzeichen", "Müller-Ωμέγα", "脑肿瘤", "a'b&c"])
def test_folders_with_spaces_and_other_letters(tmp_path, name):
    touch_case(tmp_path / name / CASE_1)
    assert find_cases(tmp_path / name)[0].images["t1"] == tmp_path / name / CASE_1 / f"{CASE_1}_t1.nii.gz"


def test_a_scan_reports_what_find_cases_raises(tmp_path):
    whole = touch_case(tmp_path / "BraTS20_Training_001")
    touch_case(tmp_path / "BraTS20_Training_002", ("t1", "t2", "seg"))
    misnamed = touch_case(tmp_path / "BraTS20_Training_355", MODALITIES)
    (misnamed / "W39_1998.09.19_Segm.nii").touch()
    (whole / "BraTS20_Training_001_t1.nii").touch()
    scan = scan_cases(tmp_path)
    assert ids(scan.cases) == ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_355"]
    assert list(scan.cases[1].images) == ["t1", "t2"]
    assert [(p.kind, p.case_id) for p in scan.problems] == [
        ("double", "BraTS20_Training_001"),
        ("missing", "BraTS20_Training_002"),
        ("misnamed", "BraTS20_Training_355"),
    ]
    assert scan.problems[2].files == (misnamed / "W39_1998.09.19_Segm.nii",)


def test_a_case_in_two_folders_is_scanned_once_and_what_the_first_lacks_is_told(tmp_path):
    for name in ("a", "b"):
        touch_case(tmp_path / name / CASE_1, ("t1", "t1ce", "flair"))
    scan = scan_cases(tmp_path)
    assert ids(scan.cases) == [CASE_1]
    assert [(p.kind, p.files) for p in scan.problems] == [
        ("missing", (tmp_path / "a" / CASE_1,)),
        ("case twice", (tmp_path / "a" / CASE_1, tmp_path / "b" / CASE_1)),
    ]


def test_the_segmentation_of_another_known_case_is_not_taken(tmp_path):
    folder = touch_case(tmp_path / CASE_1, MODALITIES)
    (folder / "BraTS20_Training_002_seg.nii.gz").touch()
    (problem,) = scan_cases(tmp_path).problems
    assert problem.kind == "ambiguous" and "segmentation of another case" in problem.text
    with pytest.raises(
        ValueError, match="the segmentation of another case lies in its folder: BraTS20_Training_002_seg"
    ):
        find_cases(tmp_path, require_label=True)
    assert find_cases(tmp_path)[0].label is None  # to segment the case, none is needed


# --- what is missing or double


def test_one_missing_file_is_one_line_with_what_to_do(tmp_path):
    touch_case(tmp_path / CASE_1, ("t1", "t2", "flair", "seg"))
    with pytest.raises(ValueError) as error:
        find_cases(tmp_path)
    assert one_line(error) == (
        f"{tmp_path}: {CASE_1}: missing t1ce; found t1, t2, flair, seg in {tmp_path / CASE_1}; "
        f"expected {CASE_1}_t1ce.nii[.gz]; "
        "add the files, or pass --modalities \"['t1','t2','flair']\" to work without t1ce"
    )
    assert ids(find_cases(tmp_path, ["t1", "t2", "flair"])) == [CASE_1]


def test_every_missing_and_double_file_is_reported_at_once(tmp_path):
    touch_case(tmp_path / "BraTS20_Training_001", ("t1", "t1ce", "seg"))
    touch_case(tmp_path / "BraTS20_Training_002")
    (tmp_path / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii").touch()
    touch_case(tmp_path / "a" / "BraTS20_Training_003")
    touch_case(tmp_path / "b" / "BraTS20_Training_003")
    (tmp_path / "BraTS20_Training_004").mkdir()
    touch_case(tmp_path / "BraTS20_Training_005")
    with pytest.raises(ValueError) as error:
        find_cases(tmp_path)
    summary, *problems, advice = str(error.value).splitlines()
    assert summary == f"{tmp_path}: 4 problems"
    assert problems[0].startswith("  BraTS20_Training_001: missing t2, flair; found t1, t1ce, seg in ")
    assert "2 files for t1: BraTS20_Training_002_t1.nii and BraTS20_Training_002_t1.nii.gz" in problems[1]
    assert f"BraTS20_Training_003: found in 2 folders: {tmp_path}/a/BraTS20_Training_003, " in problems[2]
    assert "BraTS20_Training_004: missing t1, t1ce, t2, flair; found none" in problems[3]
    assert len(problems) == 4
    assert advice == "What to do: add or remove these files, or move these cases out of the folder"


def test_a_long_list_of_problems_is_cut(tmp_path):
    for n in range(25):
        touch_case(tmp_path / f"BraTS2021_{n:05d}", ("t1", "t1ce", "t2"))
    with pytest.raises(ValueError) as error:
        find_cases(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[-2].strip() == "and 5 more"
    assert "pass --modalities \"['t1','t1ce','t2']\" to work without flair" in lines[-1]


def test_a_double_of_a_sequence_that_was_not_asked_for_is_no_matter(tmp_path):
    folder = touch_case(tmp_path / CASE_1)
    (folder / f"{CASE_1}_t1ce.nii").touch()
    assert ids(find_cases(tmp_path, ["t1", "t2"])) == [CASE_1]


def test_an_empty_folder_around_its_cases_files_is_no_second_case(tmp_path):
    touch_case(tmp_path / CASE_1 / CASE_1)
    assert ids(find_cases(tmp_path)) == [CASE_1]


def test_no_segmentation_at_all_is_an_error_only_where_one_is_needed(tmp_path):
    touch_case(tmp_path / "BraTS20_Validation_001", MODALITIES)
    assert find_cases(tmp_path)[0].label is None
    with pytest.raises(ValueError, match=r"none of the 1 case\(s\) has a segmentation") as error:
        find_cases(tmp_path, require_label=True)
    one_line(error)


def test_where_some_cases_lack_a_sequence_the_way_out_names_those_that_all_have(tmp_path):
    touch_case(tmp_path / "BraTS20_Training_001")
    touch_case(tmp_path / "BraTS20_Training_002", ("t1", "t2", "flair"))
    with pytest.raises(ValueError) as error:
        find_cases(tmp_path)
    assert one_line(error).endswith(
        "add the files, move these cases out of the folder, or pass --modalities \"['t1','t2','flair']\" "
        "to work without t1ce"
    )


# --- cases that may lack sequences

SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]


@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
def test_a_case_may_lack_any_sequences_but_not_all(tmp_path, present):
    touch_case(tmp_path / CASE_1, present)
    touch_case(tmp_path / "BraTS20_Training_002")
    cases = find_cases(tmp_path, absent_sequences=True)
    assert [tuple(case.images) for case in cases] == [present, MODALITIES]


@pytest.mark.parametrize("inside", [(), ("seg",)], ids=["empty", "only a segmentation"])
def test_no_sequence_at_all_is_one_line(tmp_path, inside):
    folder = touch_case(tmp_path / CASE_1, inside)
    with pytest.raises(ValueError, match=f"{CASE_1}: no sequence; found {'seg' if inside else 'none'} in") as error:
        find_cases(tmp_path, absent_sequences=True)
    assert f"expected one or more of {CASE_1}_t1.nii[.gz], {CASE_1}_t1ce" in one_line(error)
    (folder / f"{CASE_1}_flair.nii.gz").touch()
    assert ids(find_cases(tmp_path, absent_sequences=True)) == [CASE_1]
    with pytest.raises(ValueError, match=r"no sequence; found .*flair"):  # none of those asked for
        find_cases(tmp_path, ["t1", "t2"], absent_sequences=True)


def test_double_files_are_an_error_also_where_others_may_be_absent(tmp_path):
    folder = touch_case(tmp_path / CASE_1, ("t1", "t2"))
    (folder / f"{CASE_1}_t1.nii").touch()
    with pytest.raises(ValueError, match="2 files for t1") as error:
        find_cases(tmp_path, absent_sequences=True)
    assert "--modalities" not in one_line(error)


@pytest.mark.parametrize("file", ["sub-01/anat/sub-01_FLAIR.nii.gz", "patient 7/FLAIR.nii.gz", "x_flair.nii"])
def test_a_single_image_of_an_unknown_name_is_a_case_where_it_stands_alone(tmp_path, file):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (case,) = find_cases(tmp_path, absent_sequences=True)
    assert dict(case.images) == {"flair": path}
    assert case.case_id == {"sub-01": "sub-01", "patient 7": "patient 7", "x_flair.nii": "x"}[file.split("/")[0]]
    with pytest.raises(ValueError, match="no BraTS case here"):
        find_cases(tmp_path)


def test_beside_cases_a_single_image_of_an_unknown_name_is_left_out_with_a_warning(tmp_path, log):
    touch_case(tmp_path / CASE_1, ("t1", "t2"))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "t1.nii.gz").touch()
    (tmp_path / "atlas_t1.nii").touch()
    assert ids(find_cases(tmp_path, absent_sequences=True)) == [CASE_1]
    (warning,) = log.messages
    assert "atlas_t1.nii and 1 more: not taken for a case" in warning


def test_single_images_of_several_names_in_one_folder_are_ambiguous(tmp_path):
    for name in ("a_t1.nii", "b_flair.nii"):
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match=r"2 files in .* such as a_t1.nii and b_flair.nii: .* a folder for each"
    ) as error:
        find_cases(tmp_path, absent_sequences=True)
    one_line(error)


def test_one_cases_sequences_in_a_folder_each_are_ambiguous(tmp_path):
    for modality in ("t1", "flair"):
        (tmp_path / modality).mkdir()
        (tmp_path / modality / f"{CASE_1}_{modality}.nii.gz").touch()
    with pytest.raises(ValueError, match="found in 2 folders"):
        find_cases(tmp_path, absent_sequences=True)


def test_what_is_said_of_absent_sequences_is_one_line_a_subset(tmp_path):
    subsets = [("t1", "t2", "flair"), MODALITIES, ("t1", "t1ce", "t2"), ("t1", "t2", "flair")]
    for n, present in enumerate(subsets, 1):
        touch_case(tmp_path / f"BraTS2021_{n:05d}", present)
    cases = find_cases(tmp_path, absent_sequences=True)
    without_t1ce, without_flair = absent_warnings(cases)
    assert without_t1ce == (
        "BraTS2021_00001, BraTS2021_00004: segmented without t1ce; without t1ce the enhancing tumour cannot be told "
        "reliably from the rest of the core: ET is a guess"
    )
    assert without_flair == "BraTS2021_00003: segmented without flair"
    assert absent_warnings(cases, ("t1", "t2")) == []


# --- wrong folders


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere; expected a folder with BraTS cases"):
        find_cases(tmp_path / "nowhere")


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "x.zip").touch()
    with pytest.raises(ValueError, match=r"x.zip is a file; expected a folder"):
        find_cases(tmp_path / "x.zip")


def test_no_folder_given():
    with pytest.raises(ValueError) as error:
        find_cases(None)
    assert one_line(error) == "dataset_dir: not given; expected a folder with BraTS cases; pass --dataset_dir DIR"


@pytest.mark.parametrize("empty", ["", " ", [], [""]])
def test_an_empty_folder_name(empty):
    with pytest.raises(ValueError, match="dataset_dir: expected a folder"):
        find_cases(empty)


def test_a_folder_without_cases_says_what_lies_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"no BraTS case here .* found no file; expected folders like BraTS20_Training_001"
    ):
        find_cases(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"found 2 file\(s\) such as a.txt") as error:
        find_cases(tmp_path)
    one_line(error)


def test_a_listed_folder_without_cases_is_an_error_beside_one_with_cases(tmp_path):
    (tmp_path / "empty").mkdir()
    case = touch_case(tmp_path / CASE_1)
    with pytest.raises(ValueError, match="empty: no BraTS case"):
        find_cases([case, tmp_path / "empty"])


def test_kaggles_hdf5_slices_are_named(tmp_path):
    (tmp_path / "content" / "data").mkdir(parents=True)
    (tmp_path / "content" / "data" / "volume_41_slice_0.h5").touch()
    with pytest.raises(
        ValueError, match=r"volume_41_slice_0.h5: Kaggle's HDF5 form .*: brats3d convert .* OUT writes them"
    ) as error:
        find_cases(tmp_path)
    one_line(error)


def test_a_decathlon_task_is_named(tmp_path):
    (tmp_path / "Task01_BrainTumour" / "imagesTr").mkdir(parents=True)
    (tmp_path / "Task01_BrainTumour" / "imagesTr" / "BRATS_001.nii.gz").touch()
    (tmp_path / "Task01_BrainTumour" / "dataset.json").touch()
    with pytest.raises(ValueError, match=r"Medical Segmentation Decathlon .*: brats3d convert .* OUT") as error:
        find_cases(tmp_path)
    one_line(error)


def test_meningioma_radiotherapy_is_refused_by_name(tmp_path):
    folder = tmp_path / "BraTS-MEN-RT-0001-1"
    folder.mkdir()
    for name in ("t1c", "gtv"):
        (folder / f"{folder.name}_{name}.nii.gz").touch()
    with pytest.raises(ValueError, match=r"BraTS-MEN-RT-0001-1 cannot be used: .* one sequence and one label") as error:
        find_cases(tmp_path)
    one_line(error)


def test_a_case_that_cannot_be_used_is_listed_beside_others(tmp_path):
    touch_case(tmp_path / CASE_1)
    folder = tmp_path / "BraTS-MEN-RT-0001-1"
    folder.mkdir()
    (folder / f"{folder.name}_t1c.nii.gz").touch()
    with pytest.raises(ValueError, match=r"BraTS-MEN-RT-0001-1: cannot be used: .* one sequence and one label"):
        find_cases(tmp_path)
    scan = scan_cases(tmp_path, absent_sequences=True)
    assert [(problem.kind, problem.case_id) for problem in scan.problems] == [("unusable", folder.name)]
    assert len(scan.cases) == 2


def test_a_hundred_thousand_unrelated_files_are_one_line(tmp_path):
    for n in range(100_000):
        (tmp_path / f"{n}.dcm").touch()
    with pytest.raises(ValueError, match=r"no BraTS case .* found 100,000 file\(s\) such as 0.dcm") as error:
        find_cases(tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "why"), [("a#b", "'#'"), ("a::b", "'#'"), ("$x", "'\\$'"), ("@x", "'@'"), ("%x", "'%'")]
)
def test_paths_that_are_syntax_to_monai_are_refused_with_the_reason(tmp_path, monkeypatch, name, why):
    touch_case(tmp_path / name / CASE_1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{why}.*MONAI"):
        find_cases(name)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    touch_case(tmp_path / CASE_1)
    monkeypatch.setattr("os.scandir", lambda _: (_ for _ in ()).throw(PermissionError()))  # root may list anything
    with pytest.raises(ValueError, match="no permission to list this folder"):
        find_cases(tmp_path)

"""The search for cases, and the problems that it reports."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from brats3d.cases.case import Case
from brats3d.cases.explain_no_cases import NoCasesError
from brats3d.cases.search import find_cases, scan_cases
from brats3d.errors import MAX_LISTED, DataError, NotFoundError, UsageError
from brats3d.labels import MODALITIES

CASE_1, CASE_2, CASE_3 = (f"BraTS20_Training_00{i}" for i in (1, 2, 3))


def ids(cases: list[Case]) -> list[str]:
    return [case.case_id for case in cases]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def touch_case(folder: Path, modalities=(*MODALITIES, "seg"), suffix: str = ".nii.gz") -> Path:
    return touch(folder, *(f"{folder.name}_{modality}{suffix}" for modality in modalities))


def failure(*args, **options) -> DataError:
    """The error of :func:`find_cases`."""
    with pytest.raises(DataError) as error:
        find_cases(*args, **options)
    return error.value


def problem(*args, **options) -> str:
    """The only problem that :func:`find_cases` reports."""
    error = failure(*args, **options)
    (text,) = error.problems or (error.problem,)
    assert "\n" not in str(error)
    return text


# --- cases that are found


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("layout", "first"), [("brats2020", CASE_1), ("brats2021", "BraTS2021_00001")])
def test_both_file_endings_are_found(make_dataset, layout, first, suffix):
    root = make_dataset(2, layout, suffix=suffix)
    case = find_cases(root)[0]
    assert (case.case_id, case.layout, case.convention, case.grade) == (first, layout, "brats2020", None)
    assert list(case.images) == ["t1", "t1ce", "t2", "flair"]
    assert case.images["t1ce"] == root / first / f"{first}_t1ce{suffix}"
    assert case.label == root / first / f"{first}_seg{suffix}"


def test_an_unknown_identifier_has_the_layout_of_brats_2020(tmp_path):
    touch_case(tmp_path / "TCGA-DU-7294")
    (case,) = find_cases(tmp_path)
    assert (case.case_id, case.layout) == ("TCGA-DU-7294", "brats2020")


def test_modalities_are_in_one_order(tmp_path):
    touch_case(tmp_path / CASE_1)
    (case,) = find_cases(tmp_path, ["flair", "t2", "t1"])
    assert list(case.images) == ["t1", "t2", "flair"]


def test_cases_are_in_natural_order(tmp_path):
    for n in (10, 9, 100):
        touch_case(tmp_path / f"subject{n}")
    assert ids(find_cases(tmp_path)) == ["subject9", "subject10", "subject100"]


def test_kaggles_archive_is_found_from_above(tmp_path):
    training = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    validation = tmp_path / "BraTS2020_ValidationData" / "MICCAI_BraTS2020_ValidationData"
    touch_case(training / CASE_1, suffix=".nii")
    touch_case(validation / "BraTS20_Validation_001", MODALITIES, suffix=".nii")
    touch(training, "name_mapping.csv", "survival_info.csv", ".DS_Store")
    touch(training / CASE_1, f"._{CASE_1}_t1.nii")
    touch_case(tmp_path / "__MACOSX" / CASE_1)
    assert ids(find_cases(tmp_path)) == [CASE_1, "BraTS20_Validation_001"]
    assert ids(find_cases(tmp_path, require_label=True)) == [CASE_1]


def test_a_case_folder_and_a_list_of_folders_are_accepted(tmp_path):
    a, b = (touch_case(tmp_path / name) for name in ("BraTS2021_00001", "BraTS2021_00002"))
    assert ids(find_cases(a)) == ["BraTS2021_00001"]
    assert ids(find_cases([str(b), a])) == ["BraTS2021_00001", "BraTS2021_00002"]
    assert ids(find_cases([a, tmp_path, a])) == ["BraTS2021_00001", "BraTS2021_00002"]  # given twice, found once


def test_files_in_one_flat_folder_are_sorted_by_case(tmp_path):
    for name in (CASE_1, CASE_2):
        touch(tmp_path, *(f"{name}_{modality}.nii.gz" for modality in (*MODALITIES, "seg")))
    cases = find_cases(tmp_path)
    assert ids(cases) == [CASE_1, CASE_2]
    assert [case.label.name for case in cases] == [f"{CASE_1}_seg.nii.gz", f"{CASE_2}_seg.nii.gz"]


def test_a_folder_in_the_place_of_a_file_stands_for_the_file_in_it(tmp_path):
    folder = touch_case(tmp_path / CASE_1, ("t1", "t1ce", "t2", "seg"), ".nii")
    inner = touch(folder / f"{CASE_1}_flair.nii", "00000057_brain_flair.nii")
    assert find_cases(tmp_path)[0].images["flair"] == inner / "00000057_brain_flair.nii"
    touch(inner, "other.nii")
    assert "2 files for flair" in problem(tmp_path)
    for file in inner.iterdir():
        file.unlink()
    assert "missing flair" in problem(tmp_path)


def test_a_link_to_a_folder_is_the_same_case(tmp_path):
    real = touch_case(tmp_path / "elsewhere" / CASE_1)
    data = tmp_path / "data"
    data.mkdir()
    (data / CASE_1).symlink_to(real)
    (data / CASE_2).mkdir()
    for modality in MODALITIES:
        (data / CASE_2 / f"{CASE_2}_{modality}.nii.gz").symlink_to(real / f"{CASE_1}_{modality}.nii.gz")
    (data / "zzz").symlink_to(data / CASE_2)
    cases = find_cases(data)
    assert ids(cases) == [CASE_1, CASE_2]
    assert cases[1].images["t1"] == data / CASE_2 / f"{CASE_2}_t1.nii.gz"


def test_unrelated_files_are_ignored(tmp_path):
    touch_case(tmp_path / CASE_1)
    touch(tmp_path, "atlas_t1.nii", f"{CASE_1}.nii.gz", "prediction_seg.nii.gz", "readme_t1.txt")
    touch(tmp_path / "templates", "t1.nii.gz")
    touch_case(tmp_path / CASE_2 / CASE_2)  # an empty folder around its case
    assert ids(find_cases(tmp_path)) == [CASE_1, CASE_2]


def test_the_grade_is_that_of_the_nearest_folder(tmp_path):
    for grade, name in (("HGG", "Brats18_CBICA_AAB_1"), ("LGG", "Brats18_TCIA09_141_1")):
        touch_case(tmp_path / "LGG" / grade.lower() / name)
    result = [(case.patient_id, case.grade) for case in find_cases(tmp_path)]
    assert result == [("CBICA_AAB", "HGG"), ("TCIA09_141", "LGG")]


def test_bare_file_names_are_a_case_named_after_the_folder(tmp_path):
    folder = touch(tmp_path / "Müller, A. (2. Scan)", "T1.nii.gz", "t1c.nii.gz", "T2w.nii.gz", "FLAIR.nii.gz")
    (case,) = find_cases(folder)
    assert (case.case_id, case.label, list(case.images)) == (folder.name, None, list(MODALITIES))
    assert case.images["t1ce"] == folder / "t1c.nii.gz"
    touch(folder, "seg.nii.gz")
    assert find_cases(tmp_path, require_label=True)[0].label == folder / "seg.nii.gz"
    (folder / "FLAIR.nii.gz").unlink()
    assert "missing flair" in (text := problem(folder))
    assert "expected flair.nii[.gz]" in text


@pytest.mark.parametrize("name", ["mit Leerzeichen", "Müller-Ωμέγα", "脑肿瘤", "a'b&c"])
def test_folders_with_spaces_and_other_letters(tmp_path, name):
    touch_case(tmp_path / name / CASE_1)
    assert find_cases(tmp_path / name)[0].images["t1"] == tmp_path / name / CASE_1 / f"{CASE_1}_t1.nii.gz"


# --- segmentations


@pytest.mark.parametrize("name", ["W39_1998.09.19_Segm.nii", "W39_seg.nii.gz", "tumourSEG.nii"])
def test_a_single_misnamed_segmentation_is_used(tmp_path, name):
    folder = touch(touch_case(tmp_path / "BraTS20_Training_355", MODALITIES, ".nii"), name)
    (case,) = find_cases(tmp_path, require_label=True)
    assert case.label == folder / name
    (reported,) = scan_cases(tmp_path).problems
    assert (reported.kind, reported.files, reported.folder) == ("misnamed", (folder / name,), folder)


def test_a_misnamed_segmentation_beside_the_right_one_is_ignored(tmp_path):
    folder = touch(touch_case(tmp_path / CASE_1), "old_Segm.nii")
    assert find_cases(tmp_path)[0].label == folder / f"{CASE_1}_seg.nii.gz"


@pytest.mark.parametrize("names", [("a_Segm.nii", "b_Segm.nii"), (f"{CASE_2}_seg.nii.gz",)])
def test_an_ambiguous_segmentation_is_refused_only_if_one_is_required(tmp_path, names):
    touch(touch_case(tmp_path / CASE_1, MODALITIES), *names)
    assert find_cases(tmp_path)[0].label is None
    text = problem(tmp_path, require_label=True)
    assert all(name in text for name in names)
    assert f"expected {CASE_1}_seg.nii[.gz]" in text
    (reported,) = scan_cases(tmp_path).problems
    assert (reported.kind, reported.modality) == ("ambiguous", "seg")


def test_a_folder_without_segmentations_is_refused_only_if_they_are_required(tmp_path):
    touch_case(tmp_path / "BraTS20_Validation_001", MODALITIES)
    assert find_cases(tmp_path)[0].label is None
    assert "no segmentation" in problem(tmp_path, require_label=True)


# --- missing and double files


def test_a_missing_file_is_reported_on_one_line(tmp_path):
    touch_case(tmp_path / CASE_1, ("t1", "t2", "flair", "seg"))
    error = failure(tmp_path)
    assert str(error) == (
        f"{tmp_path}: {CASE_1}: missing t1ce; found t1, t2, flair, seg in {tmp_path / CASE_1}; "
        f"expected {CASE_1}_t1ce.nii[.gz]; "
        "add the files, or pass --modalities \"['t1','t2','flair']\" to work without t1ce"
    )
    assert ids(find_cases(tmp_path, ["t1", "t2", "flair"])) == [CASE_1]


def test_all_missing_and_double_files_are_reported_together(tmp_path):
    touch_case(tmp_path / CASE_1, ("t1", "t1ce", "seg"))
    touch(touch_case(tmp_path / CASE_2), f"{CASE_2}_t1.nii")
    for folder in ("a", "b"):
        touch_case(tmp_path / folder / CASE_3)
    (tmp_path / "BraTS20_Training_004").mkdir()
    touch_case(tmp_path / "BraTS20_Training_005")
    missing, double, twice, empty = failure(tmp_path).problems
    assert missing.startswith(f"{CASE_1}: missing t2, flair; found t1, t1ce, seg in ")
    assert f"2 files for t1: {CASE_2}_t1.nii and {CASE_2}_t1.nii.gz" in double
    assert f"{CASE_3}: found in 2 folders: {tmp_path}/a/{CASE_3}, {tmp_path}/b/{CASE_3}" in twice
    assert "BraTS20_Training_004: missing t1, t1ce, t2, flair; found none" in empty
    scan = scan_cases(tmp_path)
    assert [(p.kind, p.case_id[-1], p.folder.name) for p in scan.problems] == [
        ("missing", "1", CASE_1),
        ("double", "2", CASE_2),
        ("missing", "4", "BraTS20_Training_004"),
        ("case twice", "3", CASE_3),
    ]
    assert len(scan.cases) == 5


def test_a_long_list_of_problems_is_cut(tmp_path):
    for n in range(MAX_LISTED + 5):
        touch_case(tmp_path / f"BraTS2021_{n:05d}", ("t1", "t1ce", "t2"))
    error = failure(tmp_path)
    assert len(error.problems) == MAX_LISTED + 5
    assert len(str(error).splitlines()) == MAX_LISTED + 3
    assert "--modalities \"['t1','t1ce','t2']\" to work without flair" in error.advice


def test_double_files_of_other_sequences_are_ignored(tmp_path):
    touch(touch_case(tmp_path / CASE_1), f"{CASE_1}_t1ce.nii")
    assert ids(find_cases(tmp_path, ["t1", "t2"])) == [CASE_1]


def test_the_advice_names_the_sequences_that_all_cases_have(tmp_path):
    touch_case(tmp_path / CASE_1)
    touch_case(tmp_path / CASE_2, ("t1", "t2", "flair"))
    assert "\"['t1','t2','flair']\" to work without t1ce" in failure(tmp_path).advice


# --- absent_sequences

SUBSETS = [s for n in range(1, 5) for s in itertools.combinations(MODALITIES, n)]


@pytest.mark.parametrize("present", SUBSETS, ids="+".join)
def test_a_case_may_lack_any_sequences_but_not_all(tmp_path, present):
    touch_case(tmp_path / CASE_1, present)
    touch_case(tmp_path / CASE_2)
    cases = find_cases(tmp_path, absent_sequences=True)
    assert [tuple(case.images) for case in cases] == [present, MODALITIES]


@pytest.mark.parametrize("inside", [(), ("seg",)], ids=["empty", "only a segmentation"])
def test_a_case_without_any_sequence_is_refused(tmp_path, inside):
    folder = touch_case(tmp_path / CASE_1, inside)
    text = problem(tmp_path, absent_sequences=True)
    assert f"no sequence; found {'seg' if inside else 'none'} in" in text
    assert f"expected one or more of {CASE_1}_t1.nii[.gz], {CASE_1}_t1ce" in text
    touch(folder, f"{CASE_1}_flair.nii.gz")
    assert ids(find_cases(tmp_path, absent_sequences=True)) == [CASE_1]
    assert "no sequence" in problem(tmp_path, ["t1", "t2"], absent_sequences=True)


def test_double_files_are_refused_even_if_others_may_be_absent(tmp_path):
    touch(touch_case(tmp_path / CASE_1, ("t1", "t2")), f"{CASE_1}_t1.nii")
    error = failure(tmp_path, absent_sequences=True)
    assert "2 files for t1" in error.problems[0]
    assert "--modalities" not in error.advice


@pytest.mark.parametrize("file", ["sub-01/anat/sub-01_FLAIR.nii.gz", "patient 7/FLAIR.nii.gz", "x_flair.nii"])
def test_a_lone_image_with_an_unknown_name_is_a_case(tmp_path, file):
    path = tmp_path / file
    touch(path.parent, path.name)
    (case,) = find_cases(tmp_path, absent_sequences=True)
    assert dict(case.images) == {"flair": path}
    assert case.case_id == {"sub-01": "sub-01", "patient 7": "patient 7", "x_flair.nii": "x"}[file.split("/")[0]]
    with pytest.raises(NoCasesError):
        find_cases(tmp_path)


def test_a_lone_image_beside_cases_is_ignored(tmp_path):
    touch_case(tmp_path / CASE_1, ("t1", "t2"))
    lone = [touch(tmp_path / "templates", "t1.nii.gz") / "t1.nii.gz", touch(tmp_path, "atlas_t1.nii") / "atlas_t1.nii"]
    found = scan_cases(tmp_path, absent_sequences=True)
    assert ids(found.cases) == [CASE_1]
    assert set(found.ignored) == set(lone)


def test_single_images_with_different_names_in_one_folder_are_ambiguous(tmp_path):
    touch(tmp_path, "a_t1.nii", "b_flair.nii")
    assert "a_t1.nii and b_flair.nii" in problem(tmp_path, absent_sequences=True)


def test_one_folder_per_sequence_is_ambiguous(tmp_path):
    for modality in ("t1", "flair"):
        touch(tmp_path / modality, f"{CASE_1}_{modality}.nii.gz")
    assert "found in 2 folders" in problem(tmp_path, absent_sequences=True)


# --- wrong folders


@pytest.mark.parametrize(("folder", "kind"), [("nowhere", NotFoundError), (None, UsageError), ([], UsageError)])
def test_a_folder_must_be_given_and_exist(tmp_path, folder, kind):
    with pytest.raises(kind) as error:
        find_cases(tmp_path / folder if folder else folder)
    assert error.value.subject == "dataset_dir"


def test_a_folder_without_cases_is_described(tmp_path):
    root = touch(tmp_path / "data")
    assert "found no file" in problem(root)
    touch(root, *(f"{n}.dcm" for n in range(2000)))
    error = failure([touch_case(tmp_path / CASE_1), root])
    assert isinstance(error, NoCasesError)
    assert error.subject == str(root)
    assert "found 2,000 DICOM files such as 0.dcm" in error.problem
    assert len(str(error).splitlines()) == 1


def test_kaggles_hdf5_slices_are_recognised(tmp_path):
    touch(tmp_path / "content" / "data", "volume_41_slice_0.h5")
    error = failure(tmp_path)
    assert "volume_41_slice_0.h5" in error.problem
    assert "brats3d convert" in error.advice


def test_a_decathlon_task_is_recognised(tmp_path):
    task = touch(tmp_path / "Task01_BrainTumour", "dataset.json")
    touch(task / "imagesTr", "BRATS_001.nii.gz")
    error = failure(tmp_path)
    assert "Decathlon" in error.problem
    assert "brats3d convert" in error.advice


def test_meningioma_radiotherapy_is_refused(tmp_path):
    folder = touch_case(tmp_path / "BraTS-MEN-RT-0001-1", ("t1c", "gtv"))
    assert "one sequence and one label" in problem(tmp_path)
    touch_case(tmp_path / CASE_1)
    assert "one sequence and one label" in problem(tmp_path)
    scan = scan_cases(tmp_path, absent_sequences=True)
    assert [(p.kind, p.case_id, p.folder) for p in scan.problems] == [("unusable", folder.name, folder)]
    assert len(scan.cases) == 2


def test_files_that_state_no_sequence_are_reported(tmp_path):
    touch(tmp_path / CASE_1, "channel0.nii.gz", "channel1.nii.gz")
    touch(tmp_path / "other", "channel0.nii.gz")
    assert "missing t1, t1ce, t2, flair; found 2 file(s) such as channel0.nii.gz" in problem(tmp_path)
    touch(tmp_path / "masks" / CASE_2, "brain.nii.gz")
    touch_case(tmp_path / CASE_2)
    assert [p.case_id for p in scan_cases(tmp_path).problems] == [CASE_1]


# --- names of other pipelines


def test_brats_2015_has_a_folder_for_each_file(tmp_path):
    case = tmp_path / "HGG" / "brats_2013_pat0001_1"
    for number, name in enumerate(("MR_T1", "MR_T1c", "MR_T2", "MR_Flair", "OT")):
        stem = f"VSD.Brain.XX.O.{name}.5451{number}"
        touch(case / stem, f"{stem}.mha", f"{stem}.txt")
    (found,) = find_cases(tmp_path, require_label=True)
    assert (found.case_id, found.patient_id, found.convention) == (case.name, "2013_pat0001", "brats2015")
    assert found.images["t1ce"] == case / "VSD.Brain.XX.O.MR_T1c.54511" / "VSD.Brain.XX.O.MR_T1c.54511.mha"
    assert found.label == case / "VSD.Brain.XX.O.OT.54514" / "VSD.Brain.XX.O.OT.54514.mha"
    assert (found.grade, scan_cases(tmp_path).notes) == ("HGG", ())


@pytest.mark.parametrize(
    "names",
    [
        "T1_to_SRI_brain T1CE_to_SRI_brain T2_to_SRI_brain FL_to_SRI_brain",
        "T1 CT1 T2 FLAIR",
        "X_T1 X_T1c X_T2 X_T2_FLAIR",
        "X_t1_bet X_t1c_bet X_t2_bet X_fla_bet",
        "sub-01_T1w sub-01_ce-gadolinium_T1w sub-01_T2w sub-01_FLAIR",
    ],
)
def test_all_sequences_are_found_under_other_names(tmp_path, names):
    folder = touch(tmp_path / "P1", *(f"{name}.nii.gz" for name in names.split()))
    (case,) = find_cases(tmp_path)
    assert [path.name.removesuffix(".nii.gz") for path in case.images.values()] == names.split()
    assert case.case_id in ("P1", "X", "sub-01")
    assert scan_cases(folder).problems == ()


def test_sessions_in_bids_are_cases_with_their_segmentations(tmp_path):
    for session in ("ses-1", "ses-2"):
        stem = f"sub-01_{session}"
        names = [f"{stem}_{suffix}.nii.gz" for suffix in ("T1w", "ce-gd_T1w", "T2w", "run-1_FLAIR")]
        touch(tmp_path / "sub-01" / session / "anat", *names)
        touch(tmp_path / "derivatives" / "manual" / "sub-01" / session, f"{stem}_space-T1w_label-tumor_mask.nii.gz")
    cases = find_cases(tmp_path, require_label=True)
    assert ids(cases) == ["sub-01_ses-1", "sub-01_ses-2"]
    assert [case.label.name for case in cases] == [
        f"{case.case_id}_space-T1w_label-tumor_mask.nii.gz" for case in cases
    ]


def test_a_segmentation_in_another_folder_is_used_and_reported(tmp_path):
    images = touch_case(tmp_path / "images" / CASE_1, MODALITIES)
    touch(tmp_path / "automated", f"{CASE_1}_automated_segm.nii.gz")
    label = touch(tmp_path / "manual", f"{CASE_1}_segm.nii.gz") / f"{CASE_1}_segm.nii.gz"
    scan = scan_cases(tmp_path)
    assert (scan.problems, scan.cases[0].label) == ((), label)
    assert any(str(label) in note for note in scan.notes)
    own = touch(images, f"{CASE_1}_seg.nii.gz") / f"{CASE_1}_seg.nii.gz"
    assert scan_cases(tmp_path).cases[0].label == own


@pytest.mark.parametrize("name", ["P1_brain_seg", "P1_mask", "../labels/P1"])
def test_a_file_that_could_be_the_segmentation_is_named(tmp_path, name):
    folder = touch_case(tmp_path / "P1", MODALITIES)
    file = (folder / f"{name}.nii.gz").resolve()
    touch(file.parent, file.name)
    error = failure(tmp_path, require_label=True)
    assert str(file) in error.problem
    assert "datalist.json" in error.advice


def test_unusual_names_are_reported_once(tmp_path):
    for n in range(3):
        touch_case(tmp_path / f"P{n}")
        touch(tmp_path / f"P{n}", f"P{n}_DWI.nii.gz", f"P{n}_t1_n4.nii.gz")
    scan = scan_cases(tmp_path)
    choice, unread = scan.notes
    assert "P0_t1.nii.gz and P0_t1_n4.nii.gz" in choice
    assert "P0_DWI.nii.gz" in unread
    assert scan.unread["P2"] == (tmp_path / "P2" / "P2_DWI.nii.gz",)


def test_names_of_releases_are_not_reported(tmp_path):
    folder = touch_case(tmp_path / CASE_1, MODALITIES)
    touch(folder, "W39_1998.09.19_Segm.nii", f"{CASE_1}.nii.gz", f"{CASE_1}.png", "predictions.jsonl")
    stem = "BraTS-GLI-00001-000"
    touch(tmp_path / stem, *(f"{stem}-{suffix}.nii.gz" for suffix in ("t1n", "t1c", "t2w", "t2f", "seg")))
    assert scan_cases(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("a/IM0001", "brats3d prepare"),
        ("BraTS.zip", "unpack"),
        ("P1/scan.nii.gz", "X_t1ce.nii.gz"),
        ("P1/t1.npy", "nibabel"),
        ("imagesTr/BRATS_001.nii.gz", "dataset.json"),
    ],
)
def test_a_folder_without_cases_is_explained_by_what_it_contains(tmp_path, file, words):
    touch((tmp_path / file).parent, Path(file).name)
    error = failure(tmp_path)
    assert Path(file).name in error.problem
    assert words in str(error)


def test_an_archive_in_the_place_of_a_folder_is_to_be_unpacked(tmp_path):
    touch(tmp_path, "BraTS.zip")
    with pytest.raises(UsageError) as error:
        find_cases(tmp_path / "BraTS.zip")
    assert "unpack" in error.value.advice


# --- folders called alike


def test_bare_names_in_folders_called_alike_are_different_cases(tmp_path):
    for patient in ("pat01", "pat02"):
        touch(tmp_path / patient / "anat", *(f"{m}.nii.gz" for m in MODALITIES))
    assert ids(find_cases(tmp_path)) == ["pat01_anat", "pat02_anat"]
    assert ids(find_cases(tmp_path / "pat02")) == ids(find_cases(tmp_path / "pat02" / "anat")) == ["pat02_anat"]


def test_bare_names_in_copies_of_a_patients_folder_are_told_apart(tmp_path):
    for folder in ("a/pat01", "b/pat01", "a/pat02"):
        touch(tmp_path / folder, *(f"{m}.nii.gz" for m in MODALITIES))
    assert ids(find_cases(tmp_path)) == ["a_pat01", "b_pat01", "pat02"]


def test_names_of_time_points_under_two_patients_are_told_apart(tmp_path):
    for patient in ("pat01", "pat02"):
        touch_case(tmp_path / patient / "week-044", MODALITIES)
    assert ids(find_cases(tmp_path)) == ["pat01_week-044", "pat02_week-044"]


def test_a_named_case_in_two_folders_is_still_refused(tmp_path):
    for folder in ("a", "b"):
        touch_case(tmp_path / folder / "pat01", MODALITIES)
    assert "found in 2 folders" in problem(tmp_path)


@pytest.mark.parametrize("name", ["P01_pre", "P01_post", "P01-post", "P01_T2", "P01-t2"])
def test_a_time_point_in_a_cases_name_is_no_word_for_a_sequence(tmp_path, name):
    touch_case(tmp_path / name)
    (case,) = find_cases(tmp_path, require_label=True)
    assert (case.case_id, list(case.images)) == (name, list(MODALITIES))
    assert case.images["t1"].name == f"{name}_t1.nii.gz"

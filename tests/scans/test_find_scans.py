"""Raw scans in folders: cases, their sequences, the best of several series, and cases that cannot be used."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import EnhancedMRImageStorage, SecondaryCaptureImageStorage

from brats3d.errors import DataError, NotFoundError
from brats3d.scans import RawCase, find_scans, read_scans
from tests.scans.dicom_study import oblique_affine, write_series, write_study

AFFINE = oblique_affine()
RNG = np.random.default_rng(0)
VALUES = {modality: RNG.integers(0, 4000, (6, 5, 5)) for modality in ("t1", "t1ce", "t2", "flair")}


def study(folder: Path, patient: str = "MRN-1", **tags: object) -> dict[str, list[Path]]:
    tags = {"PatientID": patient, "StudyInstanceUID": f"1.2.{abs(hash(patient)) % 10**6}", **tags}
    return write_study(folder, {modality: (values, AFFINE) for modality, values in VALUES.items()}, **tags)


def only_case(folder: Path) -> RawCase:
    (case,) = find_scans(folder)
    return case


def problem_of(case: RawCase) -> str:
    """Return the problem of a case, which must be one line."""
    with pytest.raises(DataError) as caught:
        read_scans(case)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_in_subfolders_is_one_case_with_four_sequences(tmp_path: Path) -> None:
    files = study(tmp_path / "UPENN-07")
    case = only_case(tmp_path)
    assert (case.case_id, case.folder) == ("UPENN-07", tmp_path / "UPENN-07")
    scans = read_scans(case)
    assert list(scans) == ["t1", "t1ce", "t2", "flair"]
    for modality, scan in scans.items():
        assert scan.modality == modality
        assert scan.dicom_files == tuple(files[modality])
        assert scan.volume.header.path == files[modality][0]
        assert np.array_equal(scan.volume.values, VALUES[modality])
        assert np.allclose(scan.volume.header.affine, AFFINE, atol=1e-4)
    assert scans["t1ce"].description == "series 2 'AX T1 POST'"


def test_a_study_in_one_folder_is_the_same_case(tmp_path: Path) -> None:
    for files in study(tmp_path / "export").values():
        for file in files:
            file.rename(tmp_path / file.name)
    scans = read_scans(only_case(tmp_path))
    assert all(np.array_equal(scan.volume.values, VALUES[modality]) for modality, scan in scans.items())


def test_a_folder_of_patients_and_of_image_files_is_a_case_each(tmp_path: Path) -> None:
    study(tmp_path / "P10" / "2020-01-02-MRI", "b")
    study(tmp_path / "P2", "a")
    (tmp_path / "P3").mkdir()
    for modality, values in VALUES.items():
        nib.save(nib.Nifti1Image(values.astype(np.int16), AFFINE), tmp_path / "P3" / f"{modality}.nii.gz")
    cases = find_scans(tmp_path)
    assert [case.case_id for case in cases] == ["P2", "P3", "P10_2020-01-02-MRI"]
    scans = read_scans(cases[1])
    assert list(scans) == list(VALUES)
    assert scans["flair"].description == "flair.nii.gz" and scans["flair"].dicom_files == ()
    assert np.array_equal(scans["t2"].volume.values, VALUES["t2"])


def test_converted_series_in_one_folder_are_told_apart_by_their_names(tmp_path: Path) -> None:
    names = {"t1": "003_AX_T1", "t1ce": "008_AX_T1_POST", "t2": "004_AX_T2_TSE", "flair": "005_AX_FLAIR"}
    folder = tmp_path / "pat7"
    folder.mkdir()
    for name in [*names.values(), "001_localizer"]:
        nib.save(nib.Nifti1Image(VALUES["t1"].astype(np.int16), AFFINE), folder / f"{name}.nii.gz")
    case = only_case(tmp_path)
    assert case.case_id == "pat7"
    assert {modality: source.name for modality, source in case.sources.items()} == {
        modality: f"{name}.nii.gz" for modality, name in names.items()
    }
    assert case.skipped == ["001_localizer.nii.gz (localiser)"]


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        nib.save(nib.Nifti1Image(VALUES["t1"].astype(np.int16), AFFINE), folder / f"{name}.nii.gz")


def sources_of(case: RawCase) -> dict[str, str]:
    return {modality: source.name.removesuffix(".nii.gz") for modality, source in case.sources.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("T1", "T1 POST", "T2", "FLAIR"),
        ("T1", "T1 Gd", "T2", "T2 FLAIR"),
        ("precontrast T1", "postcontrast T1", "T2", "FLAIR"),
        ("2_t1_se_tra", "9_t1_mprage_sag_KM", "5_t2_tse_tra", "6_t2_tirm_tra_dark-fluid"),
        ("Ax_T1_FLAIR", "Ax_T1_FLAIR_+C", "Ax_T2_PROPELLER", "Ax_T2_FLAIR"),
    ],
)
def test_all_sequences_are_found_if_only_some_have_names_of_brats(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "Müller 1"
    write_images(folder, *names, "ADC", "FLAIR_mask", "tumor_T1ce_seg")
    (folder / "T1.json").write_text("{}")
    case = only_case(tmp_path)
    assert case.case_id == "Müller 1"
    assert sources_of(case) == dict(zip(VALUES, names, strict=True))


def test_an_unusual_name_goes_to_the_patient_that_it_starts_with(tmp_path: Path) -> None:
    for patient in ("P1", "P10"):
        write_images(tmp_path, *(f"{patient}_{name}" for name in ("t1", "t2", "flair", "T1 POST")))
    for case in find_scans(tmp_path):
        assert sources_of(case)["t1ce"] == f"{case.case_id}_T1 POST"


def test_a_folder_for_each_sequence_is_one_case(tmp_path: Path) -> None:
    names = {"t1": "1_T1", "t1ce": "2_T1GD", "t2": "3_T2", "flair": "4_FLAIR"}
    for name in names.values():
        write_images(tmp_path / "EGD-0001" / name / "NIFTI", name[2:])
        write_images(tmp_path / "P2" / name, f"P2_{name[2:]}")
    write_images(tmp_path / "EGD-0001/5_MASK/NIFTI", "MASK")
    cases = find_scans(tmp_path)
    assert [case.case_id for case in cases] == ["EGD-0001", "P2"]
    for case, prefix in zip(cases, ("", "P2_"), strict=True):
        assert sources_of(case) == {modality: f"{prefix}{name[2:]}" for modality, name in names.items()}


def test_time_points_that_are_named_like_sequences_stay_apart(tmp_path: Path) -> None:
    for time_point in ("T1", "T2"):
        write_images(tmp_path / "P1" / time_point, "t1", "t2", "flair")
    assert [len(case.sources) for case in find_scans(tmp_path)] == [3, 3]


def test_a_3d_scan_is_used_before_a_2d_one_with_a_shorter_name(tmp_path: Path) -> None:
    write_images(tmp_path / "P1", "AX_T1", "AX_T2", "AX_FLAIR")
    fine = nib.Nifti1Image(np.ones((110, 110, 110), np.int16), np.diag([1.5, 1.5, 1.5, 1]))
    nib.save(fine, tmp_path / "P1/3D_T1_MPRAGE.nii.gz")
    case = only_case(tmp_path)
    assert case.case_id == "P1"
    assert sources_of(case)["t1"] == "3D_T1_MPRAGE"


def test_of_repeated_series_the_one_with_the_highest_number_is_used(tmp_path: Path) -> None:
    write_images(tmp_path / "P1", "2_AX_T1", "5_AX_FLAIR", "12_AX_FLAIR")
    assert sources_of(only_case(tmp_path))["flair"] == "12_AX_FLAIR"


def test_a_single_image_above_the_cases_is_ignored(tmp_path: Path) -> None:
    write_images(tmp_path, "atlas_T1")
    write_images(tmp_path / "P1", *VALUES)
    assert [case.case_id for case in find_scans(tmp_path)] == ["P1"]


def test_converted_series_above_named_cases_leave_them(tmp_path: Path) -> None:
    write_images(tmp_path / "P1", "2_AX_T1", "5_AX_FLAIR")
    write_images(tmp_path / "P1/P2", *VALUES)
    assert [case.case_id for case in find_scans(tmp_path)] == ["P1", "P2"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("A_AX_T1_20200101120000_3", "B_AX_FLAIR_20210203101500_5"), "images of 2 studies"),
        (("P1_T1", "P2_T1"), "2 images of t1 and no other"),
    ],
)
def test_images_of_several_patients_in_one_folder_are_a_problem(tmp_path: Path, names, problem: str) -> None:
    write_images(tmp_path, *names)
    assert problem in problem_of(only_case(tmp_path))


def test_a_single_slice_is_no_scan(tmp_path: Path) -> None:
    write_images(tmp_path / "P1", "2_AX_T1")
    nib.save(nib.Nifti1Image(np.ones((9, 9, 1), np.int16), np.eye(4)), tmp_path / "P1/4_AX_T2.nii.gz")
    assert "4_AX_T2.nii.gz: has only one slice" in problem_of(only_case(tmp_path))


def test_other_series_are_skipped_and_the_log_says_why(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "brats3d")
    study(tmp_path)
    for n, (description, tags) in enumerate(
        {
            "3-plane loc": {},
            "ADC": {"ImageType": ["DERIVED", "PRIMARY", "ADC"]},
            "T1 POST SUB": {"ContrastBolusAgent": "Gd"},
            "AX T1 key": {"SOPClassUID": SecondaryCaptureImageStorage, "SamplesPerPixel": 3},
            "CT head": {"Modality": "CT"},
        }.items()
    ):
        write_series(tmp_path / f"other{n}", VALUES["t1"], AFFINE, description, PatientID="MRN-1", SeriesNumber=20 + n,
                     StudyInstanceUID=f"1.2.{abs(hash('MRN-1')) % 10**6}", **tags)  # fmt: skip
    read_scans(only_case(tmp_path))
    for text in (
        "t1ce is series 2 'AX T1 POST', (6, 5, 5) voxels of 1 x 1.2 x 3 mm",
        "series 20 '3-plane loc' (localiser)",
        "series 21 'ADC' (diffusion)",
        "series 22 'T1 POST SUB' (subtraction)",
        "series 23 'AX T1 key' (no MR image (Secondary Capture Image))",
        "series 24 'CT head' (CT, not MR)",
    ):
        assert text in caplog.text
    assert not re.search(r"roe|jane|mrn|1950|0815", caplog.text.replace(str(tmp_path), ""), re.IGNORECASE)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "tags"),
    [
        ((6, 5, 12), (1, 1.2, 2), {}),  # finer
        ((110, 105, 40), (1, 1, 3), {}),  # covers the brain
        ((6, 5, 5), (1, 1.2, 3), {}),  # repeated
    ],
)
def test_the_better_of_two_series_is_used(tmp_path: Path, shape, spacing_mm, tags) -> None:
    common = {"StudyInstanceUID": "1.2.3"}
    study(tmp_path, **common)
    values = np.ones(shape)
    write_series(
        tmp_path / "b", values, oblique_affine(spacing_mm), "AX T2", PatientID="MRN-1", SeriesNumber=9, **common
    )
    case = only_case(tmp_path)
    assert case.sources["t2"].name == "series 9 'AX T2'"
    assert case.skipped == ["series 3 'AX T2 TSE' (series 9 'AX T2' is the better t2)"]


def test_a_reformatted_or_incomplete_series_is_used_only_if_there_is_no_other(tmp_path: Path) -> None:
    common = {"StudyInstanceUID": "1.2.3", "PatientID": "MRN-1"}
    study(tmp_path, **common)
    derived = {"ImageType": ["DERIVED", "SECONDARY", "MPR"], **common}
    fine = oblique_affine((0.5, 0.5, 0.5))
    write_series(tmp_path / "b", VALUES["t2"], fine, "AX T2", SeriesNumber=9, **derived)
    write_series(tmp_path / "c", VALUES["t2"], fine, "AX T2", SeriesNumber=10, **common)[3].unlink()
    case = only_case(tmp_path)
    assert case.sources["t2"].name == "series 3 'AX T2 TSE'"
    assert case.skipped[-1] == "series 10 'AX T2' lacks 1 of 5 slices, which are 0.5 mm apart"


def test_a_case_that_cannot_be_used_leaves_the_others(tmp_path: Path) -> None:
    study(tmp_path / "P1", "a")["t2"][3].unlink()
    study(tmp_path / "P2", "b")
    first, second = find_scans(tmp_path)
    assert "series 3 'AX T2 TSE' lacks 1 of 5 slices" in problem_of(first)
    assert len(read_scans(second)) == 4


def test_patients_or_studies_in_one_folder_are_refused(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        for files in study(tmp_path / patient, patient).values():
            for file in files:
                file.rename(tmp_path / file.name)
    assert "DICOM files of 2 patients" in problem_of(only_case(tmp_path))
    for n, uid in enumerate(("1.2.3", "1.2.4")):
        write_series(tmp_path / "y" / f"s{n}", VALUES["t1"], AFFINE, "AX T1", StudyInstanceUID=uid)
    assert "DICOM files of 2 studies" in problem_of(only_case(tmp_path / "y"))


@pytest.mark.parametrize(
    ("description", "tags", "problem"),
    [
        ("localizer", {}, "no T1 and no T1ce, only series 1 'localizer' (localiser)"),
        ("AX T2", {}, "no T1 and no T1ce, only series 1 'AX T2' (t2)"),
        ("AX", {"Modality": "CT"}, "no T1 and no T1ce, only series 1 'AX' (CT, not MR)"),
        ("AX T1", {"SOPClassUID": EnhancedMRImageStorage, "NumberOfFrames": 3}, "several frames in one file"),
        ("AX T1", {"SamplesPerPixel": 3}, "coloured pixels"),
    ],
)
def test_a_folder_without_t1_is_one_line(tmp_path: Path, description: str, tags, problem: str) -> None:
    write_series(tmp_path, VALUES["t1"], AFFINE, description, **tags)
    assert problem in problem_of(only_case(tmp_path))


def test_damaged_files_are_a_problem_of_their_case(tmp_path: Path) -> None:
    file = study(tmp_path / "P1", "a")["t1"][2]
    file.write_bytes(file.read_bytes()[:400])
    study(tmp_path / "P2", "b")["t1"][2].write_bytes(file.read_bytes())
    study(tmp_path / "P3", "c")
    cases = find_scans(tmp_path)
    assert [bool(case.problem) for case in cases] == [True, True, False]
    assert f"1 DICOM file(s) end early or are damaged, such as {file.name}" in problem_of(cases[0])


def test_the_same_names_in_several_folders_become_unique(tmp_path: Path) -> None:
    for hospital in ("A", "B"):
        study(tmp_path / hospital / "P1", hospital)
    assert [case.case_id for case in find_scans(tmp_path)] == ["A_P1", "B_P1"]


def test_a_folder_without_scans_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="contains no scan"):
        find_scans(tmp_path)
    with pytest.raises(NotFoundError):
        find_scans(tmp_path / "absent")


def test_of_two_equal_t1_the_first_is_used_and_of_other_sequences_the_last(tmp_path: Path) -> None:
    common = {"StudyInstanceUID": "1.2.3", "PatientID": "MRN-1"}
    study(tmp_path, **common)
    for n, (modality, text) in enumerate({"t1": "AX T1 second", "flair": "AX FLAIR repeat"}.items()):
        write_series(tmp_path / f"b{n}", VALUES[modality], AFFINE, text, SeriesNumber=9 + n, **common)
    sources = only_case(tmp_path).sources
    assert (sources["t1"].name, sources["flair"].name) == ("series 1 'AX T1'", "series 10 'AX FLAIR repeat'")

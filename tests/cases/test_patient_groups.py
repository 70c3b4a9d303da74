"""Cases of one patient under names that no release defines."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from brats3d.cases.case import Case, make_case
from brats3d.cases.case_folders import folder_case_id
from brats3d.cases.folds import split_patients
from brats3d.cases.name_mapping import NameMapping, read_name_mappings
from brats3d.cases.patient_groups import group_notes, several_cases, unite_patients, unknown_cases


def make(place: str) -> Case:
    """Return a case from ``folder/case_id``, or from ``folder/`` with bare file names."""
    path = Path("/data/set", place)
    if place.endswith("/"):
        return make_case(folder_case_id(path), {"t1": path / "t1.nii.gz"}, None)
    return make_case(path.name, {"t1": path.parent / f"{path.name}_t1.nii.gz"}, None)


def groups(*places: str, mapping: NameMapping | None = None) -> dict[str, list[str]]:
    """Return patient_id -> case identifiers."""
    found: dict[str, list[str]] = {}
    for case in unite_patients([make(place) for place in places], mapping or NameMapping()):
        found.setdefault(case.patient_id, []).append(case.case_id)
    return found


def sizes(*places: str) -> list[int]:
    return sorted(map(len, groups(*places).values()))


ONE_AND_ANOTHER = {
    "UPENN-GBM": "UPENN-GBM-00001_11 UPENN-GBM-00001_21 UPENN-GBM-00002_11",
    "UCSF-PDGM": "UCSF-PDGM-0541_nifti UCSF-PDGM-0541_FU016d_nifti UCSF-PDGM-0542_nifti",
    "UCSF-PDGM, number like a year": "UCSF-PDGM-2001 UCSF-PDGM-2001_FU016d UCSF-PDGM-2002",
    "LUMIERE": "Patient-001/week-000-1/ Patient-001/week-000-2/ Patient-002/week-000-1/",
    "MU-Glioma-Post": "PatientID_0003_Timepoint_1 PatientID_0003_Timepoint_2 PatientID_0004_Timepoint_1",
    "RHUH-GBM": "RHUH-0001/0/ RHUH-0001/1/ RHUH-0002/0/",
    "TCGA, dated folders": "TCGA-06-0138/1999.01.02/ TCGA-06-0138/2000.01.02/ TCGA-06-0139/2000.01.02/",
    "TCIA's folders": "C3L-00016/01-01-2000-NA-MRI-1/ C3L-00016/02-01-2001-NA-MRI-2/ C3L-00017/02-01-2000-NA-MRI-3/",
    "BIDS": "sub-01_ses-01_run-1 sub-01_ses-02_acq-x sub-02_ses-01_run-1",
    "BIDS, bare names": "sub-01/ses-01/anat/ sub-01/ses-02/anat/ sub-02/ses-01/anat/",
    "Yale": "YG_0042_2015-03-02 YG_0042_2016-11-02 YG_0043_2015-03-02",
    "as BraTS 2023": "Hosp-00012-000 Hosp-00012-001 Hosp-00013-000",
    "before and after": "P01_pre P01_post P02_pre",
    "a word first": "preop_001 postop_001 preop_002",
    "no separator": "P01FU1 P01FU2 P02FU1",
    "T0": "P01T0 P01T1 P02T0",
    "baseline": "001-BL 001-M06 002-BL",
    "numbers": "subject1_1 subject1_10 subject2_1",
    "longer numbers": "A1_11 A1_21 A2_11",
    "years": "P01_2019 P01_2020 P02_2019",
    "six digits": "123456_180203 123456_190304 234567_180203",
    "months": "KI11_0m KI11_12months KI12_0m",
    "years and months": "K01_2018-02 K01_2019-03 K02_2018-02",
    "padded numbers": "case1_001 case1_002 case2_001",
    "letters": "P01a P01b P02a",
    "letters for patients": "patientA_1 patientA_2 patientB_1",
    "unknown words": "P01_siemens P01_ge P02_ge",
    "names of persons": "smith_pre smith_post jones_pre",
    "disease first": "GBM_1_FU1 GBM_1_FU2 GBM_2_FU1",
    "other case": "p01_pre P01_post P02_pre",
    "bias-corrected": "X1 X1_N4 X2",
    "skull-stripped": "X1_bet X1_brain X2_bet",
    "augmented": "X1_aug_2 X1_rot90 X2_rot90",
    "copies": "X1 X1-copy X2",
    "unknown step beside the original": "X1 X1_foo X2",
    "sessions first": "ses-1/sub-01_t ses-2/sub-01_u ses-1/sub-02_t",
    "one patient's folder": "P01/foo P01/bar P02/baz",
    "dated folders": "P01/20010203/20010203 P01/20020203/20020203 P02/19990101/19990101",
    "scans": "pat01/scanA/scanA pat01/scanB/scanB pat02/scanC/scanC",
    "a person's folder": "smith/visit1 smith/visit2 jones/visit3",
    "a case's folder": "X1/X1 X1/foo X2/X2",
    "a release's case": "d/BraTS20_Training_001 d/BraTS20_Training_001_N4 d/BraTS20_Training_002",
    "days of four digits": "OAS30001_MR_d0129 OAS30001_MR_d0757 OAS30002_MR_d0371",
    "days from surgery": "P01_d+0 P01_d+90 P02_d+0",
    "ordinals": "P01_1st P01_2nd P02_1st",
    "names of months": "P01_12Mar2015 P01_14Apr2016 P02_12Mar2015",
    "year and name of the month": "P01_2015-Mar-12 P01_2016-Apr-14 P02_2015-Mar-12",
    "the only patient with two scans": "UPENN-GBM-00001_11 UPENN-GBM-00001_21 UPENN-GBM-00002",
    "the only patient of two sites": "CenterA_012_00 CenterA_012_01 CenterB_012_00",
    "accession numbers after a patient": "P01_A12345 P01_A12346 P02_A22345",
    "accession numbers after a record number": "00123456_71234567 00123456_71239999 00999999_70000000",
    "counted scans in a person's folder": "Doe^John/Doe^John_MR1 Doe^John/MR2 Roe^Jane/Roe^Jane_MR1",
    "a release's case after another word": "HGG_Brats18_CBICA_AAB_1 Brats17_CBICA_AAB_1 x_Brats18_CBICA_AAL_1",
    "accession numbers": "RHUH-0001/acc8812/acc8812 RHUH-0001/acc8813/acc8813 RHUH-0002/acc8814/acc8814",
}


@pytest.mark.parametrize("places", ONE_AND_ANOTHER.values(), ids=ONE_AND_ANOTHER)
def test_two_cases_of_one_patient_are_grouped_and_that_of_another_is_not(places: str) -> None:
    first, second, other = [make(place) for place in places.split()]
    found = {case.case_id: case.patient_id for case in unite_patients([first, second, other], NameMapping())}
    assert found[first.case_id] == found[second.case_id] != found[other.case_id]


ALL_DIFFERENT = {
    "numbers": "P1 P2 P3 P10",
    "one word": "case_001 case_002 case_003",
    "subjects": "subject_1 subject_2 subject_3",
    "plain numbers": "1 2 3",
    "BIDS": "sub-01 sub-02 sub-03",
    "counted words": "scan1 scan2 scan3",
    "visits of nobody": "visit1 visit2 visit3",
    "TCGA": "TCGA-06-0138 TCGA-06-0139 TCGA-DU-7294 TCGA-DU-7295 TCGA-W9-A837",
    "CPTAC": "C3L-00016 C3L-00017 C3N-00016",
    "REMBRANDT": "900-00-1961 900-00-1962 HF1293 HF1294 E09138",
    "UCSF-PDGM": "UCSF-PDGM-0001_nifti UCSF-PDGM-0002_nifti",
    "IXI": "IXI012-HH-1211 IXI013-HH-1212",
    "BraTS, with other beginnings": "2013_10_1 2013_11_1 TCIA01_131_1 TCIA01_147_1 CBICA_AAB_1",
    "site and patient": "site1_1 site1_2 site2_1",
    "site and padded patient": "01_001 01_002 02_001",
    "center and subject": "c01_s01 c01_s02 c02_s01",
    "scans of many persons": "Anna/XY_1/ Bert/XY_1/ Carl/XY_1/",
    "site folders": "SiteA/P001 SiteA/P002 SiteB/P003",
    "site folders, bare names": "SiteA/P001/ SiteA/P002/ SiteB/P003/",
    "grades": "HGG/a HGG/b LGG/c",
    "cohorts": "gbm01/0001 gbm01/0002 gbm02/0003",
    "cohorts of TCGA": "GBM01/TCGA-06-0138 GBM01/TCGA-06-0139 GBM02/TCGA-06-0140",
    "nnU-Net": "imagesTr/BRATS_001 imagesTr/BRATS_002 imagesTs/BRATS_003",
    "sets": "train/1/ train/2/ val/3/",
    "one folder a patient": "pat01/anat/ pat02/anat/ pat03/anat/",
    "a common word": "HD-BET_001 HD-BET_002 HD-BET_003",
    "follow-ups of many": "UPENN_FU_001 UPENN_FU_002 UPENN_FU_003",
    "a hospital's dates": "LUMC_20210101 LUMC_20210102 LUMC_20210103",
    "a hospital's years": "LUMC_2021_01 LUMC_2021_02 LUMC_2021_03",
    "dates alone": "2001-02-03/ 2001-02-04/ 2002-02-04/",
    "names that start like months": "Dez_01 Mai_02 Jan_03",
    "numbers after D": "KKH_D0012 KKH_D0013 KKH_D0014",
    "a site among other names": "Study1_1 Study1_2 TCGA-02-0001",
    "cases of a year": "case_2019_00012 case_2019_00013 case_2020_00012",
    "DICOM identifiers": "1.3.6.1.4.1.14519.5.2.1.123456.7891 1.3.6.1.4.1.14519.5.2.1.123456.7892",
    "identifiers": "3f2504e0-4f89-11d3 3f2504e1-4f89-11d3",
    "releases": "BraTS20_Training_001 BraTS20_Training_002 Brats18_CBICA_AAB_1 BraTS2021_00001",
}


@pytest.mark.parametrize("places", ALL_DIFFERENT.values(), ids=ALL_DIFFERENT)
def test_different_patients_are_not_grouped_and_keep_their_identifiers(places: str) -> None:
    cases = [make(place) for place in places.split()]
    assert unite_patients(cases, NameMapping()) == cases


@pytest.mark.parametrize(
    "names",
    [
        [f"site{i // 20}_{i % 20}" for i in range(60)],
        [f"A{i // 50}_{i % 50}" for i in range(100)],
        [f"GBM2023_FU_{i:03d}" for i in range(60)],
        [f"2001020{i // 60 + 1}_{i % 60:03d}" for i in range(20)],
    ],
)
def test_a_large_data_set_does_not_collapse(names: list[str]) -> None:
    assert len(groups(*names)) == len(names)


def test_a_patient_may_have_dozens_of_augmented_copies() -> None:
    assert sizes(*(f"P{i // 40:02d}_aug{i % 40}" for i in range(120))) == [40, 40, 40]


def test_two_time_points_of_the_only_patient_are_one_patient() -> None:
    assert groups("pat01_ses-1", "pat01_ses-2") == {"pat01": ["pat01_ses-1", "pat01_ses-2"]}


def test_the_patient_has_the_name_that_its_cases_share() -> None:
    assert set(groups("UPENN-GBM-00001_11", "UPENN-GBM-00001_21", "UPENN-GBM-00002_11")) == {
        "UPENN-GBM-00001",
        "UPENN-GBM-00002_11",
    }
    assert set(groups("P01/20010203/20010203", "P01/20020203/20020203", "P02/x")) == {"P01", "x"}


def test_copies_belong_to_the_patient_of_the_release() -> None:
    found = groups("BraTS2021_00005", "BraTS2021_00005_N4", "BraTS-GLI-00005-000", "BraTS2021_00006")
    assert list(found) == ["BraTS-GLI-00005", "BraTS-GLI-00006"]


def test_a_grouped_name_is_found_in_a_name_mapping(tmp_path: Path) -> None:
    (tmp_path / "name_mapping.csv").write_text(
        "TCGA_TCIA_subject_ID,BraTS_2020_subject_ID\nTCGA-06-0138,BraTS20_Training_002\n"
    )
    found = groups("TCGA-06-0138_pre", "BraTS20_Training_002", mapping=read_name_mappings(tmp_path))
    assert list(found) == ["BraTS20_Training_002"]


PATTERNS = (
    "UPENN-GBM-{p:05d}_{t}1",
    "UCSF-PDGM-{p:04d}_FU{t:03d}d",
    "PatientID_{p:04d}_Timepoint_{t}",
    "sub-{p:02d}_ses-{t:02d}",
    "YG_{p:04d}_20{t:02d}-03-02",
    "P{p:02d}_{t}",
    "TCGA-06-{p:04d}_pre{t}",
    "ABC-{p:05d}-{t:03d}",
)


@given(
    st.sampled_from(PATTERNS),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=4, max_size=30, unique=True),
    st.randoms(use_true_random=False),
)
def test_no_patient_is_in_two_folds_whatever_the_order(
    pattern: str, scans: list[tuple[int, int]], rng: random.Random
) -> None:
    patient_of = {pattern.format(p=p, t=t): p for p, t in scans}
    cases = [make(name) for name in patient_of]
    shuffled = rng.sample(cases, len(cases))
    united = unite_patients(cases, NameMapping())
    assert {c.case_id: c for c in united} == {c.case_id: c for c in unite_patients(shuffled, NameMapping())}
    if len(set(patient_of.values())) > 1:
        assert len({case.patient_id for case in united}) == len(set(patient_of.values()))
        folds = [{patient_of[case.case_id] for case in fold} for fold in split_patients(united)]
        assert all(not (a & b) for a, b in itertools.combinations(folds, 2))


# --- what the user states


def test_stated_patients_win_over_names_and_others_of_the_name_join_them() -> None:
    names = ["A1_pre", "A1_post", "A1_late"]
    cases = [make(name) for name in names]

    def patients(stated: dict[str, str]) -> list[str]:
        return [case.patient_id for case in unite_patients(cases, NameMapping(stated=stated))]

    assert patients({name: name for name in names}) == names
    assert patients({"A1_pre": "anna"}) == ["anna", "anna", "anna"]
    assert patients({"A1_pre": "anna", "A1_post": "bert"}) == ["anna", "bert", "A1"]
    united = unite_patients(cases, NameMapping(stated={"A1_pre": "anna"}), {"A1_pre": "carl"})
    assert {case.patient_id for case in united} == {"carl"}


def test_stated_patients_unite_cases_of_any_release() -> None:
    stated = dict.fromkeys(("BraTS20_Training_001", "foo"), "anna")
    assert groups("BraTS20_Training_001", "foo", "bar", mapping=NameMapping(stated=stated)) == {
        "anna": ["BraTS20_Training_001", "foo"],
        "bar": ["bar"],
    }


def test_groups_by_name_and_unknown_cases_are_reported() -> None:
    mapping = NameMapping(stated={"A1_pre": "A1", "A1_post": "A1", "nobody": "x"})
    cases = unite_patients([make(name) for name in ("A1_pre", "A1_post", "B1_pre", "B1_post")], mapping)
    assert [[case.case_id for case in own] for own in several_cases(cases)] == [
        ["A1_pre", "A1_post"],
        ["B1_pre", "B1_post"],
    ]
    assert unknown_cases(cases, mapping) == ["nobody"]
    grouped, unknown = group_notes(cases, mapping)
    assert "B1_pre, B1_post" in grouped and "A1" not in grouped
    assert "nobody" in unknown
    known = [make(name) for name in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001")]
    assert group_notes(unite_patients(known, NameMapping()), NameMapping()) == []

"""Words in names that state no patient."""

from __future__ import annotations

import pytest

from brats3d.cases.name_words import (
    has_number,
    has_words,
    is_numbered,
    is_person,
    is_site,
    states_patient,
    without_times,
)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("P01_FU016d", "P01"),
        ("P01_week-000-2", "P01"),
        ("P01_Timepoint_2", "P01"),
        ("P01-pre-op", "P01"),
        ("P01 post RT", "P01"),
        ("P01_2001-02-03_N4", "P01"),
        ("P01_20010203T120000", "P01"),
        ("P01_05-01-2000", "P01"),
        ("P01T1", "P01"),
        ("P01_flip_x", "P01"),
        ("P01_1mm", "P01"),
        ("P01 - Copy (2)", "P01"),
        ("Copy of P01", "P01"),
        ("preop_001", ""),
        ("sub-01_ses-02_run-3", "sub-01"),
        ("UCSF-PDGM-0001_nifti", "UCSF-PDGM-0001"),
        ("Müller_baseline", "Müller"),
        ("TCGA-06-0138", "TCGA-06-0138"),
        ("prefix12_brainstem", "prefix12_brainstem"),
        ("2001020", "2001020"),
    ],
)
def test_dates_time_points_and_processing_are_removed(name: str, patient: str) -> None:
    assert without_times(name) == patient


def test_numbers_of_these_words_can_be_kept() -> None:
    assert without_times("FU_012", numbers=False) == "012"
    assert without_times("scan_012", numbers=False) == "scan_012"  # as many scans as patients


def test_names_state_a_patient_a_site_or_neither() -> None:
    assert [name for name in ("P01", "smith", "scan3", "12", "data", "Site3", "anat") if states_patient(name)] == [
        "P01",
        "smith",
    ]
    assert [name for name in ("12", "scan3", "P01", "week3", "mri") if is_numbered(name)] == ["12", "scan3"]
    assert is_person("Patient_003") and is_person("sub-01") and not is_person("Site3")
    assert is_site("SiteA") and is_site("batch_2") and not is_site("P01")
    assert not has_number("Site3") and has_number("Site3_P1")
    assert has_words("smith") and not has_words("GBM") and not has_words("training")

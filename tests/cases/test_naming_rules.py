"""The naming rules of the releases."""

from __future__ import annotations

import subprocess
import sys

import pytest

from brats3d.cases.file_names import parse_file_name
from brats3d.cases.naming_rules import LAYOUTS, layout_of, modality_of
from brats3d.labels import CONVENTIONS, MODALITIES


@pytest.mark.parametrize(
    ("case_id", "layout", "patient", "convention"),
    [
        ("brats_tcia_pat117_0010", "brats2015", "tcia_pat117", "brats2015"),
        ("Brats17_2013_10_1", "brats2017", "2013_10", "brats2020"),
        ("Brats18_CBICA_AAB_1", "brats2018", "CBICA_AAB", "brats2020"),
        ("BraTS19_TCIA01_131_1", "brats2019", "TCIA01_131", "brats2020"),
        ("BraTS20_Training_001", "brats2020", "BraTS20_Training_001", "brats2020"),
        ("BraTS20_Validation_125", "brats2020", "BraTS20_Validation_125", "brats2020"),
        ("BraTS2021_01479", "brats2021", "BraTS-GLI-01479", "brats2020"),
        ("BraTS-GLI-01479-000", "brats2023", "BraTS-GLI-01479", "brats2023"),
        ("BraTS-GLI-00005-001", "brats2023", "BraTS-GLI-00005", "brats2023"),
        ("BraTS-GLI-00005-100", "brats2024", "BraTS-GLI-00005", "brats2024-gli"),
        ("BraTS-GLI-00005-101", "brats2024", "BraTS-GLI-00005", "brats2024-gli"),
        ("BraTS-SSA-00002-000", "brats2023", "BraTS-SSA-00002", "brats2023"),
        ("BraTS-MET-00086-003", "brats2023", "BraTS-MET-00086", "brats2023"),
        ("BraTS-MEN-00004-000", "brats2023", "BraTS-MEN-00004", "brats2023"),
        ("BraTS-PED-00001-000", "brats2023", "BraTS-PED-00001", None),
        ("TCGA-DU-7294", "brats2020", "TCGA-DU-7294", "brats2020"),
    ],
)
def test_a_case_identifier_states_layout_patient_and_label_convention(case_id, layout, patient, convention):
    result = layout_of(case_id)
    assert (result.name, result.patient_of(case_id), result.convention) == (layout, patient, convention)


def test_labels_are_unknown_for_unknown_cases_with_file_names_of_2023():
    assert layout_of("any", ["any_t1.nii.gz"]).convention == "brats2020"
    assert layout_of("any", ["any-t1n.nii.gz"]).convention is None
    assert layout_of("BraTS2021_00001", ["any-t1n.nii.gz"]).convention == "brats2020"
    assert layout_of("any", ["any-t1n.nii.gz"]).file_name("any", "t1ce") == "any-t1c"


def test_an_open_label_convention_has_known_choices():
    assert layout_of("BraTS-PED-00001-000").conventions == ("brats2023", "brats2024-ped")
    for layout in LAYOUTS:
        assert bool(layout.convention) + bool(layout.conventions) + bool(layout.refused) == 1
        assert {*layout.conventions, *([layout.convention] if layout.convention else [])} <= CONVENTIONS.keys()


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("BraTS20_Training_001_t1ce.nii", ("BraTS20_Training_001", "t1ce")),
        ("BraTS-GLI-00005-100-t1c.nii.gz", ("BraTS-GLI-00005-100", "t1ce")),
        ("BraTS-GLI-00005-100-seg.nii.gz", ("BraTS-GLI-00005-100", "seg")),
        ("a_T2F.NII.GZ", ("a", "flair")),
        ("t1n.nii", ("", "t1")),
        ("BRATS_001.nii.gz", None),
        ("start1.nii.gz", None),
        ("a_t1.mha", ("a", "t1")),
        ("a_t1_brain.nii.gz", ("a", "t1")),
        ("a_t1.txt", None),
    ],
)
def test_a_file_name_states_case_and_modality(name, parsed):
    assert parse_file_name(name) == parsed


@pytest.mark.parametrize("case_id", ["BraTS20_Training_001", "BraTS-GLI-00005-100", "Brats18_CBICA_AAB_1", "other"])
def test_file_names_are_parsed_as_they_are_made(case_id):
    for modality in (*MODALITIES, "seg"):
        assert parse_file_name(layout_of(case_id).file_name(case_id, modality) + ".nii.gz") == (case_id, modality)


def test_a_modality_comes_from_the_name_of_the_file_or_its_folder():
    assert modality_of("x/BraTS20_Training_001_t1ce.nii") == "t1ce"
    assert modality_of("BraTS-GLI-00005-100-t1c.nii.gz") == "t1ce"
    assert modality_of("x/C_flair.nii/00000057_brain.nii") == "flair"
    assert modality_of("x/C_seg.nii.gz") is None


def test_naming_rules_import_nothing_heavy():
    code = "import sys, brats3d.cases.naming_rules; sys.exit(bool({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

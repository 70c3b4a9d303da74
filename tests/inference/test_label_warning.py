"""The warning about labels that mean something else in the release of the input."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.cases.case import make_case
from brats3d.inference.label_warning import label_warning
from brats3d.labels import BRATS2020, BRATS2023, get_convention


def warn(*case_ids: str, written=BRATS2020) -> str:
    return label_warning([make_case(i, {"t1": Path(f"{i}-t1n.nii.gz")}, None) for i in case_ids], written)


def test_a_label_that_is_a_cavity_in_the_release_is_a_warning() -> None:
    text = warn("BraTS-GLI-00001-100", "BraTS2021_00001")
    assert "4 = RC" in text and "--label_convention brats2024-gli" in text and "BraTS2021_00001" not in text


def test_paediatric_labels_are_numbered_differently() -> None:
    text = warn("BraTS-PED-00001-000")
    assert "1 = ET" in text and "4 = ED" in text and "--label_convention brats2024-ped" in text


@pytest.mark.parametrize("case_id", ["BraTS20_Training_001", "BraTS2021_00001", "BraTS-GLI-00001-000", "UCSF-1"])
def test_other_names_are_no_warning(case_id: str) -> None:
    assert warn(case_id) == ""


def test_the_releases_own_labels_are_no_warning() -> None:
    assert warn("BraTS-GLI-00001-100", written=get_convention("brats2024-gli")) == ""
    assert warn("BraTS-PED-00001-000", written=BRATS2023) == ""
    assert warn("BraTS-GLI-00001-100", written=BRATS2023) == ""  # 3 is the enhancing tumour in both

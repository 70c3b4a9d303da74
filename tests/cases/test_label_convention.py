"""The label convention of cases: names, datalists and the user's option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brats3d.cases.case import Case, make_case
from brats3d.cases.label_convention import apply_convention, summarise_cases, with_convention
from brats3d.errors import UsageError
from brats3d.labels import BRATS2020, get_convention


@pytest.fixture
def make_cases(tmp_path: Path, write_nifti) -> Callable[..., list[Case]]:
    """``make_cases(*case_ids, labels="brats2020", states=None)`` writes segmentations in the labels of a convention."""

    def make(*case_ids: str, labels: str = "brats2020", states: str | None = None) -> list[Case]:
        table = np.zeros(5, np.uint8)
        for value, other in BRATS2020.translate_to(get_convention(labels)).items():
            table[value] = other
        label = np.zeros((16, 16, 12), np.uint8)
        label[4:12, 4:12, 3:9] = 2
        label[5:11, 5:11, 4:8] = 4
        label[6:10, 6:10, 5:7] = 1
        paths = [write_nifti(tmp_path / f"{case_id}_seg.nii.gz", table[label]) for case_id in case_ids]
        return [make_case(i, {}, path, convention=states) for i, path in zip(case_ids, paths, strict=True)]

    return make


def conventions(cases: list[Case]) -> list[str | None]:
    return [case.convention for case in cases]


def test_names_state_the_convention_without_an_option(make_cases) -> None:
    cases = make_cases("BraTS2021_00001", "BraTS-GLI-00002-000", "Site-007")
    decided, notes = with_convention(cases, None)
    assert conventions(decided) == ["brats2020", "brats2023", "brats2020"]
    assert notes == []


def test_an_option_fills_in_what_names_leave_open_and_keeps_what_they_state(make_cases) -> None:
    cases = [*make_cases("BraTS2021_00001"), *make_cases("BraTS-PED-00002-000", "Site-007", labels="brats2023")]
    decided, (note,) = with_convention(cases, "brats2023")
    assert conventions(decided) == ["brats2020", "brats2023", "brats2023"]
    assert "BraTS2021_00001" in note


@pytest.mark.parametrize("name", ["brats2023", "brats2024-gli", "decathlon"])
def test_an_option_that_contradicts_every_name_is_refused(make_cases, name: str) -> None:
    with pytest.raises(UsageError) as error:
        apply_convention(make_cases("BraTS2021_00001", "BraTS20_Training_001"), name)
    assert error.value.subject == "label_convention"
    assert "BraTS2021_00001" in str(error.value) and "datalist.json" in error.value.advice


def test_a_datalist_states_the_convention_of_its_cases(make_cases) -> None:
    cases = make_cases("P1", "P2", states="brats2020")
    with pytest.raises(UsageError):
        apply_convention(cases, "brats2015")
    assert conventions(apply_convention(make_cases("P1"), "brats2015")[0]) == ["brats2015"]


@pytest.mark.parametrize("labels", ["brats2023", "decathlon"])
def test_a_relabelled_release_is_read_by_the_option_that_fits(make_cases, labels: str) -> None:
    cases = make_cases("BraTS2021_00001", "BraTS2021_00002", labels=labels)
    decided, (note,) = apply_convention(cases, labels)
    assert conventions(decided) == [labels, labels]
    assert "brats2020" in note


def test_a_convention_that_a_warning_offers_is_accepted(make_cases) -> None:
    cases = make_cases("BraTS-GLI-00001-100", "BraTS-GLI-00002-100")  # 4 would be a cavity, and 3 never occurs
    assert conventions(apply_convention(cases, "brats2020")[0]) == ["brats2020", "brats2020"]


def test_edema_inside_the_core_shows_that_a_release_was_relabelled(make_cases) -> None:
    cases = make_cases(*(f"BraTS-GLI-0000{i}-000" for i in range(3)), labels="decathlon")
    assert conventions(apply_convention(cases, "nnunet")[0]) == ["decathlon"] * 3
    with pytest.raises(UsageError):
        apply_convention(make_cases(*(f"BraTS-GLI-0001{i}-000" for i in range(3)), labels="brats2023"), "nnunet")


def test_the_conventions_offered_have_the_labels_of_all_cases(make_cases) -> None:
    cases = [*make_cases("BraTS-PED-00001-000", labels="brats2023"), *make_cases("BraTS-PED-00002-000")]
    with pytest.raises(UsageError) as error:
        with_convention(cases, None)
    assert error.value.expected == "brats2024-ped"  # 3 in one case, 4 in the other


def test_another_option_is_named_in_errors(make_cases) -> None:
    with pytest.raises(UsageError) as error:
        apply_convention(make_cases("BraTS2021_00001"), "brats2023", option="ref_labels")
    assert error.value.subject == "ref_labels"
    with pytest.raises(UsageError):
        apply_convention([], "brats1999")


def test_cases_are_read_until_enough_are_and_unreadable_ones_are_skipped(make_cases) -> None:
    cases = make_cases(*(f"P{i}" for i in range(9)))
    cases[3].label.write_bytes(b"")
    assert len(summarise_cases(cases)) == 8
    assert len(summarise_cases(cases, lambda summaries: len(summaries) >= 3)) in (3, 4)

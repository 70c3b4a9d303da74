"""Doubts about the meaning of labels, on nested boxes: edema around enhancement around necrosis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from brats3d.cases.label_evidence import (
    describe_fits,
    edema_margin,
    fitting_conventions,
    gravity,
    is_sound,
    label_doubts,
)
from brats3d.cases.label_summary import LabelSummary, labelled_voxels, summarise_labels
from brats3d.labels import BRATS2020, CONVENTIONS, get_convention


def tumour(edema: int = 8, enhancing: int = 5, necrosis: int = 3) -> np.ndarray:
    """Return nested cubes with these sides, in BraTS 2020's labels."""
    label = np.zeros((20, 20, 20), np.uint8)
    for value, side in ((2, edema), (4, enhancing), (1, necrosis)):
        label[4 : 4 + side, 6 : 6 + side, 6 : 6 + side] = value
    return label


def cases(convention: str, labels: list[np.ndarray] | None = None) -> dict[str, LabelSummary]:
    """Return summaries of cases whose labels follow the convention."""
    table = np.zeros(5, np.uint8)
    for value, other in BRATS2020.translate_to(get_convention(convention)).items():
        table[value] = other
    labels = [tumour(9, 6, 4), tumour(10, 6, 3), tumour(8, 5, 3), tumour(12, 7, 4)] if labels is None else labels
    summaries = {f"case{i}": summarise_labels(labelled_voxels(table[label])) for i, label in enumerate(labels)}
    return {case_id: summary for case_id, summary in summaries.items() if summary is not None}


def kinds(summaries: Mapping[str, LabelSummary], convention: str) -> list[tuple[str, bool]]:
    return [(doubt.kind, doubt.serious) for doubt in label_doubts(summaries, get_convention(convention))]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_labels_of_every_convention_leave_no_doubt_and_need_no_more_cases(name: str) -> None:
    assert kinds(cases(name), name) == []
    assert is_sound(cases(name), get_convention(name))


@pytest.mark.parametrize(
    ("truth", "read"),
    [
        ("decathlon", "brats2023"),
        ("decathlon", "brats2024-gli"),
        ("decathlon", "brats2015"),
        ("brats2023", "decathlon"),
        ("brats2020", "brats2024-ped"),
        ("brats2024-ped", "brats2015"),
        ("hd-glio", "brats2020"),
        ("hd-glio", "brats2023"),
    ],
)
def test_exchanged_edema_and_core_are_refused_and_the_right_convention_is_offered(truth: str, read: str) -> None:
    (doubt,) = label_doubts(cases(truth), get_convention(read))
    assert (doubt.kind, doubt.serious) == ("edema inside the core", True)
    assert truth in doubt.advice
    assert gravity(cases(truth), get_convention(read)) == 2


def test_the_margin_is_that_of_two_boxes_worked_by_hand() -> None:
    label = np.zeros((10, 10, 10), np.uint8)
    label[2:8, 2:8, 2:8] = 2
    label[3:7, 3:7, 2:6] = 4  # one of its six sides is free
    summary = summarise_labels(labelled_voxels(label))
    assert summary is not None
    edema = (6 * 36 - 16) / (6 * 36 - 16 + 5 * 16)
    assert edema_margin(summary, BRATS2020) == pytest.approx(edema - 1 / 6)


def test_cases_without_edema_without_core_or_with_tiny_ones_are_no_evidence() -> None:
    for label in (tumour(0), tumour(8, 0, 0), tumour(3, 2, 0)):
        (summary,) = cases("brats2020", [label]).values()
        assert edema_margin(summary, BRATS2020) is None


def test_a_single_case_with_edema_inside_the_core_is_no_evidence() -> None:
    summaries = cases("brats2023") | {"odd": cases("decathlon", [tumour()])["case0"]}
    assert kinds(summaries, "brats2023") == []


def test_two_numberings_in_one_set_are_a_warning_with_the_names_of_the_fewer_cases() -> None:
    summaries = cases("brats2023") | {f"msd{i}": each for i, each in enumerate(cases("decathlon").values())}
    (doubt,) = label_doubts(summaries, get_convention("brats2023"))
    assert (doubt.kind, doubt.serious) == ("doubtful edema", False)
    assert doubt.cases == ("msd0", "msd1", "msd2", "msd3")


def test_tumours_without_enhancement_are_a_warning_and_half_of_them_none() -> None:
    without = [tumour(9, 0, 4), tumour(10, 0, 5), tumour(8, 0, 4)]
    assert kinds(cases("brats2020", without), "brats2020") == [("region in no case", False)]
    assert kinds(cases("brats2020", [*without, tumour(), tumour(9)]), "brats2020") == []
    assert kinds(cases("brats2020", without[:1]), "brats2020") == []


def test_enhancing_tumour_read_as_cavity_is_a_warning_that_offers_the_other_convention() -> None:
    (doubt,) = label_doubts(cases("brats2020"), get_convention("brats2024-gli"))
    assert (doubt.kind, doubt.serious) == ("region in no case", False)
    assert "brats2020" in doubt.advice


@pytest.mark.parametrize("value", [1, 2, 4])
def test_masks_of_one_value_are_refused_from_three_cases_on(value: int) -> None:
    summaries = {f"case{i}": summarise_labels(labelled_voxels(tumour(8 + i, 0, 0) // 2 * value)) for i in range(3)}
    assert kinds(summaries, "brats2020") == [("one label", True)]
    del summaries["case2"]
    assert ("one label", True) not in kinds(summaries, "brats2020")


def test_masks_of_the_whole_tumour_are_whole_lesions_in_hd_glios_convention() -> None:
    summaries = {f"case{i}": summarise_labels(labelled_voxels(tumour(8 + i, 0, 0) // 2)) for i in range(3)}
    assert kinds(summaries, "hd-glio") == [("region in no case", False)]


def test_a_set_without_any_label_is_doubted_and_one_empty_case_is_not() -> None:
    empty = {f"case{i}": LabelSummary({}, {}) for i in range(2)}
    assert kinds(empty, "brats2020") == [("region in no case", False)]
    assert kinds({"case0": empty["case0"]}, "brats2020") == []
    assert kinds({}, "brats2020") == []


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((1, 2, 4), ["brats2020", "brats2015", "brats2024-gli", "brats2024-ped"]),
        ((1, 2, 3), ["brats2023", "brats2024-gli", "brats2024-ped", "brats2015", "decathlon"]),
        ((1, 2, 3, 4), ["brats2024-gli", "brats2024-ped", "brats2015"]),
        ((1, 2), list(CONVENTIONS)),
        ((1, 255), []),
    ],
    ids=str,
)
def test_exactly_the_conventions_that_have_all_labels_of_all_cases_are_offered(
    values: tuple[int, ...], names: list[str]
) -> None:
    summaries = {f"case{value}": LabelSummary({value: 5}, {}) for value in values}
    assert sorted(fitting_conventions(summaries)) == sorted(names)


@pytest.mark.parametrize("name", ["brats2020", "brats2023", "decathlon", "hd-glio"])
def test_the_convention_that_anatomy_supports_is_offered_first(name: str) -> None:
    assert fitting_conventions(cases(name))[0] == name


def test_whole_tumour_masks_are_offered_hd_glios_convention_first() -> None:
    summaries = {f"case{i}": LabelSummary({1: 5}, {}) for i in range(3)}
    assert fitting_conventions(summaries)[0] == "hd-glio"


def test_the_releases_own_conventions_exclude_others_if_one_of_them_fits() -> None:
    possible = ("brats2023", "brats2024-ped")
    assert fitting_conventions(cases("brats2020"), possible) == ["brats2024-ped"]
    assert fitting_conventions(cases("brats2020"), ("brats2023",))[0] == "brats2020"
    assert describe_fits(cases("brats2023"), possible) == "labels 1, 2, 3 fit brats2023 (best) or brats2024-ped"


def test_labels_of_no_convention_are_refused_with_the_cases_that_have_them() -> None:
    summaries = cases("brats2020") | {"odd": LabelSummary({255: 9}, {})}
    (doubt,) = label_doubts(summaries, BRATS2020)
    assert (doubt.kind, doubt.serious, doubt.cases) == ("unexpected labels", True, ("odd",))
    assert label_doubts({}, BRATS2020) == []

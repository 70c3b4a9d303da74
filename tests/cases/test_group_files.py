"""The files of one folder, sorted by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.cases.group_files import group_by_case


def group(*names: str, folder: str = "/d/P1"):
    return group_by_case(folder, {f"{name}.nii.gz": [f"{folder}/{name}.nii.gz"] for name in names})


def used(case) -> dict[str, list[str]]:
    return {kind: [Path(path).name.removesuffix(".nii.gz") for path in paths] for kind, paths in case.files.items()}


def test_the_form_that_most_sequences_have_is_used():
    (case,) = group("X_t1", "X_t1_bet", "X_t1ce", "X_t2", "X_flair")
    assert used(case) == {"t1": ["X_t1"], "t1ce": ["X_t1ce"], "t2": ["X_t2"], "flair": ["X_flair"]}
    assert case.choices == [("/d/P1/X_t1.nii.gz", "/d/P1/X_t1_bet.nii.gz")]


@pytest.mark.parametrize(
    ("forms", "best"),
    [(("_to_SRI", "_to_SRI_brain"), "_to_SRI_brain"), (("", "_bias"), ""), (("_raw_bet", "_normalized_bet"), None)],
)
def test_of_several_forms_of_all_sequences_one_is_used(forms, best):
    (case,) = group(*(f"{sequence}{form}" for sequence in ("T1", "FLAIR") for form in forms))
    if best is None:  # two forms of the same rank are reported
        assert {kind: len(paths) for kind, paths in case.files.items()} == {"t1": 2, "flair": 2}
    else:
        assert used(case) == {"t1": [f"T1{best}"], "flair": [f"FLAIR{best}"]}
        assert len(case.choices) == 2


def test_forms_are_mixed_if_each_sequence_has_only_one():
    (case,) = group("T1_r2s_bet", "CT1_r2s_bet_reg", "FLAIR_r2s_bet_reg")
    assert used(case) == {"t1ce": ["CT1_r2s_bet_reg"], "flair": ["FLAIR_r2s_bet_reg"], "t1": ["T1_r2s_bet"]}
    assert not case.choices


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("X_tumor_segmentation",), "X_tumor_segmentation"),
        (("X_brain_seg", "X_tumorMask"), "X_tumorMask"),
        (("X_GlistrBoost", "X_GlistrBoost_ManuallyCorrected"), "X_GlistrBoost_ManuallyCorrected"),
        (("X_seg", "X_tumor_seg", "X_brain_seg"), "X_seg"),
        (("X_brain_seg",), None),
        (("X_mask",), None),
        (("X_pred_seg",), None),
    ],
)
@pytest.mark.parametrize("others", [(), ("Y_t1", "Y_t2")], ids=["own folder", "flat"])
def test_the_segmentation_of_the_tumour_is_used_and_no_other(names, label, others):
    case = group("X_t1", "X_t2", *names, *others)[0]
    assert used(case).get("seg") == ([label] if label else None)
    assert not case.stray_segmentations
    not_used = {path for pair in case.choices for path in pair} | set(case.unread)
    assert all(f"/d/P1/{name}.nii.gz" in not_used for name in names if name != label)


def test_a_brain_in_the_identifier_is_no_brain_mask():
    assert used(group("X_brain_t1", "X_brain_t2", "X_brain_seg")[0])["seg"] == ["X_brain_seg"]
    case = group("X_brain_t1", "X_brain_t2", "X_tumorMask", "Y_brain_t1", "Y_brain_t2", "Y_tumorMask")[0]
    assert used(case)["seg"] == ["X_tumorMask"]


def test_two_equally_good_segmentations_are_ambiguous():
    (case,) = group("X_t1", "X_t2", "X_segm", "X_segmentation")
    assert len(case.stray_segmentations) == 2
    assert [problem.kind for problem in case.problems(["t1", "t2"])] == ["ambiguous"]


def test_files_that_belong_to_no_case_are_listed_beside_the_nearest():
    files = ("X_t1.nii.gz", "X_t2.nii.gz", "X_DWI.nii.gz", "X_flair.dcm", "X.nii.gz", "notes.txt", "Y_t1.nii.gz")
    x, y = group_by_case("/d", {name: [f"/d/{name}"] for name in files})
    assert (x.unread, y.unread) == (["/d/X_DWI.nii.gz", "/d/X_flair.dcm"], [])


def test_composed_and_decomposed_names_are_one_case():
    (case,) = group("Mu\u0308ller_t1", "M\u00fcller_t2")
    assert (case.case_id, case.images) == ("M\u00fcller", {"t1", "t2"})


def test_identifiers_that_differ_in_capitals_are_one_case():
    (case,) = group("P1_t1", "p1_t1ce", "P1_T2", "p1_FLAIR", "p1_seg")
    assert (case.case_id, case.images) == ("P1", {"t1", "t1ce", "t2", "flair"})
    assert used(case)["seg"] == ["p1_seg"]


def test_identifiers_that_differ_in_capitals_are_two_cases_if_both_have_a_sequence():
    assert [case.case_id for case in group("P1_t1", "P1_t2", "p1_t1", "p1_flair")] == ["P1", "p1"]


def test_images_beside_a_lone_segmentation_are_listed():
    (case,) = group("P1_seg", "P1_T1_MPRAGE", "P1_scan")
    assert case.unread == ["/d/P1/P1_T1_MPRAGE.nii.gz", "/d/P1/P1_scan.nii.gz"]

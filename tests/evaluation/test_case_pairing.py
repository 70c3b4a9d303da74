"""Predictions and references paired although their names differ."""

from __future__ import annotations

import pytest

from brats3d.errors import DataError
from brats3d.evaluation.case_pairing import describe_renamed, has_case_id, pair_cases


def pair(preds: list[str], refs: list[str]) -> dict[str, str]:
    return pair_cases(preds, refs, "preds", "refs")


NAMES = ["{}_pred", "{}_Prediction", "{}_flair", "{}_t1c_seg_trans", "{}-pred", "pred_{}", "{}.seg", "{}_pred_Segm"]


@pytest.mark.parametrize("name", [*NAMES, "{}_0000", "{}_fused", "{}_fla_bet_pred"])
def test_words_around_an_identifier_are_ignored(name):
    refs = ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert pair([name.format(ref) for ref in refs], refs) == {ref: name.format(ref) for ref in refs}
    assert pair([name.format(ref).lower() for ref in refs], refs) == {ref: name.format(ref).lower() for ref in refs}


def test_words_around_the_identifiers_of_references_are_ignored():
    assert pair(["a_1", "a_2"], ["a_1_mask", "a_2_label"]) == {"a_1_mask": "a_1", "a_2_label": "a_2"}


def test_pairs_with_other_names_are_described():
    assert describe_renamed({"a": "a", "b": "b_pred"}) == "paired although their names differ: b_pred with b"
    assert describe_renamed({"a": "a"}) == ""


def test_equal_identifiers_go_first():
    assert pair(["a_1", "a_1_pred", "b_label"], ["a_1", "b_label"]) == {"a_1": "a_1", "b_label": "b_label"}


def test_numbers_and_other_words_are_not_ignored():
    assert pair(["case_0001_pred", "case_1", "x"], ["case_0001", "case_0002", "x_followup", "case_01", "x"]) == {
        "case_0001": "case_0001_pred",
        "x": "x",
    }


@pytest.mark.parametrize(("preds", "refs"), [(["a_pred", "a_seg"], ["a"]), (["a_pred"], ["A", "a"])])
def test_unclear_pairs_are_refused(preds, refs):
    with pytest.raises(DataError) as error:
        pair([*preds, "b"], [*refs, "b"])
    assert error.value.subject == "preds"
    assert all(name in error.value.problem for name in (*preds, *refs))


def test_folders_without_a_common_case_are_refused():
    with pytest.raises(DataError) as error:
        pair(["sub-01"], ["BraTS20_Training_001"])
    assert "sub-01" in error.value.problem and "BraTS20_Training_001" in error.value.problem


def test_an_ending_that_all_names_share_is_reported():
    with pytest.raises(DataError) as error:
        pair(["a_1_unet", "a_2_unet", "b_unet"], ["a_1", "a_2", "c"])
    assert "'_unet'" in error.value.advice


def test_a_name_of_words_only_has_no_identifier():
    assert [has_case_id(name) for name in ("pred", "flair_seg", "case_7", "7")] == [False, False, True, True]
